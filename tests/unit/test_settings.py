"""The configuration file: read strictly, paths relative to it, errors that name file and key and never a value."""

from __future__ import annotations

import pytest

from gatekeeper.api.admission import Bounds
from gatekeeper.model.digest import digest_of
from gatekeeper.ports.registry import RegistryAddress
from gatekeeper.ports.tokenreview import ClusterAddress
from gatekeeper.serve import _bounds
from gatekeeper.settings import BadSettings, credential, parse_wrapped, read_settings, read_vault_place
from gatekeeper.tlog.logpolicy import encode_log_policy
from tests.fakes import log_directory
from tests.fakes.orders import People
from tests.fakes.witnesses import FakeWitness, policy_of

GOOD = """
instance = "production"
origin = "production.example/log/2026"
public_url = "https://gatekeeper.example/"
state = "state"
[public]
host = "127.0.0.1"
port = 8443
certificate = "tls.pem"
key = "tls.key"
[operator]
host = "127.0.0.1"
port = 0
[database]
url_file = "database.url"
[vault]
url = "https://127.0.0.1:8200"
ca_file = "/etc/vault-ca.pem"
log_key = "log.vkey"
receipt_key = "receipt.pem"
key_version = 1
[policy]
remote = "https://git.example/policy.git"
branch = "production"
root = "0123456789012345678901234567890123456789"
signers = "allowed_signers"
refresh_s = 10
[artifacts]
directory = "artifacts"
max_blob = 536870912
[targets.web-1]
environment = "production"
host = "10.0.0.5"
port = 22
user = "deploy-production"
host_keys = ["ssh-ed25519 AAAA"]
source_address = "10.0.0.2"
"""
URL = "postgresql://gate:hunter2@127.0.0.1/gate"


