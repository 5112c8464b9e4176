"""`serve` under systemd's conventions, without systemd: secrets as files of $CREDENTIALS_DIRECTORY, logins minted by `pingee-gatekeeper logins`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.shown_demo import ROOT

SERVES = "instance production serves"


def gatekeeper(*arguments, credentials=None, **options):
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **({} if credentials is None else {"CREDENTIALS_DIRECTORY": str(credentials)})}
    return subprocess.Popen(
        [sys.executable, "-m", "gatekeeper.command", *map(str, arguments)],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def unit(demo, tmp_path):
    """Configuration and credentials of a further replica of the demo's production, as its unit would have them."""
    production, directory = demo.world.instance("production"), Path(demo.world.directory)
    folder = Path(production.log_file).parent
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    for name, source in (("database-url", production.database_url_file), ("tls.key", folder / "tls" / "tls.key"),
                         ("supervisor.token", directory / "operator" / "supervisor.token")):  # fmt: skip
        shutil.copyfile(source, credentials / name)
        (credentials / name).chmod(0o440)  # what an access control list for the unit's user looks like
    config = folder / f"{tmp_path.name}.toml"
    lines = (folder / "gatekeeper.toml").read_text().splitlines()
    lines = ["port = 0" if line.startswith("port = ") and number < 18 else line for number, line in enumerate(lines)]
    text = "\n".join(lines).replace('state = "state"', f'state = "{tmp_path}/state"').replace('"tls/tls.key"', '"$CREDENTIALS_DIRECTORY/tls.key"')
    text = text.replace(f'"{production.database_url_file}"', '"$CREDENTIALS_DIRECTORY/database-url"')
    config.write_text(text + "\n")
    assert text.count("$CREDENTIALS_DIRECTORY/") == 2
    yield config, credentials
    config.unlink()


def test_a_replica_starts_with_the_credentials_of_its_unit_and_no_login_works_twice(demo, unit, tmp_path):
    config, credentials = unit
    code, line, err = ended(gatekeeper("logins", "--config", config, credentials=credentials))
    assert (code, err) == (0, "")
    assert set(json.loads(line)) == {"log", "decide", "act"}
    (credentials / "logins").write_text(line)
    (credentials / "logins").chmod(0o440)
    process = gatekeeper("serve", "--config", config, credentials=credentials)
    try:
        told, until = "", time.monotonic() + 60
        while SERVES not in told and process.poll() is None and time.monotonic() < until:
            told += process.stderr.readline()
        assert SERVES in told, told
        secrets = [(credentials / name).read_text().strip() for name in ("database-url", "supervisor.token")]
        secrets += [login["token"] for login in json.loads(line).values()]
        process_files = [Path(f"/proc/{process.pid}/{name}").read_bytes().decode(errors="replace") for name in ("environ", "cmdline")]
        assert [secret for secret in secrets if any(secret in text for text in [told, *process_files])] == []
    finally:
        process.send_signal(signal.SIGTERM)
        code, _, rest = ended(process)
    assert code == 0, rest[-2000:]
    code, out, err = ended(gatekeeper("serve", "--config", config, credentials=credentials))
    assert (code, out) == (4, "")
    assert "secret-spent: the wrapped secret of production-log was used before or has expired" in err
    (credentials / "logins").chmod(0o600)
    (credentials / "logins").write_text("")
    code, out, err = ended(gatekeeper("serve", "--config", config, credentials=credentials))
    assert (code, err.count("\n")) == (4, 1)
    assert "no secrets on standard input, nor in a credential `logins`" in err
    assert demo.stage.pingee(demo.world.instance("production"), "log", "fsck").code == 0


def test_the_supervisor_renews_and_says_why_it_cannot(unit):
    config, credentials = unit
    assert ended(gatekeeper("logins", "--renew", "--config", config, credentials=credentials)) == (0, "", "")
    code, out, err = ended(gatekeeper("logins", "--config", config))
    assert (code, out) == (4, "")
    assert "no supervisor's token: name its file with --token-file" in err
    token = credentials / "supervisor.token"
    token.chmod(0o600)
    token.write_text("s.canary-of-a-dead-token\n")
    for arguments, words in (((), "the vault gives no login of the role production-log"), (("--renew",), "no longer accepts the supervisor's token")):
        code, out, err = ended(gatekeeper("logins", *arguments, "--config", config, credentials=credentials))
        assert (code, out) == (4, "")
        assert words in err
        assert "canary" not in err
    token.chmod(0o644)
    code, out, err = ended(gatekeeper("logins", "--config", config, credentials=credentials))
    assert (code, out) == (1, "")
    assert "others can read it" in err
