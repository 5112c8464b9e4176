"""`pingee-witness` without its network: what it remembers, in which order, and what makes it stop (attack row 117)."""

import hashlib
import sqlite3
import threading
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.witness import store as store_module
from clients.witness.cli import OK, STOPPED, USAGE, main
from clients.witness.keys import Home, Unusable, WitnessKey, load_key, make_home
from clients.witness.protocol import TLOG_SIZE, Witness
from clients.witness.store import Store
from gatekeeper.tlog.consistency import Growth, encode_growth
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, encode_vkey, parse_note, parse_signature_lines
from tests.fakes.frames import ORIGIN, MemoryLog


class World:
    def __init__(self, directory):
        self.home, self.now = Home(directory / "w"), 1_800_000_000
        make_home(self.home, "w.example/b")
        self.key = load_key(self.home)
        self.stores = []
        self.store = self.opened(self.home.store)
        self.log = MemoryLog()
        self.log.entries = [b"%d" % nr for nr in range(9)]
        self.store.trust(self.log.vkey)
        self.witness = self.another()

    def another(self):
        """As another process over the same file."""
        return self.over(self.opened(self.home.store))

    def over(self, store):
        return Witness(store, self.key, lambda: self.now)

    def opened(self, file):
        self.stores.append(Store(file))
        return self.stores[-1]

    def offer(self, old, size, *, log=None, note=None, witness=None):
        log = log or self.log
        body = log.growth(old, size)
        if note is not None:
            body = body.partition(b"\n\n")[0] + b"\n\n" + note
        return (witness or self.witness).answer("POST", "/add-checkpoint", body)

    def fork(self):
        fork = self.log.fork()
        fork.entries = [b"other", *self.log.entries[1:]]
        return fork

    def known(self):
        return self.store.known(ORIGIN)

    def cosigned(self, answer, size):
        assert answer.status == 200, answer
        (line,) = parse_signature_lines(answer.body)
        return verify_cosignature(self.key.vkey, parse_note(self.log.note(size)).text, line)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for store in world.stores:
        store.close()


def test_the_statuses_of_the_specification(world):
    assert world.witness.answer("POST", "/add-checkpoint", b"old x").status == 400
    assert world.offer(0, 4).status == 200
    stale = world.offer(0, 9)
    assert (stale.status, stale.body, stale.content_type) == (409, b"4\n", TLOG_SIZE)
    body = encode_growth(Growth(9, (), world.log.note(4)))
    assert world.witness.answer("POST", "/add-checkpoint", body).status == 400, "old above the checkpoint's size"
    stranger = MemoryLog()
    stranger.entries, stranger.vkey = [b"x"], ed25519_vkey("other.example/log", stranger.vkey.public)
    assert world.offer(0, 1, log=stranger).status == 404
    impostor = MemoryLog()
    impostor.entries = list(world.log.entries)
    assert world.offer(4, 9, log=impostor).status == 403
    assert world.witness.answer("POST", "/add-checkpoint", encode_growth(Growth(4, (b"x" * 32,), world.log.note(9)))).status == 422
    root = world.log.note(4).replace(b"\n4\n", b"\n0\n")
    assert world.witness.answer("POST", "/add-checkpoint", b"old 0\n\n" + root).status == 422, "an empty tree with the root of another"
    assert world.witness.answer("GET", "/add-checkpoint", b"").status == 405
    assert world.witness.answer("GET", "/elsewhere", b"").status == 404
    assert world.offer(4, 9).status == 200


def test_what_it_cosigned_last_can_be_watched(world):
    path = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    assert world.witness.answer("GET", path, b"").status == 404
    assert world.cosigned(world.offer(0, 4), 4) == world.now
    world.now += 7
    assert world.cosigned(world.offer(4, 4), 4) == world.now, "the same checkpoint again, at another time"
    note = parse_note(world.witness.answer("GET", path, b"").body)
    assert note.text == parse_note(world.log.note(4)).text
    assert [line.name for line in note.signatures] == [ORIGIN, "w.example/b"]
    assert verify_cosignature(world.key.vkey, note.text, note.signatures[1]) == world.now
    assert world.witness.answer("GET", "/" + "0" * 64 + "/checkpoint", b"").status == 404