@pytest.fixture
def house(tmp_path):
    (tmp_path / "database.url").write_text(URL + "\n")
    (tmp_path / "database.url").chmod(0o600)
    (tmp_path / "log.vkey").write_text("origin+0123abcd+AAAA\n")
    (tmp_path / "receipt.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    return tmp_path


def read(house, text: str = GOOD):
    file = house / "gatekeeper.toml"
    file.write_text(text)
    return read_settings(file)


def test_everything_is_read_and_paths_are_relative_to_the_file(house):
    settings = read(house)
    assert (settings.instance, settings.origin, settings.public_url) == ("production", "production.example/log/2026", "https://gatekeeper.example")
    assert (settings.state, settings.artifacts, settings.max_blob) == (house / "state", house / "artifacts", 512 * 1024 * 1024)
    assert (settings.public.port, settings.public.certificate, settings.public.key) == (8443, house / "tls.pem", house / "tls.key")
    assert (settings.operator.port, settings.operator.certificate) == (0, None)
    assert settings.database_url == URL
    assert str(settings.vault.ca_file) == "/etc/vault-ca.pem"
    assert (settings.vault.log_vkey, settings.vault.receipt_key) == ("origin+0123abcd+AAAA", b"-----BEGIN PUBLIC KEY-----\n")
    target = settings.targets["web-1"]
    assert (target.address.host, target.address.port, target.address.user, target.address.host_keys) == (
        "10.0.0.5",
        22,
        "deploy-production",
        ("ssh-ed25519 AAAA",),
    )
    assert (target.environment, target.source_address) == ("production", "10.0.0.2")


@pytest.mark.parametrize("table", ["", "[public]", "[operator]", "[database]", "[vault]", "[policy]", "[artifacts]", "[targets.web-1]"])
def test_an_unknown_key_is_refused_by_name_wherever_it_stands(house, table):
    text = GOOD.replace(table, f"{table}\nsurprise = 'hunter2'", 1) if table else f"surprise = 'hunter2'\n{GOOD}"
    with pytest.raises(BadSettings, match=r"gatekeeper\.toml: .*surprise.* is not a member") as caught:
        read(house, text)
    assert "hunter2" not in str(caught.value)


def test_keys_before_and_after_are_pinned_by_files_and_may_be_left_out(house):
    plain = read(house, GOOD).vault
    assert (plain.key_version, plain.log_key_order, plain.receipt_key_order, plain.past_log_vkeys, plain.past_receipt_keys) == (1, None, None, (), ())
    (house / "rotate.order").write_text("signed by two")
    (house / "old.vkey").write_text("origin+4567cdef+BBBB\n")
    more = 'log_key_order = "rotate.order"\nreceipt_key_order = "rotate.order"\npast_log_keys = ["old.vkey"]\npast_receipt_keys = ["old.vkey"]\n'
    found = read(house, GOOD.replace("key_version = 1\n", more)).vault
    assert (found.key_version, found.log_key_order, found.receipt_key_order) == (None, b"signed by two", b"signed by two")
    assert (found.past_log_vkeys, found.past_receipt_keys) == (("origin+4567cdef+BBBB",), (b"origin+4567cdef+BBBB\n",))
    with pytest.raises(BadSettings, match=r"gatekeeper\.toml: /vault/past_log_keys/0: names .*/gone, which is not there"):
        read(house, GOOD.replace("key_version = 1", 'past_log_keys = ["gone"]'))


@pytest.mark.parametrize("line", [line for line in GOOD.splitlines() if "=" in line and "key_version" not in line])
def test_a_missing_key_is_refused_by_name(house, line):
    with pytest.raises(BadSettings, match=f"/{line.split(' ')[0]}: is missing"):
        read(house, GOOD.replace(line + "\n", "", 1))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("port = 8443", "port = 65536", "/public/port"),
        ("port = 8443", 'port = "8443"', "/public/port"),
        ("port = 22", "port = 0", "/targets/web-1/port"),
        ("refresh_s = 10", "refresh_s = 0", "/policy/refresh_s"),
        ('root = "0123456789', 'root = "', "/policy/root"),
        ("max_blob = 536870912", "max_blob = 0", "/artifacts/max_blob"),
        ('instance = "production"', 'instance = "Production"', "/instance"),
        ('["ssh-ed25519 AAAA"]', "[]", "/targets/web-1/host_keys"),
        ('state = "state"', 'state = "state"\nallow_s = 9', "/allow_s: must lie between 10 and 3600"),
        ('state = "state"', 'state = "state"\nallow_s = 0', "/allow_s"),
        ('state = "state"', 'state = "state"\nallow_s = 3601', "/allow_s"),
        ('state = "state"', 'state = "state"\nallow_s = "600"', "/allow_s"),
    ],
)
def test_values_out_of_bounds_are_refused_by_key(house, old, new, key):
    with pytest.raises(BadSettings, match=key):
        read(house, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(("line", "seconds"), [("", 600), ("allow_s = 10", 10), ("allow_s = 3600", 3600)])
def test_how_long_an_allow_lives_is_ten_minutes_unless_it_is_said(house, line, seconds):
    assert read(house, GOOD.replace('state = "state"', f'state = "state"\n{line}')).allow_s == seconds


def test_a_key_twice_does_not_parse(house):
    with pytest.raises(BadSettings, match=r"gatekeeper\.toml"):
        read(house, 'instance = "test"\n' + GOOD)


def test_a_database_url_that_others_can_read_is_refused_without_being_shown(house):
    (house / "database.url").chmod(0o640)
    with pytest.raises(BadSettings, match="others can read it") as caught:
        read(house)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["database.url", "log.vkey", "receipt.pem"])
def test_a_file_that_is_missing_is_named(house, name):
    (house / name).unlink()
    with pytest.raises(BadSettings, match=rf"gatekeeper\.toml: /(database/url_file|vault/log_key|vault/receipt_key): names .*/{name}, which is not there: "):
        read(house)


def test_a_missing_configuration_is_one_sentence(house):
    with pytest.raises(BadSettings, match=r"none\.toml: No such file"):
        read_settings(house / "none.toml")


