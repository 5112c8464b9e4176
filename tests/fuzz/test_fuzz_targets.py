"""Every reader of bytes from outside, given bytes that are almost good: a short run of each fuzz target, the same one every time.

The long run is `make fuzz`. What it ever found stands below, so that it is found at once if it comes back.
"""

import base64
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gatekeeper.model.strictjson import MalformedJson, parse_json
from tests.fuzz import run, targets
from tests.fuzz.mutation import changed_json
from tests.fuzz.targets import TARGETS, Fault, Target, check

READINGS = 120
SHORT = settings(
    max_examples=READINGS, derandomize=True, database=None, deadline=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_taken(name):
    seeds = TARGETS[name].seeds()
    assert seeds
    assert all(check(name, seed) for seed in seeds)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_bytes_are_taken_for_what_they_are_or_refused_as_documented(name):
    refused = []

    @SHORT
    @given(TARGETS[name].change(list(TARGETS[name].seeds())))
    def readings(data):
        if not check(name, data):
            refused.append(len(data))

    readings()
    assert len(refused) >= READINGS // 10, "the changes change nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_arbitrary_bytes_are_refused_as_documented(name):
    @settings(SHORT, max_examples=READINGS // 4)
    @given(st.binary(max_size=200))
    def readings(data):
        check(name, data)

    readings()
    for data in (b"", b"\x00", b"\n", b"\n\n", b"{}", b"[]", b"null", b"\xff" * 64, b"." * 3, b"\x30\x82\xff\xff"):
        check(name, data)


def nested(count: int) -> bytes:
    return b'{"a":' * count + b"1" + b"}" * count


# Small things that some readers make large ones of, or spend a long time on.
BOMBS = {
    "arrays in arrays": b"[" * 60_000,
    "objects in objects": nested(9_000),
    "digits": b'{"a":' + b"9" * 60_000 + b"}",
    "exponents": b"[" + b",".join([b"1e999999999"] * 5_000) + b"]",
    "members": b"{" + b",".join(b'"%d":0' % n for n in range(6_000)) + b"}",
    "one member again and again": b"{" + b",".join([b'"a":0'] * 9_000) + b"}",
    "subjects": b'{"_type":"https://in-toto.io/Statement/v1","subject":[' + b",".join([b"{}"] * 4_000) + b"]}",
    "escapes": b'"' + b"\\u0041" * 10_000 + b'"',
    "lines": b"\n" * 60_000,
    "dots": b"." * 60_000,
    "signature lines": b"a\n\n" + "— a AAAAAAAA\n".encode() * 4_000,
    "DER without an end": b"\x30\x80" * 30_000,
    "a PEM of many": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" * 1_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_goes_off_nowhere(bomb):
    """In each target: as documented, in bounded time, and in memory of a small multiple of its size."""
    data = BOMBS[bomb]
    for name in TARGETS:
        if name in ("signed-statement", "claims", "decision"):  # these sign it first, which is our own work
            continue
        tracemalloc.start()
        try:
            check(name, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4_000_000 + 60 * len(data), (name, peak)


BIT_STRING_IN_A_NAME = (
    "MIIB4TCCAYigAwIBAgIUH/8LDkLHdTwAzjSH4v93fgeeccIwCgYIKoZIzj0EAwIwHDEaMBgGA1AEVQMRDGluZ2VlIGJ1aWxkZXIgQ0EwHhcNMjYxMTIxMTAwMDAwWhcNMjYxMTIxMTAx"
    "MDAwWjAAMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4LtOETJy9++FtvvGeej9Hx4I161k0nky76LEKfAUS56yYMkfgJq7xc8Bt9bOemtdbhX1Ge+wckaq5BcDhpec06OBwzCBwDAf"
    "BgNVHSMEGDAWgBTuyL/DEF/PaF4Kga6DnXEuJiXjyzBqBgNVHREBAf8EYDBehhdodHRwczovL2NpLmRlbW82YnVpbGRlcoZDdXJuOnBpcmdlZTpydW46aGVsbG86MTExMTExMTExMTEx"
    "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTpydW4tMTAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYBBQUHAwMwDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNHADBEAiB+"
    "rVHdYgCJe7EZE7xgzxUwlhHl5JQ7rLcG6nNj58UxTgIgOFXWdE2J5wYamtxdlu5TtxRIfxsryJaKl0GVs/G2krk="
)
FOUND = {
    "base64 beyond ASCII was no FieldError": ("receipt", '{"entry":"é","evidence":[],"index":1,"origin":"a.example/log","statement":{},"v":1}'.encode()),
    "a type of key that is no text was no MalformedKey": ("key-set", b'{"keys":[{"kid":"k","kty":{}}]}'),
    "nor was a curve": ("key-set", b'{"keys":[{"kid":"k","kty":"EC","crv":[]}]}'),
    "a name that holds a bit string was a TypeError": ("certificate", base64.b64decode(BIT_STRING_IN_A_NAME)),
}


@pytest.mark.parametrize("found", FOUND)
def test_what_was_found_stays_mended(found):
    assert check(*FOUND[found]) is False


# that the targets can see


def broken(monkeypatch, read, raises=(ValueError,)):
    monkeypatch.setitem(TARGETS, "broken", Target(read, raises, lambda: [b"{}"], changed_json))


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), AssertionError("two readers"), MemoryError(), BaseException("a panic")], ids=repr)
def test_an_undocumented_exception_is_a_fault_whose_bytes_are_printed(monkeypatch, error):
    def read(_data):
        raise error

    broken(monkeypatch, read)
    with pytest.raises(Fault, match=r"(?s)bytes: b'\\xff{}'.*again: python -m tests.fuzz.run broken --bytes /3t9"):
        check("broken", b"\xff{}")


def test_a_reader_without_end_is_a_fault(monkeypatch):
    monkeypatch.setattr(targets, "MAX_SECONDS", 0.0)
    with pytest.raises(Fault, match="processor time"):
        check("json", b"{}")


def test_a_reader_that_takes_the_last_of_two_members_is_caught(monkeypatch):
    def lax(data):
        value = json.loads(data)
        try:
            assert parse_json(data) == value
        except MalformedJson:
            raise AssertionError("only one of two readers reads it") from None
        return True

    broken(monkeypatch, lax, raises=(json.JSONDecodeError, UnicodeDecodeError))

    @SHORT
    @given(changed_json([b'{"a":{"b":1},"c":[1,2,{"d":"e"}]}']))
    def readings(data):
        check("broken", data)

    with pytest.raises(Fault, match="only one of two readers"):
        readings()


def test_the_command_reads_printed_bytes_again(capsys):
    good = TARGETS["receipt"].seeds()[0]
    for data in (good, good[:-1]):
        assert run.main(["receipt", "--bytes", base64.b64encode(data).decode()]) == 0
    assert capsys.readouterr().out == "taken\nrefused\n"


def test_the_command_runs_a_target_for_a_time(monkeypatch, capsys):
    monkeypatch.setattr(run, "ROUND", 50)
    assert run.main(["vkey", "--seconds", "0", "--seed", "7"]) == 0
    assert capsys.readouterr().out.startswith("seed 7\nvkey: 50 readings, ")


def test_the_command_ends_at_a_fault_and_prints_its_bytes(monkeypatch, capsys):
    def read(data):
        assert b'"a"' in data, "not there"
        return True

    broken(monkeypatch, read)
    assert run.main(["broken", "--seconds", "0", "--seed", "7"]) == 1
    assert "AssertionError: not there" in (said := capsys.readouterr().err)
    assert "again: python -m tests.fuzz.run broken --bytes" in said
