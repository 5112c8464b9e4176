"""Attack rows 138 to 141 at a real doorkeeper: each refusal with its code, on the record, and nothing else; also after a crash while remembering."""

import json
import os
import signal
import subprocess
import sys

import pytest

from clients.doorkeeper.apply import Doorkeeper
from clients.doorkeeper.files import exclusive
from clients.doorkeeper.incoming import Incoming
from clients.doorkeeper.record import Record
from clients.doorkeeper.state import load_memory
from clients.doorkeeper.target import load_pinned
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.frame import PartName, encode_header
from gatekeeper.model.moment import later
from gatekeeper.model.receipt import encode_receipt, parse_receipt
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.note import parse_note
from tests.fakes.doorkeepers import installed
from tests.fakes.entries import decoy, leaf_of
from tests.fakes.frames import ORIGIN, Gatekeeper, MemoryLog, frame_of, make_artifact, now, parts_of
from tests.fakes.witnesses import FakeWitness

GOOD, NEXT = make_artifact("1"), make_artifact("2")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A doorkeeper whose first deploy is healthy. Refusals leave it as it is, so one serves them all."""
    with installed(tmp_path_factory.mktemp("running")) as door:
        receipt, items = door.gatekeeper.deploy(GOOD, old=0)
        assert door.apply(receipt, items)[0] == 0
        yield door


@pytest.fixture
def door(tmp_path):
    with installed(tmp_path) as door:
        receipt, items = door.gatekeeper.deploy(GOOD, old=0)
        assert door.apply(receipt, items)[0] == 0
        yield door


def on_disk(door):
    """Every file of the doorkeeper's own, but for its record, evidence and the workload's output; state by its bytes."""
    var = door.place.var
    ours = {str(p.relative_to(var)) for p in var.rglob("*") if not str(p.relative_to(var)).startswith(("record.", "forks", "logs/"))}
    return ours, door.state(), door.page()


def lines(door):
    return [json.loads(line) for line in (door.place.var / "record.jsonl").read_text().splitlines()]


def offer(door, log=None, **changes):
    """An Allow for the next version with changes, in a log that extends what the doorkeeper remembers, or in another."""
    gatekeeper, log = door.gatekeeper, log or door.gatekeeper.log
    receipt = gatekeeper.receipt(gatekeeper.statement(NEXT, **changes), log=log)
    return gatekeeper.items(NEXT, receipt, index=len(log.entries) - 1, old=load_memory(door.place).checkpoint.size, log=log)


def without_receipt(door):
    items = offer(door)
    del items[PartName.RECEIPT]
    return items


def without_proof(door):
    items = offer(door)
    del items[PartName.PROOF]
    return items


def by_another_instance(door):
    stranger = Gatekeeper()
    receipt = stranger.receipt(stranger.statement(NEXT))
    return stranger.items(NEXT, receipt, index=0, old=1)


def in_another_log(door):
    items, stranger = offer(door), MemoryLog()
    stranger.entries = list(door.gatekeeper.log.entries)
    return {**items, PartName.PROOF: stranger.proof(len(stranger.entries) - 1), PartName.CONSISTENCY: stranger.growth(1)}


def forked(door):
    fork = door.gatekeeper.log.fork()
    door.gatekeeper.receipt(door.gatekeeper.statement(NEXT), log=fork)
    return offer(door, log=fork)


def forked_later(door):
    """Everything as it was, but for one entry of long ago."""
    fork = door.gatekeeper.log.fork()
    fork.entries = [b"other", *door.gatekeeper.log.entries[1:]]
    return offer(door, log=fork)


def sealed(door):
    log, items = door.gatekeeper.log, offer(door)
    entry = encode_entry(leaf_of(*(decoy(slot, origin=ORIGIN) for slot in range(4)), origin=ORIGIN))
    index = log.append(entry)
    receipt = encode_receipt(statement=parse_receipt(items[PartName.RECEIPT]).statement, entry=entry, index=index, origin=ORIGIN, evidence=())
    return {**items, PartName.RECEIPT: receipt, PartName.PROOF: log.proof(index), PartName.CONSISTENCY: log.growth(1)}


def other(part, data):
    return lambda door: {**offer(door), part: data}


@pytest.mark.parametrize(
    ("attack", "code", "words"),
    [
        (without_receipt, "receipt-missing", "the frame has no receipt"),
        (without_proof, "receipt-missing", "the frame has no proof"),
        (in_another_log, "receipt-missing", "no proof that satisfies the log policy"),
        (by_another_instance, "bad-signature", "by a pinned receipt key"),
        (forked, "log-fork", "does not extend the one remembered"),
        (forked_later, "log-fork", "does not extend the one remembered"),
        (lambda door: offer(door, targets=("host-2",)), "receipt-other-target", "another target or environment"),
        (lambda door: offer(door, environment="staging"), "receipt-other-target", "another target or environment"),
        (lambda door: offer(door, component="other"), "receipt-other-target", "does not run here"),
        (lambda door: offer(door, at=later(now(), seconds=-600)), "allow-expired", "not_after has passed"),
        (sealed, "sealed-not-allowed", "no sealed decision"),
        (other(PartName.MANIFEST, GOOD.manifest), "digest-mismatch", "not the artifact that was decided on"),
        (other(PartName.CONFIG, GOOD.config + b" "), "digest-mismatch", "the config is not the one"),
        (other(PartName.LAYER, GOOD.layer), "digest-mismatch", "the layer is not the one"),
    ],
)
def test_a_refusal_is_on_the_record_and_changes_nothing(running, attack, code, words):
    items = attack(running)
    named = digest_of(items.get(PartName.RECEIPT, b"none"))
    before, written, forks = on_disk(running), lines(running), running.place.forks
    kept = len(list(forks.iterdir())) if forks.is_dir() else 0
    exit_code, answer = running.apply(named, items)
    assert (exit_code, answer["refused"]) == (3, code)
    assert words in answer["detail"]
    assert on_disk(running) == before
    last = lines(running)[len(written) :]
    assert [(line["what"], line["code"], line["detail"], line["receipt"]) for line in last] == [("refused", code, answer["detail"], named)]
    assert Record(running.place).verify() == len(written) + 1
    assert (len(list(forks.iterdir())) if forks.is_dir() else 0) == kept + (code == "log-fork")
    with exclusive(running.place, wait_s=0):
        pass


def test_layer_bytes_that_are_not_what_the_header_announces_leave_no_half(running):
    items = offer(running)
    specs = [part.spec for part in parts_of(items)]
    body = b"".join(items[s.name] if s.name is not PartName.LAYER else bytes(s.size) for s in specs)
    before = on_disk(running)
    exit_code, said = running.serve(digest_of(items[PartName.RECEIPT]), encode_header(specs) + body)
    assert (exit_code, said[-1]["refused"]) == (3, "digest-mismatch")
    assert on_disk(running) == before
    assert list(running.place.incoming.iterdir()) == []


def test_used_receipts_are_replays_the_last_and_those_before(door):
    receipt, items = door.gatekeeper.deploy(NEXT, old=1)
    assert door.apply(receipt, items)[0] == 0
    # An Allow that was logged before the last one applied, and never used: its index is not above.
    skipped, unused = door.gatekeeper.deploy(GOOD, old=2)
    receipt, items3 = door.gatekeeper.deploy(NEXT, old=2)
    assert door.apply(receipt, items3)[0] == 0
    before, log = on_disk(door), door.gatekeeper.log
    for named, used, index in ((receipt, items3, 3), (skipped, unused, 2), (digest_of(items[PartName.RECEIPT]), items, 1)):
        exit_code, answer = door.apply(named, {**used, PartName.PROOF: log.proof(index), PartName.CONSISTENCY: log.growth(4)})
        assert (exit_code, answer["refused"]) == (3, "receipt-replayed")
        assert on_disk(door) == before


@pytest.mark.parametrize(("seconds", "expired"), [(-1, False), (0, True), (1, True)])
def test_an_allow_that_runs_out_while_its_layer_is_read_is_not_acted_on(running, monkeypatch, seconds, expired):
    items, at = offer(running), now()
    reading, writing = os.pipe()
    os.write(writing, frame_of(parts_of(items)))
    os.close(writing)
    times = iter([at, later(at, seconds=600 + seconds)])
    keeper = Doorkeeper.open(running.place, load_pinned(running.place), say=lambda _: None, now=lambda: next(times))
    monkeypatch.setattr(Doorkeeper, "_act", lambda *_: "acted")
    before = on_disk(running)
    try:
        found = keeper.apply(Incoming(reading), digest_of(items[PartName.RECEIPT]), load_memory(running.place))
    finally:
        os.close(reading)
    assert (found.reason == "allow-expired") if expired else (found == "acted")
    assert on_disk(running) == before


DYING = """
import os, signal, sys
from clients.doorkeeper import cli, files, state
point, true = sys.argv.pop(1), files.write_durably
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def dying(path, data, *, mode=0o600):
    if path.name == "state.json":
        if point == "before":
            die()
        if point == "written":
            files.os.fsync = die
        if point == "renamed":
            files.sync_directory = die
        true(path, data, mode=mode)
        die()
    true(path, data, mode=mode)
