"""`pingee log tail` and `log query`: look into the log, and believe no entry that the signed checkpoint does not cover."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.indexed import entry_fields
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned
from gatekeeper.tlog.merkle import CompactRange, leaf_hash, nodes_for_root
from gatekeeper.tlog.proof import parse_proof, verify_proof
from gatekeeper.tlog.tile import TILE_WIDTH, TileAddress, node_from_tile, parse_bundle, tile_of_node, tile_width

from .exits import Exit, Failure
from .logsource import LogSource, newest, served_log, trusted
from .output import print_json, safe, say
from .server import Server

LOOK_S: Final = 2.0
OMITS: Final = "the index may omit, the log cannot"
_PAGE: Final = 200


def tail(server: Server, arguments: Namespace) -> Exit:
    """The newest entries, and with `--follow` those that come: all of them hash to the root of a checkpoint that continues the one before."""
    if arguments.follow and arguments.output == "json":
        raise Failure(Exit.USAGE, "what is followed has no end, so it is no JSON document: -o jsonl")
    source = served_log(server)
    policy = trusted(arguments, source).now
    checkpoint = newest(source, policy)
    seen = _tree_at(source, checkpoint, max(0, checkpoint.size - max(0, arguments.n)))
    writer = _Writer(arguments.output)
    while True:
        grown = _grown(source, seen, checkpoint)
        seen = seen.extend([leaf_hash(entry) for _, entry in grown])
        for index, entry in grown:
            fields = entry_fields(entry)
            if arguments.kind is None or (fields is not None and fields.kind == arguments.kind):
                writer.entry(index, entry)
        writer.flush(end=not arguments.follow)
        if not arguments.follow:
            return Exit.OK
        checkpoint = _next(source, policy, seen)


def _next(source: LogSource, policy: LogPolicy, seen: CompactRange) -> VerifiedCheckpoint:
    """The next checkpoint that covers more. What is smaller, or of another tree, ends it; a server that is away is asked again."""
    while True:
        time.sleep(LOOK_S)
        try:
            checkpoint = newest(source, policy)
        except Failure as failure:
            if failure.exit_code is not Exit.REMOTE:
                raise
            say(f"pingee: {failure}; asking again")
            continue
        if checkpoint.size < seen.size or (checkpoint.size == seen.size and checkpoint.root != seen.root()):
            raise Failure(Exit.DENIED, f"ALARM: the log of {seen.size} entries that was shown before is no part of this one, of {checkpoint.size}")
        if checkpoint.size > seen.size:
            return checkpoint


def _tree_at(source: LogSource, checkpoint: VerifiedCheckpoint, size: int) -> CompactRange:
    """The first `size` entries as hashes of the server's; they are believed only when they lead to a signed root (`_grown`)."""
    try:
        hashes = []
        for level, n in nodes_for_root(size):
            hashes.append(node_from_tile(_part(source, tile_of_node(level, n, checkpoint.size)), level, n))
        return CompactRange(size, tuple(hashes))
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the server's tiles do not fit its checkpoint: {error}") from None


