"""Decision rules P12: secrets in what is to be deployed. Private keys are found before the decision, the vault's values before the first byte."""

import json
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.deploy import secret_scan
from gatekeeper.deploy.secret_scan import secret_in_parts
from gatekeeper.model.decision import Result, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.frame import PartName
from gatekeeper.model.ping import State
from gatekeeper.model.privatekey import holds_private_key
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.decide import decide
from gatekeeper.policy.load import parse_configuration
from gatekeeper.ports.target import Part
from tests.fakes.cases import POLICY_COMMIT, good_case, rollback_case
from tests.fakes.frames import make_layer
from tests.fakes.house import NEW_COMMIT, House, _verify_inline, anyio_backend, configuration_text  # noqa: F401

LINE = b"MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
KEY = b"-----BEGIN PRIVATE KEY-----\n" + LINE + b"\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def house():
    return House()


# the detector


@pytest.mark.parametrize(
    "data",
    [
        KEY,
        KEY.replace(b"\n", b"\r\n"),
        KEY.replace(b" PRIVATE", b" RSA PRIVATE"),
        KEY.replace(b" PRIVATE", b" EC PRIVATE"),
        KEY.replace(b" PRIVATE", b" OPENSSH PRIVATE"),
        KEY.replace(b" PRIVATE", b" ENCRYPTED PRIVATE"),
        KEY.replace(b"KEY-----\nMC", b"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMC"),
        json.dumps({"private_key": KEY.decode()}).encode(),
        b"x" * 5000 + KEY,
    ],
    ids=["pkcs8", "crlf", "rsa", "ec", "openssh", "encrypted", "pem-headers", "json", "deep"],
)
def test_a_private_key_is_found(data):
    assert holds_private_key([data])
    assert holds_private_key([data[n : n + 1] for n in range(len(data))]), "piece by piece too"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----",  # what every program that reads keys carries in itself
        b"-----BEGIN OPENSSH PRIVATE KEY-----\0-----END OPENSSH PRIVATE KEY-----\0",
        b"-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n",
        KEY.replace(b"PRIVATE", b"PUBLIC"),
        KEY.replace(b"PRIVATE KEY", b"CERTIFICATE"),
        LINE,
    ],
)
def test_what_only_speaks_of_keys_is_none(data):
    assert not holds_private_key([data])


@given(st.binary(max_size=3000), st.integers(1, 600), st.binary(max_size=300))
def test_where_a_key_lies_and_how_it_is_cut_makes_no_difference(before, size, after):
    data = before + KEY + after
    assert holds_private_key(data[n : n + size] for n in range(0, len(data), size))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_keys_that_ssh_keygen_makes_are_found(tmp_path, kind):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(tmp_path / "key")], check=True, timeout=60)
    assert holds_private_key([(tmp_path / "key").read_bytes()])
    assert not holds_private_key([(tmp_path / "key.pub").read_bytes()])


# the rule


def judged(case):
    (row,) = [row for row in decide(case).rules if row.rule == "config.secrets"]
    return row


def stored(**changes):
    evidence = good_case().evidence.stored
    return Present(replace(evidence.value, **changes), evidence.digests)


def test_a_key_in_the_artifact_or_in_the_configuration_denies():
    found = judged(good_case(stored=stored(private_key=True)))
    assert (found.result, found.reason) == (Result.FAIL, "config-secret-found")
    assert "in the artifact" in found.actual
    data = b"[values]\nKEY = '" + KEY.replace(b"\n", b"\\n") + b"'\n"
    configuration = parse_configuration(data, commit=POLICY_COMMIT, file="config/production/hello.toml")
    case = good_case(configuration=Present(configuration, (digest_of(data),)))
    assert judged(case).reason == "config-secret-found"
    assert "in the configuration" in judged(case).actual
    assert LINE.decode() not in repr(decide(case).rules), "what was found is not shown"
    assert decide(case).verdict is Verdict.DENY


def test_bytes_that_cannot_be_read_are_not_free_of_keys():
    for name, cause in (("stored", "registry-unavailable"), ("configuration", "config-unavailable")):
        assert judged(good_case(**{name: Unreadable(cause)})).result is Result.UNREADABLE
        for item in (Absent(), Present(Refusal("config-invalid" if name == "configuration" else "digest-mismatch", "no"))):
            case = good_case(**{name: item})
            assert judged(case).result is Result.SKIP
            assert decide(case).verdict is Verdict.DENY, "another rule says why"


def test_a_rollback_is_not_held_back_by_a_key_that_ran_already():
    assert judged(rollback_case(stored=stored(private_key=True))).result is Result.SKIP
    assert decide(rollback_case(stored=stored(private_key=True))).verdict is Verdict.ALLOW


@pytest.mark.anyio
async def test_an_artifact_with_a_private_key_is_denied_and_leases_nothing(house, monkeypatch):
    from tests.fakes import frames

    real = frames.make_artifact
    monkeypatch.setattr(frames, "make_artifact", lambda version: real(version, layer=make_layer({"a": b"x" * 70000, "key.pem": KEY})))
    ended = await house.to_the_end(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons) == (State.DENIED, ("config-secret-found",))
    assert house.act_vault.children == 0


# the vault's values, by whoever holds the one-deploy token


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["layer", "configuration"])
@pytest.mark.parametrize("name", ["PASSWORD", "UNNAMED"])
async def test_a_value_of_the_vault_in_what_is_deployed_is_found_before_a_byte_is_sent(house, monkeypatch, where, name):
    from tests.fakes import frames

    house.policy.secrets = frozenset({"PASSWORD"})
    house.secrets.update({"PASSWORD": "swordfish-0", "UNNAMED": "marzipan-0", "SHORT": "hello"})
    value = house.secrets[name]
    if where == "layer":
        real = frames.make_artifact
        monkeypatch.setattr(frames, "make_artifact", lambda version: real(version, layer=make_layer({"a": f"password = '{value}'".encode()})))
    else:
        house.policy.values = {"GREETING": f"hello {value}"}
    ended = await house.to_the_end(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons) == (State.FAILED, ("config-secret-found",))
    assert name in ended.detail
    assert where in ended.detail
    assert value not in ended.detail
    assert value.encode() not in b"".join(house.log.tree.entries)
    assert house.target.credentials == [], "nothing was sent"
    assert (house.holder(), house.violations, house.unclosed(), house.used_credentials()) == (None, [], [], [])


@pytest.mark.anyio
async def test_a_clean_artifact_is_deployed_though_a_short_secret_stands_in_it_by_chance(house):
    house.policy.secrets = frozenset({"SHORT"})
    house.secrets.update({"SHORT": "hello"})
    assert (await house.deployed()).state is State.DEPLOYED


@pytest.mark.anyio
async def test_a_value_is_found_wherever_pieces_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(secret_scan, "_CHUNK", 16)
    for place in range(40):
        data = b"x" * place + b"swordfish-0" + b"y" * 40
        (tmp_path / "layer").write_bytes(data)
        part = Part(PartName.LAYER, tmp_path / "layer", len(data), digest_of(data))
        assert await secret_in_parts((part,), {"P": "swordfish-0"}) == "the value of the secret P stands in the layer"
        assert await secret_in_parts((part,), {"P": "swordfish-1"}) is None
    settings = Part(PartName.SETTINGS, b"P=swordfish-0\n", 14, digest_of(b"P=swordfish-0\n"))
    assert await secret_in_parts((settings,), {"P": "swordfish-0"}) is None, "there it belongs"
