"""`pingee-gatekeeper init`: what it writes is read by the commands that it names, once filled in; until then each says file, line and key."""

import configparser
import re
import shutil
import stat
import subprocess
import textwrap
import tomllib

import pytest

from gatekeeper import settings as settings_file
from gatekeeper.command import _example, main
from gatekeeper.exits import Failure
from gatekeeper.layout_file import BadLayout, read_layout
from gatekeeper.model.unfilled import unfilled
from gatekeeper.new_instance import NewInstance, NewTarget, parse_target, write_instance
from gatekeeper.policy.load import PolicyError, parse_policy
from gatekeeper.settings import BadSettings, read_settings, read_vault_place

NEW = NewInstance(
    "production", "production", "gate.example/log/2026", "https://gate.example", (NewTarget("web-1", "10.0.0.5", 22), NewTarget("web-2", "fe80::1", 2222)),
    "/opt/pingee/bin/pingee-gatekeeper",
)  # fmt: skip


@pytest.fixture
def written(tmp_path):
    write_instance(tmp_path / "new", NEW)
    return tmp_path / "new"


def fill(file, **values):
    """Every marked value replaced, by the key's own where one is given."""

    def one(match):
        return f"{match[1]}{values[match[2]]}" if match[2] in values else match[0].replace("CHANGE-ME: ", "").replace("CHANGE-ME", "filled")

    file.write_text(re.sub(r"^((\w+) = )(.*CHANGE-ME.*)$", one, file.read_text(), flags=re.MULTILINE))


def test_what_is_written_is_for_each_team_and_private_where_secrets_will_lie(written):
    found = sorted(str(p.relative_to(written)) for p in written.rglob("*") if p.is_file())
    assert found == [
        "README.md", "gatekeeper/gatekeeper.toml", "gatekeeper/operator-keys", "policy/builders.toml", "policy/components/hello.toml", "policy/config/production/hello.toml",
        "policy/environments/production.toml", "policy/issuers.toml", "policy/people.toml", "policy/policy.toml", "policy/projects/hello.toml",
        "policy/roles.toml", "systemd/pingee-gatekeeper-production-logins.socket", "systemd/pingee-gatekeeper-production-logins@.service",
        "systemd/pingee-gatekeeper-production-migrate.service", "systemd/pingee-gatekeeper-production-renew.service",
        "systemd/pingee-gatekeeper-production-renew.timer", "systemd/pingee-gatekeeper-production.service",
        "targets/web-1/install.sh", "targets/web-2/install.sh", "vault/LAYOUT.toml",
    ]  # fmt: skip
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in written.rglob("*")}
    assert [p for p, mode in modes.items() if p.is_file() and mode != (0o755 if p.suffix == ".sh" else 0o644)] == []
    assert {p.name for p, mode in modes.items() if p.is_dir() and mode == 0o700} == {"credentials", "passwords"}
    assert "@{" not in "".join(p.read_text() for p in written.rglob("*") if p.is_file())