state.write_durably = dying
sys.exit(cli.main())
"""


@pytest.mark.parametrize(("point", "remembered"), [("before", 1), ("written", 1), ("renamed", 2), ("after", 2)])
def test_killed_while_it_remembers_it_still_knows_the_log_and_the_receipt(door, point, remembered):
    receipt, items = door.gatekeeper.deploy(NEXT, old=1)
    done = subprocess.run(
        [sys.executable, "-c", DYING, point, "--dir", str(door.directory), "serve", digest_hex(receipt)],
        input=frame_of(parts_of(items)), env=door.environment("apply"), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert door.status()["size"] == remembered
    assert door.page() == "none 1"
    assert [*door.place.var.rglob(".*"), *door.place.incoming.iterdir()] == [], "what the crash left half-written is put away"
    fork = door.gatekeeper.log.fork()
    fork.entries = [b"other", *door.gatekeeper.log.entries[1:]]
    forged = offer(door, log=fork)
    exit_code, answer = door.apply(digest_of(forged[PartName.RECEIPT]), forged)
    assert (exit_code, answer["refused"]) == (3, "log-fork")
    exit_code, answer = door.apply(receipt, {**items, PartName.CONSISTENCY: door.gatekeeper.log.growth(remembered)})
    if remembered == 1:
        assert (exit_code, answer["outcome"], door.page()) == (0, "healthy", "none 2"), "never accepted: it may be sent again"
    else:
        assert (exit_code, answer["refused"], door.page()) == (3, "receipt-replayed", "none 1"), "accepted, and put back: never twice"
        assert door.component()["outcome"] == "interrupted"
    assert door.status()["record"].startswith("intact")


def test_a_private_continuation_of_the_log_passes_once_and_shows_at_the_next_honest_deploy(door):
    """What a target's memory alone cannot see, and when it shows (SECURITY.md, what remains). With a witness quorum: the test below."""
    honest = door.gatekeeper.log
    private = honest.fork()
    private.entries = list(honest.entries)
    stolen = offer(door, log=private)
    assert door.apply(digest_of(stolen[PartName.RECEIPT]), stolen)[0] == 0
    receipt, items = door.gatekeeper.deploy(GOOD, old=2)
    honest.append(b"one more")
    items |= {PartName.PROOF: honest.proof(1), PartName.CONSISTENCY: honest.growth(2)}
    before = on_disk(door)
    exit_code, answer = door.apply(receipt, items)
    assert (exit_code, answer["refused"]) == (3, "log-fork")
    assert on_disk(door) == before
    (evidence,) = door.place.forks.iterdir()
    kept = evidence.read_bytes()
    assert private.note() in kept
    assert honest.note() in kept