def _grown(source: LogSource, seen: CompactRange, checkpoint: VerifiedCheckpoint) -> list[tuple[int, bytes]]:
    """The entries after `seen`, up to the checkpoint; its root is that of both together, or nothing is given."""
    found: list[tuple[int, bytes]] = []
    try:
        for n in range(seen.size // TILE_WIDTH, -(-checkpoint.size // TILE_WIDTH)):
            width = tile_width(0, n, checkpoint.size)
            bundle = parse_bundle(_part(source, TileAddress(None, n, width)))[:width]
            if len(bundle) != width:
                raise Failure(Exit.DENIED, f"the server keeps back entry {n * TILE_WIDTH + len(bundle)}, which its own checkpoint covers")
            found += [(index, entry) for index, entry in enumerate(bundle, n * TILE_WIDTH) if index >= seen.size]
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the server's entries are no bundle: {error}") from None
    if seen.extend([leaf_hash(entry) for _, entry in found]).root() != checkpoint.root:
        raise Failure(Exit.DENIED, f"NOT verified: entries {seen.size} to {checkpoint.size - 1} are not those that the checkpoint was signed over")
    return found


def _part(source: LogSource, address: TileAddress) -> bytes:
    data = source.fetch(address)
    if data is None and address.width < TILE_WIDTH:
        data = source.fetch(TileAddress(address.level, address.n))  # partial ones may go once the full one is there
    if data is None:
        raise Failure(Exit.DENIED, f"the server has no {address.path}, which its own checkpoint covers")
    return data


def query(server: Server, arguments: Namespace) -> Exit:
    """What the server's index finds, each hit checked by its proof, and how much of the log the index has read."""
    policy = trusted(arguments, served_log(server)).now
    names = ("kind", "environment", "component", "person", "since")
    asked = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    writer = _Writer(arguments.output)
    size = indexed = 0
    people: dict[str, str] = {}
    for page in _pages(server, asked, arguments.n):
        size, indexed = max(size, _checkpoint_size(page.note, policy)), max(indexed, page.indexed)
        people |= page.people
        for index, body in page.items:
            _check(server, policy, index, body)
            writer.entry(index, body)
    counts = {"indexed": indexed, "tree_size": size, "says": OMITS, **({"people": people} if people else {})}
    writer.flush(counts)
    read = "all of them" if indexed >= size else f"{size - indexed} not yet"
    say(f"{OMITS}: it has read {indexed} of {size} entries, {read}; pingee log fsck reads every one")
    return Exit.OK


@dataclass(frozen=True)
class _Page:
    """What the server answered; nothing in it is checked but its form."""

    items: tuple[tuple[int, bytes], ...]
    note: bytes
    indexed: int
    people: dict[str, str]
    next: str | None


def _pages(server: Server, asked: dict[str, str], most: int) -> Iterator[_Page]:
    cursor: str | None = None
    while most > 0:
        words = {**asked, "limit": str(min(_PAGE, most)), **({} if cursor is None else {"cursor": cursor})}
        page = _parse_page(server.get("/v1/entries?" + urlencode(words)))
        yield page
        most -= len(page.items)
        cursor = page.next
        if cursor is None or not page.items:
            return


def _parse_page(answer: Any) -> _Page:
    try:
        items = tuple((int(item["index"]), str(item["body"]).encode()) for item in answer["items"])
        people = {str(pseudonym): str(name) for pseudonym, name in answer.get("people", {}).items()}
        return _Page(items, answer["checkpoint"].encode(), int(answer["indexed"]), people, answer["next"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Failure(Exit.REMOTE, "the server's answer is no list of entries") from None


def _checkpoint_size(note: bytes, policy: LogPolicy) -> int:
    try:
        return open_cosigned(note, policy).size
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the checkpoint does not verify: {error}") from None


def _check(server: Server, policy: LogPolicy, index: int, body: bytes) -> None:
    try:
        if verify_proof(parse_proof(server.get_bytes(f"/log/proof/{index}")), body, policy).index == index:
            return
        why = "its proof is of another entry"
    except TlogError as error:
        why = str(error)
    raise Failure(Exit.DENIED, f"NOT verified: the index shows an entry {index} that the log does not have: {why}")


class _Writer:
    """Entries as they are asked for: lines for people, JSON lines as they come, or one document at the end."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._items: list[dict[str, object]] = []
        if output == "jsonl":
            self._line({"kind": "Stream", "apiVersion": "pingee/v1"})

    def entry(self, index: int, entry: bytes) -> None:
        text = entry.decode("utf-8", "backslashreplace")
        if self._output == "table":
            print(f"{index}\t{safe(text)}")
        elif self._output == "jsonl":
            self._line({"kind": "Entry", "index": index, "body": text})
        else:
            self._items.append({"index": index, "body": text})

    def flush(self, counts: dict[str, object] | None = None, *, end: bool = True) -> None:
        if self._output == "json" and end:
            print_json({"apiVersion": "pingee/v1", "kind": "EntryList", "items": self._items, **(counts or {})})
        elif self._output == "jsonl" and counts is not None:
            self._line({"kind": "summary", **counts})
        sys.stdout.flush()

    def _line(self, document: dict[str, object]) -> None:
        # ASCII: what would move a cursor is an escape.
        sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")
        sys.stdout.flush()
