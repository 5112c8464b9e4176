"""`serve` under systemd's conventions, without systemd: secrets as files of $CREDENTIALS_DIRECTORY, logins minted by `pingee-gatekeeper logins`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
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
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def unit(demo, tmp_path):
    """A further replica of the demo's production from what `init` writes, filled in as its README says: configuration and credentials."""
    production, directory = demo.world.instance("production"), Path(demo.world.directory)
    folder = Path(production.log_file).parent
    known = tomllib.loads((folder / "gatekeeper.toml").read_text())
    target = known["targets"][production.target]
    code, _, err = ended(
        gatekeeper("init", tmp_path / "new", "--instance", "production", "--origin", production.origin, "--public-url", "https://127.0.0.1:9",
                   "--target", f"{production.target}=127.0.0.1:{target['port']}")
    )  # fmt: skip
    assert code == 0, err
    home = tmp_path / "new" / "gatekeeper"
    for source, name in (
        (folder / "log.vkey", "pins/production.vkey"), (folder / "receipt.pem", "pins/production-receipt.pem"), (folder / "tls" / "tls.pem", "pins/tls.pem"),
        (known["vault"]["ca_file"], "pins/vault-ca.pem"), (known["policy"]["signers"], "pins/allowed_signers"), (folder / "tls" / "tls.key", "credentials/tls.key"),
        (production.database_url_file, "credentials/database-url"), (directory / "operator" / "supervisor.token", "credentials/supervisor.token"),
    ):  # fmt: skip
        shutil.copyfile(source, home / name)
    credentials = home / "credentials"
    for file in credentials.iterdir():
        file.chmod(0o440)  # what an access control list for the unit's user looks like
    config = home / "gatekeeper.toml"
    refused = ended(gatekeeper("check-config", "--config", config, credentials=credentials))
    assert refused[0] == 1
    assert "/vault/url" in refused[2]
    text = config.read_text().replace("/var/lib/pingee-gatekeeper/production", str(tmp_path)).replace("port = 8443", "port = 0").replace("port = 8444", "port = 0")
    for key, value in (("url", known["vault"]["url"]), ("remote", known["policy"]["remote"]), ("root", known["policy"]["root"]),
                       ("host_keys", target["host_keys"]), ("source_address", "127.0.0.1")):  # fmt: skip
        text, times = re.subn(rf"^{key} = .*CHANGE-ME.*$", f"{key} = {json.dumps(value)}", text, flags=re.MULTILINE)
        assert times == 1
    config.write_text(text)
    return config, credentials


def test_what_init_wrote_passes_check_config_once_filled_in(unit):
    config, credentials = unit
    code, out, err = ended(gatekeeper("check-config", "--config", config, "-o", "json", credentials=credentials))
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["faults"] == []
    assert {(role["role"], role["group"]) for role in found["roles"]} >= {("O", "operators"), ("R", "reviewers")}
    assert [vote["people"] for vote in found["votes"]] == [["alice", "bob"]]
    assert any("alone signs the policy" in warning for warning in found["warnings"])


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