def test_wrapped_logins_are_three_and_nothing_else():
    line = b'{"log":{"role_id":"l","token":"t1"},"decide":{"role_id":"d","token":"t2"},"act":{"role_id":"a","token":"t3"}}'
    wrapped = parse_wrapped(line)
    assert {name: (login.role_id, login.token) for name, login in wrapped.items()} == {"log": ("l", "t1"), "decide": ("d", "t2"), "act": ("a", "t3")}
    for bad in (b"", b"{}", line[:-1] + b',"root":{}}', line.replace(b'"act"', b'"acts"'), line + b"x"):
        with pytest.raises(BadSettings, match="standard input") as caught:
            parse_wrapped(bad)
        assert "t1" not in str(caught.value)


def test_how_many_connections_one_address_may_have(house):
    assert read(house).public.connections_per_address is None
    file = GOOD.replace('key = "tls.key"\n', 'key = "tls.key"\nconnections_per_address = 5000\n')
    assert read(house, file).public.connections_per_address == 5000
    assert _bounds(read(house, file)) == Bounds(5000, 5000)
    assert _bounds(read(house)) == Bounds()
    with pytest.raises(BadSettings, match="connections_per_address"):
        read(house, file.replace("5000", "0"))


@pytest.fixture
def credentials(house, monkeypatch):
    """The directory of a unit's credentials, and a configuration that names two of them."""
    directory = house / "credentials"
    directory.mkdir()
    (directory / "database-url").write_text(URL + "\n")
    (directory / "database-url").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


CREDENTIAL = GOOD.replace('"database.url"', '"$CREDENTIALS_DIRECTORY/database-url"').replace('"tls.key"', '"$CREDENTIALS_DIRECTORY/tls.key"')


def test_a_credential_is_a_file_of_the_units_own_directory(house, credentials):
    settings = read(house, CREDENTIAL)
    assert (settings.database_url, settings.public.key) == (URL, credentials / "tls.key")
    assert credential("database-url") == credentials / "database-url"
    assert credential("logins") is None


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o450])
def test_a_credential_that_others_can_read_or_write_is_refused(house, credentials, mode):
    (credentials / "database-url").chmod(mode)
    with pytest.raises(BadSettings, match="others can read it") as caught:
        read(house, CREDENTIAL)
    assert "hunter2" not in str(caught.value)


def test_elsewhere_a_group_that_reads_is_one_too_many(house, credentials):
    (house / "database.url").chmod(0o440)
    with pytest.raises(BadSettings, match="others can read it"):
        read(house)


