"""What every witness answers, over the fake in memory and over a real `pingee-witness` behind the HTTPS adapter (log format, 1.6)."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.demo.certificate import make_certificate
from gatekeeper.adapters.witness import open_witnesses
from gatekeeper.ports.errors import Denied, Rejected
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize
from gatekeeper.tlog.consistency import Growth, encode_growth, parse_growth
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, parse_note, parse_vkey
from tests.fakes.frames import ORIGIN, MemoryLog
from tests.fakes.witnesses import FakeWitness, FakeWitnesses, running_witness

pytestmark = pytest.mark.anyio


class Asked:
    """A witness of one log, and the way to it."""

    def __init__(self, link, url, key, log):
        self._link, self._url, self.key, self.log = link, url, key, log

    async def offer(self, old, size=None, *, log=None, path=None, note=None):
        log = log or self.log
        size = len(log.entries) if size is None else size
        body = encode_growth(Growth(old, parse_growth(log.growth(old, size)).path if path is None else path, note or log.note(size)))
        return await self._link.add_checkpoint(self._url, body)

    async def raw(self, body):
        return await self._link.add_checkpoint(self._url, body)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """One process serves all tests: each has a log of its own."""
    directory = tmp_path_factory.mktemp("witness")
    make_certificate(directory, "a CA of the test")
    with running_witness(directory / "w", directory) as witness:
        yield witness, directory / "ca.pem"


@pytest.fixture(params=["fake", "process"])
async def asked(request, anyio_backend):
    log = MemoryLog()
    log.entries = [b"%d" % nr for nr in range(9)]
    if request.param == "fake":
        witness = FakeWitness("w", [log.vkey])
        yield Asked(FakeWitnesses(witness), witness.url, witness.vkey, log)
    else:
        witness, ca_file = request.getfixturevalue("real")
        log.vkey = ed25519_vkey(f"{log.vkey.key_id.hex()}.{ORIGIN}", log.vkey.public)
        witness.add_log(log.vkey)
        async with open_witnesses(ca_file) as link:
            yield Asked(link, witness.url, parse_vkey(witness.vkey), log)


def cosigned(asked, answer, note):
    assert isinstance(answer, Cosignatures), answer
    (line,) = answer.lines
    assert verify_cosignature(asked.key, parse_note(note).text, line) > 1_700_000_000
    return True


async def test_it_cosigns_the_first_checkpoint_and_each_that_extends_the_last(asked):
    for old, size in ((0, 3), (3, 4), (4, 9), (9, 9)):
        assert cosigned(asked, await asked.offer(old, size), asked.log.note(size))


async def test_it_names_the_size_that_it_knows(asked):
    await asked.offer(0, 4)
    for old in (0, 3, 5):
        assert await asked.offer(old, 9) == OtherSize(4)
    assert await asked.offer(0, 3) == OtherSize(4), "a smaller checkpoint is no news, and no lie either"
    assert cosigned(asked, await asked.offer(4, 9), asked.log.note())


async def test_a_wrong_proof_and_another_tree_are_another_root(asked):
    await asked.offer(0, 4)
    assert await asked.offer(4, 9, path=(b"\x01" * 32,) * 3) == OtherRoot()
    assert await asked.offer(4, 9, path=()) == OtherRoot()
    fork = asked.log.fork()
    fork.vkey, fork.entries = asked.log.vkey, [b"other", *asked.log.entries[1:]]
    assert await asked.offer(4, 9, log=fork) == OtherRoot()
    assert cosigned(asked, await asked.offer(4, 9), asked.log.note())


async def test_a_proof_from_nothing_is_empty(asked):
    assert await asked.offer(0, 4, path=(b"\x01" * 32,)) == OtherRoot()


async def test_the_empty_log_is_a_checkpoint_too(asked):
    assert cosigned(asked, await asked.offer(0, 0), asked.log.note(0))
    assert cosigned(asked, await asked.offer(0, 2), asked.log.note(2))


async def test_a_log_that_it_does_not_know_and_a_key_of_nobody_are_denied(asked):
    with pytest.raises(Denied, match="witness-unknown-log"):
        await asked.offer(0, log=named(MemoryLog(), "other.example/log", 2))
    impostor = named(MemoryLog(), asked.log.vkey.name, 2)
    with pytest.raises(Denied, match="witness-unknown-log"):
        await asked.offer(0, log=impostor)
    spoilt = parse_note(asked.log.note())
    line = NoteSignature(spoilt.signatures[0].name, spoilt.signatures[0].key_id, b"\x01" * 64)
    with pytest.raises(Denied, match="witness-unknown-log"):
        await asked.offer(0, note=encode_note(Note(spoilt.text, (line,))))


def named(log, origin, entries):
    log.entries = [b"x"] * entries
    log.vkey = ed25519_vkey(origin, log.vkey.public)
    return log


async def test_lines_by_strangers_are_passed_over(asked):
    """Two lines of one log, as during a rotation of its key: one trusted is enough."""
    other = Ed25519PrivateKey.generate()
    key = ed25519_vkey(asked.log.vkey.name, other.public_key().public_bytes_raw())
    note = parse_note(asked.log.note())
    second = NoteSignature(key.name, key.key_id, other.sign(note.text))
    both = encode_note(Note(note.text, (second, *note.signatures)))
    assert cosigned(asked, await asked.offer(0, note=both), both)


@pytest.mark.parametrize("body", [b"", b"old", b"old 00\n\nx", b"old 1\n\n", b"old 0\nAAAA\n\n"])
async def test_what_is_no_request_is_rejected(asked, body):
    with pytest.raises(Rejected, match="witness-rejected"):
        await asked.raw(body)


async def test_an_old_size_above_the_checkpoints_is_rejected(asked):
    with pytest.raises(Rejected, match="witness-rejected"):
        await asked.offer(5, 4, path=())
