"""What must hold of a log whatever happened to those who wrote it: `assert_honest` over everything durable and everything ever signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment
from gatekeeper.ports.log import Appended
from gatekeeper.tlog.checkpoint import open_checkpoint, parse_checkpoint
from gatekeeper.tlog.entry import ConfigEntry, encode_entry
from gatekeeper.tlog.fsck import Tail, fsck
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.tile import TileAddress, encode_bundle
from tests.fakes.running_log import ORIGIN

AT = parse_moment("2026-11-21T10:04:05Z")


def some_entry(entry_id: str) -> bytes:
    """An entry as the gatekeeper writes them; its bytes follow from its id."""
    digest = digest_of(entry_id.encode())
    return encode_entry(ConfigEntry(entry_id=entry_id, origin=ORIGIN, at=AT, config=None, who=(), previous=None, commit="0" * 40, digest=digest))


@dataclass(frozen=True)
class DurableLog:
    """What stands on disks when nobody works on the log any more."""

    entries: Sequence[tuple[int, str, bytes, bytes]]
    """index, entry id, body, leaf hash: as stored, in order of their index"""
    tiles: Mapping[tuple[int, int], bytes]
    """full tiles by level and number"""
    notes: Sequence[bytes]
    """all checkpoints ever stored, oldest first"""
    kept: bytes | None
    """the vault's note"""

    def fetch(self, address: TileAddress) -> bytes | None:
        """As `fsck` asks."""
        if address.level is not None:
            return self.tiles.get((address.level, address.n)) if address.width == 256 else None
        some = self.entries[address.n * 256 : address.n * 256 + address.width]
        return encode_bundle([body for _, _, body, _ in some]) if some else None


def of_fakes(rows, vault) -> DurableLog:
    """What `FakeLogStore.rows` and a `FakeLogVault` hold."""
    entries = [(entry.index, entry.entry_id, entry.body, entry.leaf_hash) for entry in rows.entries]
    return DurableLog(entries, rows.tiles, [note for _, note in rows.notes], vault.head and vault.head.note)


def assert_honest(
    log: DurableLog, policy: LogPolicy, *, signed: Sequence[bytes], acknowledged: Mapping[str, tuple[bytes, Appended]], shown: Sequence[bytes] = ()
) -> None:
    """`signed` are the texts of all notes that the key ever signed, also those nobody saw; `shown` are notes that somebody was given:
    each has the quorum."""
    assert [index for index, *_ in log.entries] == list(range(len(log.entries))), "indexes are contiguous"
    assert all(leaf_hash(body) == leaf for _, _, body, leaf in log.entries), "each row hashes to its leaf"
    assert all(b'"entry_id":"%s"' % entry_id.encode() in body for _, entry_id, body, _ in log.entries), "each row stands under its own id"
    places = {entry_id: (body, Appended(index, leaf)) for index, entry_id, body, leaf in log.entries}
    assert len(places) == len({body for _, _, body, _ in log.entries}) == len(log.entries), "no entry stands twice"
    missing = {entry_id for entry_id, ack in acknowledged.items() if places.get(entry_id) != ack}
    assert not missing, f"acknowledged, and not there as acknowledged: {missing}"
    assert_one_tree([leaf for *_, leaf in log.entries], signed)
    texts = set(signed)
    assert {parse_note(note).text for note in (*log.notes, *shown)} <= texts, "no note is known that was not signed"
    stored = [open_checkpoint(note, policy.log) for note in log.notes]
    assert {parse_note(note).text for note in shown} <= {parse_note(note.note).text for note in stored}, "who was shown a note finds it stored"
    for note in shown:
        policy.quorum_met(parse_note(note))
    if stored:
        newest = max(stored, key=lambda note: note.size)
        assert log.kept is not None
        assert parse_note(log.kept).text == parse_note(newest.note).text, "the vault keeps the newest note"
        report = fsck(newest, log.fetch, older=min(stored, key=lambda note: note.size), marks=stored, partials_kept=False)
        assert report.sound, report.fault
        assert report.tail is Tail.PREFIX_HOLDS


def assert_one_tree(leaves: Sequence[bytes], texts: Iterable[bytes]) -> None:
    """Every signed text is the root of the first entries of this one sequence: then any two of them are consistent."""
    wanted = sorted({(checkpoint.size, checkpoint.root) for checkpoint in map(parse_checkpoint, texts)})
    tree = CompactRange.empty()
    for size, root in wanted:
        assert size <= len(leaves), "a tree was signed whose entries are not there"
        tree = tree.extend(leaves[tree.size : size])
        assert tree.root() == root, f"two trees of size {size} were signed, or one that never stood"
