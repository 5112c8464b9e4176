"""A log policy's file and values at their bounds, each refused for its reason and on its line."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.errors import MalformedPolicy
from gatekeeper.tlog.logpolicy import MAX_MEMBERS, MAX_POLICY, Group, LogPolicy, Witness, encode_log_policy, parse_log_policy
from gatekeeper.tlog.signature import cosigner_vkey, ed25519_vkey, encode_vkey


def public(number: int) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32)).public_key().public_bytes_raw()


LOG = ed25519_vkey("log.example", public(1))
W = Witness("w", cosigner_vkey("w.example", public(2)))
V = Witness("v", cosigner_vkey("v.example", public(3)), "https://v.example/")
FILE = f"log {encode_vkey(LOG)}\nwitness w {encode_vkey(W.key)}\nquorum w\n".encode()


def refused(make, words):
    with pytest.raises(MalformedPolicy, match=words):
        make()


def test_a_policy_is_written_and_read():
    for policy in (
        LogPolicy(LOG),
        LogPolicy(LOG, "https://log.example/", (W, V), (Group("g", 1, ("w", "v")), Group("h", 1, ("g",))), "h"),
        LogPolicy(LOG, None, (W,), (Group("g" * 200, 1, ("w",)),), "g" * 200),
    ):
        assert parse_log_policy(encode_log_policy(policy)) == policy


def test_all_keys_of_a_log_sign_notes_under_its_name():
    also = (ed25519_vkey("log.example", public(4)),)
    assert LogPolicy(LOG, also=also).also == also
    for wrong in (ed25519_vkey("other.example", public(4)), cosigner_vkey("log.example", public(4))):
        refused(lambda wrong=wrong: LogPolicy(LOG, also=(wrong,)), "all keys of a log have its name")
    refused(lambda: LogPolicy(cosigner_vkey("log.example", public(1))), "a log's key has type 1")


def test_witnesses_and_groups_are_counted():
    many = tuple(Witness(f"w{n}", cosigner_vkey(f"w{n}.example", public(n + 10))) for n in range(MAX_MEMBERS + 1))
    assert len(LogPolicy(LOG, None, many[:-1]).witnesses) == MAX_MEMBERS
    refused(lambda: LogPolicy(LOG, None, many), "at most")
    chain = [Group("g0", 1, ("w",))]
    for n in range(1, MAX_MEMBERS + 1):
        chain.append(Group(f"g{n}", 1, (f"g{n - 1}",)))
    assert len(LogPolicy(LOG, None, (W,), tuple(chain[:-1])).groups) == MAX_MEMBERS
    refused(lambda: LogPolicy(LOG, None, (W,), tuple(chain)), "at most")


@pytest.mark.parametrize(
    ("witnesses", "groups", "quorum", "words"),
    [
        ((Witness("w", ed25519_vkey("w.example", public(2))),), (), "none", "a witness's key has type 4"),
        ((W, Witness("u", cosigner_vkey("u.example", public(2)))), (), "none", "two witnesses have one key"),
        ((Witness("w", cosigner_vkey("w.example", public(1))),), (), "none", "never cosigns"),
        ((W,), (Group("g", 0, ("w",)),), "none", "threshold lies between"),
        ((W,), (Group("g", 2, ("w",)),), "none", "threshold lies between"),
        ((W,), (Group("g", 1, ("x",)),), "none", "not defined before it"),
        ((W,), (Group("g", 1, ("g",)),), "none", "not defined before it"),
        ((W,), (Group("g", 1, ("none",)),), "none", "not defined before it"),
        ((W, V), (Group("h", 1, ("g",)), Group("g", 1, ("w",))), "none", "not defined before it"),
        ((W, Witness("w", V.key)), (), "none", "a name is taken or is no word"),
        ((W,), (Group("w", 1, ("w",)),), "none", "a name is taken or is no word"),
        ((W,), (Group("none", 1, ("w",)),), "none", "a name is taken or is no word"),
        ((Witness("none", W.key),), (), "none", "a name is taken or is no word"),
        ((Witness("a b", W.key),), (), "none", "a name is taken or is no word"),
        ((Witness("", W.key),), (), "none", "a name is taken or is no word"),
        ((Witness("w" * 201, W.key),), (), "none", "a name is taken or is no word"),
        ((W, V), (Group("g", 1, ("w",)), Group("h", 1, ("w", "v"))), "none", "a name is in two groups"),
        ((W, V), (Group("g", 1, ("w", "w")),), "none", "a name is in two groups"),
        ((W,), (), "v", "the quorum is not defined"),
    ],
)
def test_a_policy_with_a_fault_is_none(witnesses, groups, quorum, words):
    refused(lambda: LogPolicy(LOG, None, witnesses, groups, quorum), words)


def test_a_file_is_bounded():
    padding = b"#" * (MAX_POLICY - len(FILE) - 1) + b"\n"
    assert parse_log_policy(FILE + padding).log == LOG
    refused(lambda: parse_log_policy(FILE + b"#" + padding), "at most 64 KiB")


VKEY = encode_vkey(LOG).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "one log line and one quorum line are needed"),
        (FILE[:-1], "lines ending in a newline"),
        (FILE.replace(b"quorum", b"\x0bquorum"), "no control characters"),
        (FILE.replace(b"quorum", b"\x7fquorum"), "no control characters"),
        (FILE + b"\x00\n", "no control characters"),
        (FILE.replace(b"\n", b"\r\n"), "no control characters"),
        (FILE + b"# \xff\n", "line 4: not UTF-8"),
        (FILE.replace(VKEY, VKEY + b" https://a https://b"), "line 1: not a log, witness, group or quorum line"),
        (FILE.replace(b"\nquorum", b" https://a https://b\nquorum"), "line 2: not a log, witness, group or quorum line"),
        (FILE.replace(b"quorum w", b"quorum w v"), "line 3: not a log, witness, group or quorum line"),
        (FILE + b"group g any\n", "line 4: not a log, witness, group or quorum line"),
        (FILE + b"group g 0 w\n", "line 4: a group's threshold is all, any or a number"),
        (FILE + b"group g 10000 w\n", "line 4: a group's threshold is all, any or a number"),
        (FILE + b"group g 01 w\n", "line 4: a group's threshold is all, any or a number"),
        (FILE + b"group g any x\n", "line 4: a name is used before it is defined"),
        (FILE + b"group w any w\n", "line 4: the name is taken"),
        (FILE + b"group none any w\n", "line 4: the name is taken"),
        (FILE + FILE.splitlines()[1] + b"\n", "line 4: the name is taken"),
        (FILE + b"quorum w\n", "line 4: a second quorum"),
        (FILE + FILE.splitlines()[0] + b"\n", "line 4: a second log"),
        (FILE.replace(b"quorum w", b"quorum v"), "line 3: a name is used before it is defined"),
        (FILE.replace(b"quorum w\n", b""), "one log line and one quorum line are needed"),
        (FILE.replace(VKEY, b"x"), "line 1: a verifier key is"),
    ],
)
def test_what_is_no_policy_file(data, words):
    refused(lambda: parse_log_policy(data), words)


def test_urls_comments_and_tabs():
    data = b"# a comment\n\n\t log\t" + VKEY + b" https://log.example/ \n  witness w " + encode_vkey(W.key).encode() + b" https://w.example/\nquorum none\n"
    read = parse_log_policy(data)
    assert (read.url, read.witnesses[0].url, read.quorum) == ("https://log.example/", "https://w.example/", "none")
    assert parse_log_policy(FILE).url is None
    assert parse_log_policy(FILE + b"group g all w\n").groups == (Group("g", 1, ("w",)),)
