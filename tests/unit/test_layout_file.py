"""LAYOUT.toml: read strictly into a `Layout`; secrets come from private files, and no error shows one. The root token's line likewise."""

import pytest

from gatekeeper.exits import Exit, Failure
from gatekeeper.layout_file import BadLayout, read_layout
from gatekeeper.vault_setup import parse_root
from tests.fakes.layout_text import GOOD

SECOND = """
[instances.second]
origin = "production.example/log/2026"
environments = []
"""
PASSWORD, SETTING = "canary-password", "canary-setting"


@pytest.fixture
def house(tmp_path):
    (tmp_path / "ci.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    for name, text in (("alice.password", PASSWORD + "\n"), ("hello.toml", f'GREETING = "{SETTING}"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def read(house, text=GOOD):
    (house / "LAYOUT.toml").write_text(text)
    return read_layout(house / "LAYOUT.toml")


def test_everything_is_read(house):
    layout = read(house)
    (instance,) = layout.instances
    assert (instance.name, instance.origin, instance.environments) == ("production", "production.example/log/2026", ("production",))
    assert [(t.name, t.environment, t.principal, t.source_address) for t in instance.targets] == [
        ("web-1", "production", "deploy-production", "10.0.0.2")
    ]
    assert [(s.environment, s.component, dict(s.values)) for s in instance.settings] == [("production", "hello", {"GREETING": SETTING})]
    assert [(p.name, p.email, p.groups, p.password) for p in layout.people] == [("alice", "alice@example.com", ("developers",), PASSWORD)]
    assert layout.platform.public_keys_pem == ("-----BEGIN PUBLIC KEY-----\n",)
    assert layout.platform.algorithms == ("ES256",)
    assert [(b.builder_id, b.projects) for b in layout.builders] == [("https://ci.example/builder", ("hello",))]
    assert PASSWORD not in repr(layout)
    assert SETTING not in repr(layout)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('email = "alice@example.com"', 'email = "alice@example.com"\npassword = "x"', "/people/0/password: is not a member"),
        ('issuer = "https://ci.example"', 'issuer = "https://ci.example"\nkey = 1', "/platform/key: is not a member"),
        ("people_issuer", "unknown = 1\npeople_issuer", "/unknown: is not a member"),
        ('source_address = "10.0.0.2"', 'source_address = "10.0.0.2"\nport = 22', "/instances/production/targets/web-1/port: is not a member"),
        ('people_issuer = "https', 'people_issuer = "http', "/people_issuer: must be an https URL"),
        ('name = "alice"', 'name = "Alice"', "/people/0/name: is not a name"),
        ('environment = "production"\nprincipal', 'environment = "other"\nprincipal', "names an environment"),
        ('audiences = ["pingee:certificates:production"]', "audiences = []", "empty means no"),
        ("[instances.production.targets.web-1]", SECOND + "[instances.production.targets.web-1]", "two instances have one origin"),
        ('password_file = "alice.password"', 'password_file = "none"', "none: No such file"),
        ('public_key_files = ["ci.pem"]', 'public_key_files = ["none.pem"]', r"none\.pem: No such file"),
        ("[platform]", "[platform", r"LAYOUT\.toml"),
    ],
)
def test_what_is_wrong_is_named(house, old, new, words):
    assert GOOD.count(old) == 1
    with pytest.raises(BadLayout, match=words) as caught:
        read(house, GOOD.replace(old, new))
    assert "\n" not in str(caught.value)


def test_no_instance_is_no_layout(house):
    with pytest.raises(BadLayout, match="names no instance"):
        read(house, GOOD.split("[instances.production]")[0] + "[instances]\n")


@pytest.mark.parametrize("name", ["alice.password", "hello.toml"])
def test_a_secret_that_others_can_read_is_refused(house, name):
    (house / name).chmod(0o640)
    with pytest.raises(BadLayout, match=f"{name}: others can read it"):
        read(house)


@pytest.mark.parametrize("text", [f'GREETING = "{SETTING}', f'GREETING = ["{SETTING}"]', f'GREETING = "{SETTING}\\u0000"'])
def test_broken_settings_are_refused_without_being_shown(house, text):
    (house / "hello.toml").write_text(text)
    with pytest.raises(BadLayout, match=r"hello\.toml") as caught:
        read(house)
    assert SETTING not in str(caught.value)


def test_an_empty_password_is_none(house):
    (house / "alice.password").write_text("\n")
    with pytest.raises(BadLayout, match="holds no password"):
        read(house)


def test_the_root_token_is_a_line_or_an_object():
    assert (parse_root("s.0123456789").root_token, parse_root("s.0123456789").recovery_key) == ("s.0123456789", None)
    both = parse_root('{"root_token": "s.0123456789", "recovery_key": "r"}')
    assert (both.root_token, both.recovery_key) == ("s.0123456789", "r")
    for bad in ("s.canary two", "short", '{"root_token": 7}', '{"root_token": "s.canary", "more": 1}', '{"root_token": "s.canary"'):
        with pytest.raises(Failure) as caught:
            parse_root(bad)
        assert caught.value.exit_code is Exit.USAGE
        assert "canary" not in str(caught.value)