def test_the_configuration_explains_every_setting_and_is_read_once_filled(written, monkeypatch):
    file = written / "gatekeeper" / "gatekeeper.toml"
    with pytest.raises(BadSettings) as caught:
        read_settings(file)
    said = str(caught.value)
    places = unfilled(tomllib.loads(file.read_text()), file.read_text())
    assert {place.pointer for place in places} >= {"/vault/url", "/policy/remote", "/policy/root", "/targets/web-1/host_keys", "/targets/web-2/source_address"}
    lines = file.read_text().splitlines()
    for place in places:
        assert place.pointer.rpartition("/")[2] in lines[place.line - 1].partition("=")[0]
        assert f"line {place.line} {place.pointer}" in said
    fill(file, root=f'"{"0" * 40}"', url='"https://vault.example:8200"', host_keys='["ssh-ed25519 AAAA"]')
    credentials = written / "gatekeeper" / "credentials"
    (credentials / "database-url").write_text("postgresql://gate@db/gate\n")
    (credentials / "database-url").chmod(0o600)
    with pytest.raises(BadSettings, match=r"gatekeeper\.toml: /public/key: is a credential, and CREDENTIALS_DIRECTORY is not set: start it by its unit"):
        read_settings(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    for name in ("production.vkey", "production-receipt.pem"):
        with pytest.raises(BadSettings, match=rf"gatekeeper\.toml: /vault/\w+_key: names .*/pins/{name}, which is not there: the bootstrap"):
            read_settings(file)
        (written / "gatekeeper" / "pins" / name).write_text("x\n")
    settings = read_settings(file)
    assert (settings.instance, settings.origin, settings.public_url) == ("production", "gate.example/log/2026", "https://gate.example")
    assert (settings.database_url, settings.public.key) == ("postgresql://gate@db/gate", credentials / "tls.key")
    assert {n: (t.address.host, t.address.port, t.address.user) for n, t in settings.targets.items()} == {
        "web-1": ("10.0.0.5", 22, "deploy-production"), "web-2": ("fe80::1", 2222, "deploy-production"),
    }  # fmt: skip
    # Every setting that there is stands in it, with a comment of its own or of its table.
    names = re.findall(r"^(\w+) =", textwrap.dedent(_example(settings_file.__doc__)), re.MULTILINE)
    assert len(names) > 25
    assert set(names) <= set(re.findall(r"^(?:# )?(\w+) =", file.read_text(), re.MULTILINE))
    assert settings.operator.host == "127.0.0.1"
    assert read_vault_place(file).url == "https://vault.example:8200"


def test_the_vaults_layout_is_read_once_filled(written):
    file = written / "vault" / "LAYOUT.toml"
    with pytest.raises(BadLayout, match=r"LAYOUT\.toml: line 5 /people_issuer, line \d+ /platform/issuer, .*: still CHANGE-ME"):
        read_layout(file)
    fill(file)
    (written / "vault" / "ci.pem").write_text("pem")
    for name in ("alice", "bob", "olga"):
        (written / "vault" / "passwords" / name).write_text("a long enough password\n")
        (written / "vault" / "passwords" / name).chmod(0o600)
    layout = read_layout(file)
    (instance,) = layout.instances
    assert (instance.name, instance.origin, instance.environments) == ("production", "gate.example/log/2026", ("production",))
    assert [(t.name, t.principal, t.environment) for t in instance.targets] == [
        ("web-1", "deploy-production", "production"), ("web-2", "deploy-production", "production"),
    ]  # fmt: skip


def test_the_policy_skeleton_is_refused_until_it_is_filled(written):
    folder = written / "policy"

    def load():
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return parse_policy(files | {"ci.jwks.json": b"{}", "people.jwks.json": b"{}", "builder-ca.pem": b"x"}, commit="0" * 40)

    with pytest.raises(PolicyError, match=r"line \d+ /people/alice/subject.*still CHANGE-ME") as caught:
        load()
    assert (caught.value.code, caught.value.file) == ("config-invalid", "people.toml")
    for file in folder.rglob("*.toml"):
        text = file.read_text()
        for number in range(text.count("CHANGE-ME: ")):
            text = text.replace("CHANGE-ME: ", f"{number}-", 1)
        text = re.sub(r'keys = \["[^"]*"\]', "keys = []", text).replace("CHANGE-ME", "filled")
        file.write_text(text.replace("5-builder id", "0-builder id"))
    (folder / "components" / "hello.toml").write_text(re.sub(r'builder = ".*"', 'builder = "0-builder id"', (folder / "components" / "hello.toml").read_text()))
    policy = load()
    assert (policy.instance, list(policy.environments), policy.components["hello"].targets) == ("production", ["production"], {"production": ("web-1",)})


def directives(unit):
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(unit.read_text())
    return parser


def test_the_units_are_confined_and_hand_over_secrets_as_credentials(written):
    units = {unit.name.removeprefix("pingee-gatekeeper-production"): directives(unit) for unit in (written / "systemd").iterdir()}
    for name in (".service", "-migrate.service", "-logins@.service", "-renew.service"):
        service = units[name]["Service"]
        assert {key: service[key] for key in HARDENED} == HARDENED, name
        assert re.fullmatch(r"\d+[MG]", service["MemoryMax"])
        assert int(service["TasksMax"]) > 0
        assert service["ExecStart"].startswith("/opt/pingee/bin/pingee-gatekeeper ")
    loaded = re.findall(r"^LoadCredential=(.*)$", (written / "systemd" / "pingee-gatekeeper-production.service").read_text(), re.MULTILINE)
    socket = units["-logins.socket"]["Socket"]
    assert loaded == [
        f"logins:{socket['ListenStream']}",
        "database-url:/etc/pingee-gatekeeper/production/credentials/database-url",
        "tls.key:/etc/pingee-gatekeeper/production/credentials/tls.key",
    ]
    assert (socket["SocketMode"], socket["SocketUser"], socket["Accept"]) == ("0600", "root", "yes")
    assert units["-logins@.service"]["Service"]["StandardOutput"] == "socket"
    text = (written / "systemd" / "pingee-gatekeeper-production.service").read_text()
    assert "supervisor" not in text
    assert "Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1\n" in text


HARDENED = {
    "DynamicUser": "yes", "UMask": "0077", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "PrivateDevices": "yes", "ProtectKernelTunables": "yes", "ProtectProc": "invisible", "CapabilityBoundingSet": "",
    "RestrictNamespaces": "yes", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "SystemCallFilter": "@system-service", "LimitCORE": "0",
    "MemorySwapMax": "0",
}  # fmt: skip


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_takes_every_unit(tmp_path):
    program = tmp_path / "pingee-gatekeeper"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    write_instance(tmp_path / "new", NewInstance(NEW.instance, NEW.environment, NEW.origin, NEW.public_url, NEW.targets, str(program)))
    units = sorted(map(str, (tmp_path / "new" / "systemd").iterdir()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_install_script_is_a_script_and_names_the_flags_that_exist(written):
    script = written / "targets" / "web-1" / "install.sh"
    assert subprocess.run(["sh", "-n", script], check=False, timeout=10).returncode == 0
    from clients.doorkeeper.cli import _parser

    flags = re.findall(r"--[a-z-]+", script.read_text().partition("pingee-doorkeeper install \\")[0] + script.read_text().partition("pingee-doorkeeper install --target")[2].partition("\ninstall ")[0])
    known = {option for action in _parser()._subparsers._group_actions[0].choices["install"]._actions for option in action.option_strings}
    assert {"--component", "--log-policy", "--receipt-keys", "--instance"} <= set(flags)
    assert {flag for flag in flags if flag not in ("--system", "--no-create-home", "--home-dir", "--shell")} <= known


def test_nothing_is_overwritten_and_nothing_is_left_half_done(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(Failure, match="is there and not empty: nothing is overwritten"):
        write_instance(tmp_path / "full", NEW)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    write_instance(tmp_path / "empty", NEW)
    assert (tmp_path / "empty" / "README.md").is_file()
    monkeypatch.setattr("gatekeeper.new_instance._write", lambda path, text: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_instance(tmp_path / "cut", NEW)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full"]


@pytest.mark.parametrize("text", ["web-1", "web-1=10.0.0.5", "=10.0.0.5:22", "Web=10.0.0.5:22", "web=10.0.0.5:0", "web=10.0.0.5:70000", 'web=a"b:22', "web=a b:22"])
def test_a_target_is_a_name_a_host_and_a_port(text):
    with pytest.raises(Failure, match="--target"):
        parse_target(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--instance", "Prod uction"], "--instance"),
        (["--origin", "https://x/log"], "--origin"),
        (["--public-url", "http://x"], "--public-url"),
        (["--public-url", 'https://x"\nport = 1'], "--public-url"),
        (["--command", "pingee-gatekeeper"], "--command"),
        (["--target", "a=h:1", "--target", "a=h:2"], "one name"),
    ],
)
def test_what_would_break_a_file_is_refused_in_one_sentence(tmp_path, capsys, arguments, words):
    assert main(["init", str(tmp_path / "new"), *arguments]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_another_environment_gets_files_of_its_own_name(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new"), "--instance", "stage", "--environment", "staging"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/new/policy/environments/staging.toml" in listed
    assert f"{tmp_path}/new/systemd/pingee-gatekeeper-stage.service" in listed
    file = tmp_path / "new" / "gatekeeper" / "gatekeeper.toml"
    assert main(["check-config", "--config", str(file)]) == 1
    assert re.search(r"gatekeeper\.toml: line \d+ /origin, line \d+ /public_url, .*still CHANGE-ME", capsys.readouterr().err)
