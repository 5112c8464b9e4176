"""`export-log`: the log as a directory that any static file server serves as C2SP tlog-tiles.

The layout of the directory is that of the URLs: `checkpoint`, `tile/<level>/...`, `tile/entries/...`. Every tile is made anew from the
entries, so the directory agrees with itself and with the signed root, or no checkpoint is written.

Order, so that a crash at any line leaves the log of the checkpoint that was there: full tiles and bundles, each written beside its place,
synced and renamed; the partial ones of the new size; the root compared with the signed one; the directories synced; the checkpoint, by
rename. Only then the partial tiles that are full now are removed, as tlog-tiles allows; after a crash just there they stay, harmless.

A later run goes on from the checkpoint in the directory and writes what is new. Nothing below that checkpoint is written again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from gatekeeper.ports.log import LogRefused
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import MAX_NOTE
from gatekeeper.tlog.signature import VerifierKey
from gatekeeper.tlog.tile import TILE_BYTES, TILE_WIDTH, TileAddress, TileEdge, encode_bundle, tile_width, tiles_of

BUNDLES: Final = 16
"""Bundles read from the database at once."""


ReadEntries: TypeAlias = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""The entries [start, stop); fewer where rows are missing."""


@dataclass(frozen=True)
class Exported:
    """What a run did: `before` is the size that the directory had, `files` how many files it wrote."""

    origin: str
    size: int
    before: int
    files: int


async def export_log(newest: VerifiedCheckpoint, read: ReadEntries, directory: Path, *keys: VerifierKey) -> Exported:
    """Bring the directory to the newest checkpoint that may be shown; makes it where it is not there. `keys` may have signed the one in it.

    Raises `LogRefused` where the directory's checkpoint is not of this log, is ahead of the database or not a prefix of it, and where the
    rows do not have the signed root; then the directory's checkpoint stands as it was. `OSError` where it cannot be written.
    """
    with _locked(directory):
        files = _Files(directory)
        before = files.checkpoint(keys)
        edge = files.edge(before.size) if before else TileEdge()
        if before and edge.root() != before.root:
            raise _refused(f"the tiles in {directory} do not have the root of its checkpoint: export into an empty directory")
        if newest.size < edge.size:
            raise _refused(f"{directory} holds a signed checkpoint of {edge.size} entries, the database's newest has {newest.size}: it was rewound")
        first = edge.size // TILE_WIDTH
        for start in range(first, -(-newest.size // TILE_WIDTH), BUNDLES):
            stop = min((start + BUNDLES) * TILE_WIDTH, newest.size)
            entries = await read(start * TILE_WIDTH, stop)
            if len(entries) != stop - start * TILE_WIDTH:
                raise _refused(f"rows are missing below entry {stop}: run `pingee-gatekeeper log fsck`")
            edge = files.extend(edge, start, entries, newest.size)
        if edge.root() != newest.root:
            raise _refused(f"the rows do not have the root that was signed at size {newest.size}: run `pingee-gatekeeper log fsck`")
        files.publish(edge, newest)
        if before:
            files.remove_filled(before.size, newest.size)
        return Exported(newest.origin, newest.size, before.size if before else 0, files.written)


class _Files:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._touched: set[Path] = set()
        self.written = 0

    def checkpoint(self, keys: tuple[VerifierKey, ...]) -> VerifiedCheckpoint | None:
        note = self._read("checkpoint", MAX_NOTE)
        if note is None:
            return None
        try:
            return open_checkpoint(note, *keys)
        except TlogError as error:
            raise _refused(f"{self._directory / 'checkpoint'} is no checkpoint signed by {keys[0].name}: {error}") from None

    def edge(self, size: int) -> TileEdge:
        """The right edge of the tree that the directory holds."""
        levels: list[bytes] = []
        while size >> (8 * len(levels)):
            level = len(levels)
            n = (size >> (8 * level)) // TILE_WIDTH
            width = tile_width(level, n, size)
            levels.append((self._read(TileAddress(level, n, width).path, TILE_BYTES) or b"") if width else b"")
        try:
            return TileEdge(size, tuple(levels))
        except TlogError:
            raise _refused(f"{self._directory} lacks tiles below its own checkpoint: export into an empty directory") from None

    def extend(self, edge: TileEdge, first: int, entries: Sequence[bytes], size: int) -> TileEdge:
        """Write the bundles from number `first` on, and each tile that they fill."""
        for n, at in enumerate(range(0, len(entries), TILE_WIDTH), first):
            bundle = entries[at : at + TILE_WIDTH]
            leaves = [leaf_hash(entry) for entry in bundle]
            known = edge.size - n * TILE_WIDTH
            if known and b"".join(leaves[:known]) != edge.partial[0]:
                raise _refused(f"rows below entry {edge.size} are not those that were exported: run `pingee-gatekeeper log fsck`")
            if known == len(leaves):
                break
            self._write(TileAddress(None, n, tile_width(0, n, size)).path, encode_bundle(bundle))
            edge, full = edge.extend(leaves[known:])
            for tile in full:
                self._write(tile.address.path, tile.data)
        return edge

    def publish(self, edge: TileEdge, newest: VerifiedCheckpoint) -> None:
        for tile in edge.partial_tiles():
            self._write(tile.address.path, tile.data)
        for directory in sorted(self._touched):
            _sync(directory)
        self._write("checkpoint", newest.note)
        _sync(self._directory)

    def remove_filled(self, before: int, size: int) -> None:
        partial = tiles_of(before)
        for tile in (*partial, *(TileAddress(None, tile.n, tile.width) for tile in partial if tile.level == 0)):
            if tile_width(tile.level or 0, tile.n, size) == TILE_WIDTH:
                shutil.rmtree((self._directory / tile.path).parent)

    def _read(self, path: str, most: int) -> bytes | None:
        try:
            with (self._directory / path).open("rb") as file:
                return file.read(most + 1)
        except FileNotFoundError:
            return None

    def _write(self, path: str, data: bytes) -> None:
        place = self._directory / path
        if self._read(path, len(data)) == data:
            return
        self._make(place.parent)
        beside = place.with_name(f".{place.name}.new")
        with beside.open("wb") as file:
            # Whoever serves the directory is another user than the gatekeeper; all of it is public.
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(place)
        self._touched.add(place.parent)
        self.written += 1

    def _make(self, directory: Path) -> None:
        if directory != self._directory and not directory.is_dir():
            self._make(directory.parent)
            directory.mkdir()
            directory.chmod(0o755)
            self._touched.add(directory.parent)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(None, "another export writes there", str(directory)) from None
        yield
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(detail: str) -> LogRefused:
    return LogRefused("log-refused", detail)