def test_a_credential_without_a_unit_is_said_so(house, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(BadSettings, match=r"/public/key: is a credential, and CREDENTIALS_DIRECTORY is not set"):
        read(house, CREDENTIAL)
    assert credential("logins") is None


def test_what_was_never_filled_in_is_refused_with_its_lines_all_at_once(house):
    text = GOOD.replace('"https://127.0.0.1:8200"', '"CHANGE-ME"').replace('["ssh-ed25519 AAAA"]', '["ssh-ed25519 AAAA", "CHANGE-ME"]')
    lines = text.splitlines()
    vault, keys = (next(n for n, line in enumerate(lines, 1) if line.startswith(start) and "CHANGE-ME" in line) for start in ("url =", "host_keys ="))
    with pytest.raises(BadSettings, match=rf"gatekeeper\.toml: line {vault} /vault/url, line {keys} /targets/web-1/host_keys: still CHANGE-ME"):
        read(house, text)
    assert read(house, "# CHANGE-ME in a comment is nothing\n" + GOOD)


def test_a_supervisor_reads_no_more_than_where_the_vault_is(house):
    (house / "database.url").unlink()
    file = house / "gatekeeper.toml"
    file.write_text(GOOD)
    place = read_vault_place(file)
    assert (place.instance, place.url, str(place.ca_file)) == ("production", "https://127.0.0.1:8200", "/etc/vault-ca.pem")


def test_the_logs_administrators_are_pinned_by_file_and_nobody_without_one(house):
    people = People()
    (house / "gatekeeper.toml").write_text(GOOD)
    assert read_settings(house / "gatekeeper.toml").operator_keys == {}
    (house / "operator-keys").write_bytes(people.file)
    (house / "gatekeeper.toml").write_text(GOOD + '[operators]\nkeys = "operator-keys"\n')
    assert read_settings(house / "gatekeeper.toml").operator_keys == people.keys
    (house / "operator-keys").write_text("olga\n")
    with pytest.raises(BadSettings, match="operator-keys: line 1 is not NAME ed25519 BASE64"):
        read_settings(house / "gatekeeper.toml")
    (house / "operator-keys").unlink()
    with pytest.raises(BadSettings, match="operator-keys: No such file"):
        read_settings(house / "gatekeeper.toml")


W1, W2 = FakeWitness("a"), FakeWitness("b")
WITNESSES = GOOD + '[witnesses]\npolicy = "witnesses.policy"\n'


@pytest.fixture
def witnessed(house):
    """A house with a policy file of two witnesses."""
    (house / "witnesses.policy").write_bytes(b"# ours\n" + encode_log_policy(policy_of(log_directory.VKEY, W1, W2)))
    return house


def test_without_the_table_no_witness_is_asked(house):
    assert read(house).witnesses is None


def test_witnesses_are_read_from_the_file_that_verifiers_are_given(witnessed):
    (witnessed / "an.order").write_text("{}")
    found = read(witnessed, WITNESSES).witnesses
    assert [(w.name, w.url) for w in found.policy.witnesses] == [("a", W1.url), ("b", W2.url)]
    assert found.digest == digest_of((witnessed / "witnesses.policy").read_bytes()), "as people see it: sha256sum"
    assert (found.ca_file, found.fail_open, found.order) == (None, False, None)
    found = read(witnessed, WITNESSES + 'ca_file = "ca.pem"\nfail_open = true\norder = "an.order"\n').witnesses
    assert (found.ca_file, found.fail_open, found.order) == (witnessed / "ca.pem", True, b"{}")
    assert "{}" not in repr(found)


@pytest.mark.parametrize(
    ("more", "policy", "words"),
    [
        ("fail_open = true\n", None, "/witnesses/fail_open: needs the order of two operators"),
        ("fail_open = 1\n", None, "/witnesses/fail_open"),
        ("surprise = 1\n", None, "/witnesses/surprise"),
        ("", b"quorum none\n", "/witnesses/policy: one log line"),
        ("", lambda text: text.replace(b"https://b.example", b"http://b.example"), "/witnesses/policy: gives the witness b no https:// URL"),
        ("", lambda text: text.replace(b" https://b.example", b""), "/witnesses/policy: gives the witness b no https:// URL"),
    ],
)
def test_witnesses_that_cannot_be_asked_or_may_not_be_done_without_are_refused_by_key(witnessed, more, policy, words):
    file = witnessed / "witnesses.policy"
    if policy is not None:
        file.write_bytes(policy if isinstance(policy, bytes) else policy(file.read_bytes()))
    with pytest.raises(BadSettings, match=words):
        read(witnessed, WITNESSES + more)


REGISTRY = """registry = "https://r.example:5000"
repository = "team/app"
username_file = "registry.user"
password_file = "registry.password"
ca_file = "registry-ca.pem"
token_hosts = ["auth.example"]"""


@pytest.fixture
def registry_house(house):
    for name, text in (("registry.user", "gate"), ("registry.password", "hunter2")):
        (house / name).write_text(text + "\n")
        (house / name).chmod(0o600)
    return house


def with_registry(old: str = "", new: str = "") -> str:
    return GOOD.replace('directory = "artifacts"', REGISTRY.replace(old, new, 1) if old else REGISTRY)


def test_a_registry_stands_in_place_of_the_directory(registry_house):
    settings = read(registry_house, with_registry())
    assert settings.artifacts == RegistryAddress(
        "https://r.example:5000", "team/app", registry_house / "registry-ca.pem", username="gate", password="hunter2", token_hosts=("auth.example",)
    )
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("registry = ", 'directory = "artifacts"\nregistry = ', "/artifacts/registry: stands beside `directory`"),
        ('username_file = "registry.user"\n', "", "/artifacts/password_file: and `username_file` belong together"),
        ('repository = "team/app"\n', "", "/artifacts/repository: is missing"),
        ('"team/app"', '"Team/App"', "/artifacts/registry: repository must be a name"),
        ('"team/app"', '"../app"', "/artifacts/registry: repository must be a name"),
        ("https://r.example:5000", "http://r.example:5000", "/artifacts/registry: must be an https URL"),
        ("https://r.example:5000", "https://r.example/v2", "/artifacts/registry: url must be an https origin"),
        ("https://r.example:5000", "https://user@r.example", "/artifacts/registry: url must be an https origin"),
        ("https://r.example:5000", "https://r.example:99999", "/artifacts/registry: url must be an https origin"),
        ('"auth.example"', '"https://auth.example"', "https://auth.example is not HOST or HOST:PORT"),
        ('"auth.example"', '"*.example"', "is not HOST or HOST:PORT"),
        ("registry.password", "absent", "/artifacts/password_file: names "),
    ],
)
def test_what_does_not_fit_a_registry_is_refused_by_name(registry_house, old, new, words):
    with pytest.raises(BadSettings) as caught:
        read(registry_house, with_registry(old, new))
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_registrys_password_that_others_can_read_is_refused(registry_house):
    (registry_house / "registry.password").chmod(0o644)
    with pytest.raises(BadSettings, match="others can read it"):
        read(registry_house, with_registry())


