"""tessera's fsck, which knows nothing of us, on our log: served over TLS from PostgreSQL, and exported as a directory of files."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from clients.demo.certificate import make_certificate
from clients.demo.postgres import run_sql
from gatekeeper.api.listen import open_listener, serve_app
from gatekeeper.log_export import export_log
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment
from gatekeeper.postgres import open_database
from gatekeeper.postgres.log_rows import open_log_rows
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint, parse_checkpoint
from gatekeeper.tlog.entry import ConfigEntry, encode_entry
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import Note, encode_note, parse_note
from gatekeeper.tlog.signature import NoteSignature, ed25519_vkey
from gatekeeper.tlog.tile import entries_path, tile_path
from tests.fakes import log_directory
from tests.fakes.api import running_api, until
from tests.fakes.log_peers import fsck, static_server
from tests.fakes.running_log import ORIGIN, log_key
from tests.fakes.vault import FakeLogVault

pytestmark = [pytest.mark.peer, pytest.mark.anyio]
ENTRIES = 10_000
CALLERS = 64


@asynccontextmanager
async def served_over_tls(url, directory):
    """The public application over TLS on a PostgreSQL of 10,000 entries."""
    make_certificate(directory / "tls", "peer tests")
    vault = FakeLogVault()
    async with open_database(url) as database, running_api(vault=vault, store=database.log(ORIGIN), listener=_listener(directory)) as api:
        api.vault, api.ca, api.key = vault, directory / "tls" / "ca.pem", await log_key(vault)
        api.url = f"https://127.0.0.1:{api.port}/log/"
        await append(api.log, ENTRIES)
        yield api


def _listener(directory):
    return open_listener("127.0.0.1", 0, certificate=directory / "tls" / "tls.pem", key=directory / "tls" / "tls.key")


async def append(log, count):
    """Append so many entries, many at once, and wait for the checkpoint that covers them."""
    numbers, last = iter(range(count)), 0

    async def write():
        nonlocal last
        for _ in numbers:
            entry = _entry()
            where = await log.append(encode_entry(entry), entry_id=entry.entry_id, kind=entry.KIND.value)
            last = max(last, where.index)

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(write)
    await log.prove(last)


def _entry():
    at, digest = parse_moment("2026-11-21T10:04:05Z"), digest_of(secrets.token_bytes(16))
    return ConfigEntry(
        entry_id=secrets.token_hex(16), origin=ORIGIN, at=at, config=None, who=(), previous=None, commit=secrets.token_hex(20), digest=digest
    )


async def test_the_served_log_of_ten_thousand_entries_is_sound_and_stays_so_while_it_grows(database_url, tmp_path):
    async with served_over_tls(database_url, tmp_path) as api:
        old = api.log.published().note
        before = open_checkpoint(old, api.key)
        found = await fsck(api.url, api.key, tmp_path, ca=api.ca)
        assert (found.size, found.root) == (before.size, before.root), found.fault
        assert found.size >= ENTRIES

        sizes = [before.size]
        async with trio.open_nursery() as nursery:

            async def grow():
                for _ in itertools.count():
                    await append(api.log, 37)

            nursery.start_soon(grow)
            for _ in range(3):
                await until(lambda: api.log.published().size > sizes[-1])
                found = await fsck(api.url, api.key, tmp_path, ca=api.ca)
                assert found.fault == ""
                sizes.append(found.size)
            nursery.cancel_scope.cancel()
        assert sizes == sorted(set(sizes))

        # Whoever holds the old checkpoint still finds the partial tiles of its size.
        listener, stop = _listener(tmp_path), trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_app, _with_checkpoint(api.app, old), [listener], stop)
            found = await fsck(f"https://127.0.0.1:{listener.port}/log/", api.key, tmp_path, ca=api.ca)
            stop.set()
        assert (found.size, found.root) == (before.size, before.root), found.fault


def _with_checkpoint(app, note):
    async def answer(scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/log/checkpoint":
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(note)).encode())]})
        await send({"type": "http.response.body", "body": note})

    return answer


async def test_a_row_changed_behind_the_gatekeeper_is_found_through_the_public_address(database_url, tmp_path):
    async with served_over_tls(database_url, tmp_path) as api:
        assert (await fsck(api.url, api.key, tmp_path, ca=api.ca)).fault == ""
        changed = "update log_entry set body = set_byte(body, 17, get_byte(body, 17) # 1) where idx = 7001"
        run_sql(database_url, f"alter table log_entry disable trigger user; {changed}; alter table log_entry enable trigger user;")
        found = await fsck(api.url, api.key, tmp_path, ca=api.ca)
        assert f"{tile_path(0, 7001 // 256)}: log has" in found.fault


async def test_who_does_not_know_our_ca_or_our_key_learns_nothing(database_url, tmp_path):
    async with served_over_tls(database_url, tmp_path) as api:
        assert "certificate signed by unknown authority" in (await fsck(api.url, api.key, tmp_path)).fault
        other = ed25519_vkey(ORIGIN, bytes(31) + b"\x01")
        assert "failed to fetch and verify checkpoint" in (await fsck(api.url, other, tmp_path, ca=api.ca)).fault


@pytest.fixture
async def exported(database_url, tmp_path):
    """The directory that `export-log` writes of a log of 10,000 entries, in two runs, and the key."""
    vault, directory = FakeLogVault(), tmp_path / "exported"
    async with open_database(database_url) as database, running_api(vault=vault, store=database.log(ORIGIN)) as api:
        key = await log_key(vault)
        for count in (ENTRIES - 1234, 1234):
            await append(api.log, count)
            async with open_log_rows(database_url, key) as rows:
                await export_log(await rows.newest_cosigned(LogPolicy(log=key)), rows.bodies, directory, key)
    return directory, key, vault


async def test_the_exported_directory_is_sound_as_files_and_behind_a_static_server(exported, tmp_path):
    directory, key, _ = exported
    checkpoint = open_checkpoint((directory / "checkpoint").read_bytes(), key)
    assert checkpoint.size > ENTRIES
    with static_server(directory) as url:
        for source in (f"file://{directory}", url):
            found = await fsck(source, key, tmp_path)
            assert (found.size, found.root) == (checkpoint.size, checkpoint.root), found.fault


async def test_each_changed_byte_of_the_exported_directory_is_found_and_named(exported, tmp_path):
    directory, key, vault = exported
    size = open_checkpoint((directory / "checkpoint").read_bytes(), key).size
    last = size // 256
    for path, at, words in (
        (entries_path(0), 2, f"{tile_path(0, 0)}: log has"),
        (entries_path(11), 300, f"{tile_path(0, 11)}: log has"),
        (entries_path(12), 0, "unmarshal"),
        (entries_path(last, size % 256), 40, f"{tile_path(0, last, size % 256)}: log has"),
        (tile_path(0, 20), 8191, f"{tile_path(0, 20)}: log has"),
        (tile_path(0, last, size % 256), 0, f"{tile_path(0, last, size % 256)}: log has"),
        (tile_path(1, 0, last), 32 * 5, f"{tile_path(1, 0, last)}: log has"),
        ("checkpoint", len(ORIGIN) + 1, "failed to fetch and verify checkpoint"),
    ):
        with _changed(directory / path, at):
            assert words in (await fsck(f"file://{directory}", key, tmp_path)).fault, path
    for path, words in ((entries_path(3), "no such file"), (tile_path(0, 3), "no such file"), ("checkpoint", "no such file")):
        with _kept(directory / path) as file:
            file.unlink()
            assert words in (await fsck(f"file://{directory}", key, tmp_path)).fault, path
    with _kept(directory / "checkpoint") as file:
        file.write_bytes(await _another_root(file.read_bytes(), vault))
        assert "but checkpoint claims" in (await fsck(f"file://{directory}", key, tmp_path)).fault
    assert (await fsck(f"file://{directory}", key, tmp_path)).fault == ""


async def _another_root(note: bytes, vault) -> bytes:
    """What whoever holds the log's key can sign: the same size, and a root that is not the tree's."""
    parsed = parse_note(note)
    checkpoint = parse_checkpoint(parsed.text)
    text = encode_checkpoint(Checkpoint(checkpoint.origin, checkpoint.size, bytes(32)))
    (line,) = parsed.signatures
    return encode_note(Note(text, (NoteSignature(line.name, line.key_id, await vault.sign(text)),)))


@contextmanager
def _changed(file: Path, at: int) -> Iterator[None]:
    with _kept(file):
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
        yield


@contextmanager
def _kept(file: Path) -> Iterator[Path]:
    data = file.read_bytes()
    try:
        yield file
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537])
async def test_every_odd_size_has_the_tiles_that_a_stranger_expects(size, tmp_path):
    log = [number.to_bytes(4) for number in range(size)]
    directory = log_directory.write(log_directory.served(log), tmp_path / "log")
    found = await fsck(f"file://{directory}", log_directory.VKEY, tmp_path)
    assert (found.size, found.root) == (size, open_checkpoint(log_directory.note(log), log_directory.VKEY).root), found.fault