def test_with_a_witness_quorum_a_private_continuation_of_the_log_never_passes(tmp_path):
    """The end of that gap: the log policy of this target asks for a witness, and whoever has the log key and the receipt key has not its."""
    gatekeeper = Gatekeeper()
    honest = gatekeeper.log
    honest.witness = FakeWitness("w")
    with installed(tmp_path, gatekeeper) as door:
        receipt, items = gatekeeper.deploy(GOOD, old=0)
        assert door.apply(receipt, items)[0] == 0
        private = honest.fork()
        private.entries = list(honest.entries)
        stolen = offer(door, log=private)
        before = on_disk(door)
        exit_code, answer = door.apply(digest_of(stolen[PartName.RECEIPT]), stolen)
        assert (exit_code, answer["refused"]) == (3, "receipt-missing")
        assert "quorum w did not cosign" in answer["detail"]
        lifted = {**stolen, PartName.PROOF: cosigned_as(stolen[PartName.PROOF], honest), PartName.CONSISTENCY: cosigned_as(stolen[PartName.CONSISTENCY], honest)}
        exit_code, answer = door.apply(digest_of(stolen[PartName.RECEIPT]), lifted)
        assert (exit_code, answer["refused"]) == (3, "receipt-missing"), "the line of another checkpoint"
        assert on_disk(door) == before
        receipt, items = gatekeeper.deploy(NEXT, old=1)
        assert door.apply(receipt, items)[0] == 0, "and the honest log goes on as if nothing had been"


def cosigned_as(data, log):
    """With the witness's line over that log's newest note put below the thief's own."""
    return data + parse_note(log.note()).signatures[1].line()