@pytest.mark.parametrize("name", ["registry.user", "registry.password"])
def test_empty_credentials_are_no_credentials(registry_house, name):
    (registry_house / name).write_text("\n")
    with pytest.raises(BadSettings, match="must not be empty"):
        read(registry_house, with_registry())


def test_the_authorities_of_issuers_key_places_are_read(house):
    assert read(house).issuer_ca_file is None
    assert read(house, GOOD + '\n[issuers]\nca_file = "issuers.pem"\n').issuer_ca_file == house / "issuers.pem"
    with pytest.raises(BadSettings, match="/issuers/url: is not a member"):
        read(house, GOOD + '\n[issuers]\nca_file = "issuers.pem"\nurl = "x"\n')


CLUSTER = '\n[clusters.ci-cluster]\nurl = "https://10.0.0.9:6443/"\nca_file = "cluster.pem"\ntoken_file = "cluster.token"\n'


def test_clusters_that_review_tokens_are_read_and_their_credential_is_private(house):
    with pytest.raises(BadSettings, match=r"/clusters/ci-cluster/token_file: names .*cluster.token, which is not there"):
        read(house, GOOD + CLUSTER)
    (house / "cluster.token").write_text("credential")
    (house / "cluster.token").chmod(0o644)
    with pytest.raises(BadSettings, match="others can read it"):
        read(house, GOOD + CLUSTER)
    (house / "cluster.token").chmod(0o600)
    found = read(house, GOOD + CLUSTER)
    assert found.clusters == {"ci-cluster": ClusterAddress("https://10.0.0.9:6443", house / "cluster.pem", house / "cluster.token")}
    assert "credential" not in repr(found)
    assert read(house, GOOD).clusters == {}
    with pytest.raises(BadSettings, match="/clusters/ci-cluster/url: must be an https URL"):
        read(house, GOOD + CLUSTER.replace("https", "http"))
    with pytest.raises(BadSettings, match="/clusters/ci-cluster/audience: is not a member"):
        read(house, GOOD + CLUSTER + 'audience = "x"\n')