def test_a_key_that_follows_another_is_believed_once_it_is_added_and_strange_lines_are_not_kept(world):
    new = Ed25519PrivateKey.generate()
    key = ed25519_vkey(ORIGIN, new.public_key().public_bytes_raw())
    text = parse_note(world.log.note(4)).text
    second = NoteSignature(key.name, key.key_id, new.sign(text))
    both = encode_note(Note(text, (*parse_note(world.log.note(4)).signatures, second)))
    assert world.offer(0, 4, note=both).status == 200
    assert [line.key_id for line in parse_note(world.known().newest.note).signatures] == [world.log.vkey.key_id, world.key.vkey.key_id]
    text = parse_note(world.log.note(9)).text
    alone = encode_note(Note(text, (NoteSignature(key.name, key.key_id, new.sign(text)),)))
    assert world.offer(4, 9, note=alone).status == 403
    assert world.store.trust(key) is True
    spoilt = encode_note(Note(text, (NoteSignature(key.name, key.key_id, new.sign(text)), NoteSignature(ORIGIN, world.log.vkey.key_id, b"\0" * 64))))
    assert world.offer(4, 9, note=spoilt).status == 403, "a known key's line that does not verify spoils the note"
    assert world.offer(4, 9, note=alone).status == 200


def test_a_split_view_gets_no_second_cosignature_and_both_notes_are_kept(world, capsys, caplog):
    """Attack row 117: two clients are shown different trees of one size."""
    fork = world.fork()
    assert world.offer(0, 9).status == 200
    answer = world.offer(9, 9, log=fork)
    assert (answer.status, b"two roots" in answer.body) == (422, True)
    stop = world.known().stop
    assert parse_note(stop.remembered).text == parse_note(world.log.note(9)).text
    assert stop.shown == fork.note(9)
    world.log.entries.append(b"more")
    fork.entries.append(b"more")
    for log in (world.log, fork):
        assert world.offer(9, 10, log=log).status == 422, "neither side is cosigned from now on"
    assert world.another().answer("POST", "/add-checkpoint", world.log.growth(9, 10)).status == 422, "nor by a process that starts later"
    assert main(["status", str(world.home.directory)]) == STOPPED
    told = capsys.readouterr().out
    assert fork.note(9).decode() in told
    assert world.log.note(9).decode().rpartition("\n\n")[0] in told
    assert [record.levelname for record in caplog.records] == ["CRITICAL"], "said once, however often it is offered"


def test_a_split_view_of_a_size_long_past_is_seen_too(world):
    fork = world.fork()
    for old, size in ((0, 4), (4, 9)):
        assert world.offer(old, size).status == 200
    assert world.offer(0, 4, log=fork).status == 422
    assert world.known().stop.shown == fork.note(4)


def test_what_anybody_can_send_stops_nothing(world):
    """Proof of a fault needs two notes by the log's own key: a wrong path, an old note or a stranger's does not do."""
    assert world.offer(0, 4).status == 200
    for _ in range(3):
        world.witness.answer("POST", "/add-checkpoint", encode_growth(Growth(4, (b"x" * 32,), world.log.note(9))))
        world.offer(0, 3)
        world.offer(9, 9)
    impostor = world.fork()
    impostor.key = Ed25519PrivateKey.generate()
    assert world.offer(4, 4, log=impostor).status == 403
    assert world.known().stop is None
    assert world.offer(4, 9).status == 200


def test_a_fork_that_is_longer_is_refused_and_remembered_by_nothing(world):
    fork = world.fork()
    assert world.offer(0, 4).status == 200
    assert world.offer(4, 9, log=fork).status == 422
    assert world.offer(4, 9).status == 200


def test_a_witness_that_was_rewound_sees_its_own_hand_and_stops(world):
    world.offer(0, 4)
    with closing(sqlite3.connect(world.home.directory / "backup")) as backup:
        world.store._db.backup(backup)
    line = parse_signature_lines(world.offer(4, 9).body)
    cosigned = encode_note(parse_note(world.log.note(9)).with_signatures(line))
    assert world.offer(9, 9, note=cosigned).status == 200, "what it remembers may bear its line"
    old = world.over(world.opened(world.home.directory / "backup"))
    answer = world.offer(4, 9, note=cosigned, witness=old)
    assert (answer.status, b"rewound" in answer.body) == (503, True)
    assert world.offer(4, 9, witness=old).status == 503, "and it goes on with nothing of this log"


def test_of_many_who_offer_different_trees_of_one_size_at_once_one_is_accepted(world):
    """Check and store are one step, over threads and over processes of one file."""
    count = 12
    logs = []
    for nr in range(count):
        log = world.log.fork()
        log.entries = [b"%d" % nr]
        logs.append(log)
    answers, barrier = [], threading.Barrier(count)

    def one(log):
        witness = world.another()
        barrier.wait()
        answers.append(world.offer(0, 1, log=log, witness=witness).status)

    threads = [threading.Thread(target=one, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [422] * (count - 1)


def test_without_the_disk_nothing_is_cosigned(world, monkeypatch):
    def full(self, new):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "remember", full)
    answer = world.offer(0, 4)
    assert (answer.status, parse_lines(answer.body)) == (503, False)
    monkeypatch.undo()
    assert world.known().newest is None
    assert world.offer(0, 4).status == 200


def parse_lines(body):
    try:
        parse_signature_lines(body)
    except ValueError:
        return False
    return True


def test_the_line_leaves_only_after_the_commit(world, monkeypatch):
    """The store as another process sees it, at the moment when the answer is made."""
    seen = []
    execute = Store.change

    def watched(self):
        context = execute(self)

        class Watched:
            def __enter__(inner):
                return context.__enter__()

            def __exit__(inner, *raised):
                seen.append(("before", world.known().newest))
                result = context.__exit__(*raised)
                seen.append(("after", world.known().newest))
                return result

        return Watched()

    monkeypatch.setattr(Store, "change", watched)
    assert world.offer(0, 4).status == 200
    (_, before), (_, after) = seen
    assert before is None
    assert after.checkpoint.size == 4
    assert world.store._db.execute("pragma synchronous").fetchone() == (2,)
    assert world.store._db.execute("pragma journal_mode").fetchone() == ("wal",)


def test_what_is_kept_of_the_past_is_bounded(world, monkeypatch):
    monkeypatch.setattr(store_module, "PAST", 3)
    for size in range(1, 9):
        assert world.offer(size - 1, size).status == 200
    assert [world.store.cosigned_at(ORIGIN, size) is not None for size in range(1, 9)] == [False] * 5 + [True] * 3


def test_the_same_note_within_a_second_writes_nothing(world, monkeypatch):
    first = world.offer(0, 4)
    monkeypatch.setattr(Store, "remember", lambda *_: pytest.fail("written again"))
    assert world.offer(4, 4) == first


def test_a_witness_keeps_its_key_and_shows_it_to_nobody(tmp_path, capsys):
    home = tmp_path / "w"
    assert main(["init", str(home), "--name", "w.example/b"]) == OK
    vkey = capsys.readouterr().out.strip()
    assert vkey.startswith("w.example/b+")
    assert ((home / "witness.key").stat().st_mode & 0o777, home.stat().st_mode & 0o777) == (0o600, 0o700)
    assert main(["init", str(home), "--name", "other"]) == USAGE
    assert encode_vkey(load_key(Home(home)).vkey) == vkey
    (home / "witness.key").chmod(0o640)
    with pytest.raises(Unusable, match="others can read it"):
        load_key(Home(home))
    (home / "witness.key").chmod(0o600)
    (home / "witness.vkey").write_text(encode_vkey(WitnessKey("x", Ed25519PrivateKey.generate()).vkey))
    with pytest.raises(Unusable, match="do not belong together"):
        load_key(Home(home))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["init", "{dir}/new", "--name", "a b"], "--name: a key name has"),
        (["status", "{dir}/none"], "holds no witness"),
        (["add-log", "{dir}/w", "{vkey}"], "the key of a witness, not of a log"),
        (["add-log", "{dir}/w", "{dir}/none"], "No such file"),
        (["add-log", "{dir}/w", "x+y"], "a verifier key is"),
        (["serve", "{dir}/w", "--listen", "127.0.0.1:0"], "--certificate and --key are needed"),
        (["serve", "{dir}/w", "--listen", "0.0.0.0:0", "--plain"], "a loopback address only"),
        (["serve", "{dir}/w", "--listen", "here", "--plain"], "is not HOST:PORT"),
        (["serve", "{dir}/w", "--listen", "127.0.0.1:0", "--certificate", "{dir}/none", "--key", "{dir}/none"], "not a PEM chain and its key"),
    ],
)
def test_a_command_that_cannot_be_done_ends_with_one_sentence(world, capsys, words, sentence):
    named = {"dir": world.home.directory.parent, "vkey": encode_vkey(world.key.vkey)}
    assert main([word.format(**named) for word in words]) == USAGE
    assert sentence in capsys.readouterr().err
