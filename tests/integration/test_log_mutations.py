"""Whatever is done to a log, a reader with the verifier key and one older checkpoint finds it: in the database's own rows, in an exported
directory, and over HTTP. Attack matrix, row 118."""

import asyncio
import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import asyncpg
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.cli.main import main
from clients.demo.certificate import make_certificate
from gatekeeper.log_export import export_log
from gatekeeper.ports.log import LogRefused, NewEntry, NewTile
from gatekeeper.postgres import open_database
from gatekeeper.postgres.log_check import check_rows
from gatekeeper.postgres.log_rows import open_log_rows
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, parse_note
from gatekeeper.tlog.tile import TileEdge
from tests.fakes import log_directory
from tests.fakes.log_directory import ORIGIN, VKEY

pytestmark = pytest.mark.xdist_group("log-mutations")  # one worker, one export

SIZE, OLDER = 600, 300
LOG = log_directory.entries(SIZE)
OTHER = log_directory.entries(SIZE + 1, cut="b")
THIEF = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x66")


def swapped(entries, left, right):
    entries = list(entries)
    entries[left], entries[right] = entries[right], entries[left]
    return tuple(entries)


def replaced(entries, index, body):
    return (*entries[:index], body, *entries[index + 1 :])


def by_thief(entries):
    """A checkpoint under the log's name by another key."""
    text = parse_note(log_directory.note(entries)).text
    key = ed25519_vkey(ORIGIN, THIEF.public_key().public_bytes_raw())
    return encode_note(Note(text, (NoteSignature(ORIGIN, key.key_id, THIEF.sign(text)),)))


def of_other_origin(body):
    return body.replace(b"production.example", b"elsewhere1.example")


@dataclass(frozen=True)
class Deed:
    """What a stranger finds: `rows` by index, tiles over `tree`, `note`; `tiles` are single tiles of level 0 in the place of those."""

    rows: dict = field(default_factory=lambda: dict(enumerate(LOG)))
    tree: tuple = LOG
    note: bytes = log_directory.note(LOG)
    tiles: dict = field(default_factory=dict)


def tiles_over(entries):
    edge, full = TileEdge().extend(map(leaf_hash, entries))
    return {(tile.address.level, tile.address.n): tile.data for tile in full}, edge


HONEST, _ = tiles_over(LOG)
EDITED = replaced(LOG, 70, LOG[70].replace(b"2026-11-21", b"2026-11-22"))
TWICE = replaced(LOG, 400, LOG[69])
STRANGE = replaced(LOG, 400, of_other_origin(LOG[400]))
FORK = (*LOG[:200], *OTHER[200:SIZE])
WITHOUT = {index: body for index, body in enumerate(LOG) if index != 70}

# deed; then for a served copy and for rows: fault, first, end
TABLE = {
    "nothing": (Deed(), None, None),
    "an edited byte": (Deed(dict(enumerate(EDITED))), ("entry-changed", 70, 71), ("entry-changed", 70, 71)),
    "a deleted row": (Deed(WITHOUT), ("entry-changed", 70, 71), ("entry-missing", 70, 71)),
    "an inserted row": (Deed(dict(enumerate((*LOG[:70], OTHER[SIZE], *LOG[70:-1])))), ("entry-changed", 70, 71), ("entry-changed", 70, 71)),
    "two rows reordered": (Deed(dict(enumerate(swapped(LOG, 70, 71)))), ("entry-changed", 70, 71), ("entry-changed", 70, 71)),
    "rows of two bundles reordered": (Deed(dict(enumerate(swapped(LOG, 70, 580)))), ("entry-changed", 70, 71), ("entry-changed", 70, 71)),
    "the tail's rows cut": (Deed(dict(enumerate(LOG[:590]))), ("entry-missing", 590, 600), ("entry-missing", 590, 600)),
    "an older copy restored": (
        Deed(dict(enumerate(LOG[:200])), LOG[:200], log_directory.note(LOG[:200])), ("older-is-larger", 200, 300), ("older-is-larger", 200, 300)),
    "an older copy restored, and grown anew": (
        Deed(dict(enumerate(FORK)), FORK, log_directory.note(FORK)), ("not-prefix", 0, 300), ("not-prefix", 0, 300)),
    "two tiles swapped": (
        Deed(tiles={0: HONEST[0, 1], 1: HONEST[0, 0]}), ("entry-changed", 0, 1), ("entry-changed", 0, 1)),
    "a tile truncated": (Deed(tiles={1: HONEST[0, 1][:-32]}), ("tile-changed", 256, 512), ("tile-changed", 256, 512)),
    "an entry edited with its tile": (
        Deed(dict(enumerate(EDITED)), tiles={0: tiles_over(EDITED)[0][0, 0]}), ("not-prefix", 0, 300), ("not-prefix", 0, 300)),
    "an entry edited with all tiles above": (Deed(dict(enumerate(EDITED)), EDITED), ("not-prefix", 0, 300), ("not-prefix", 0, 300)),
    "the signer repeats an entry": (
        Deed(dict(enumerate(TWICE)), TWICE, log_directory.note(TWICE)), ("entry-repeated", 400, 401), ("entry-repeated", 400, 401)),
    "the signer takes another log's entry": (
        Deed(dict(enumerate(STRANGE)), STRANGE, log_directory.note(STRANGE)), ("entry-origin", 400, 401), ("entry-origin", 400, 401)),
}  # fmt: skip
FORGED = {
    "a checkpoint by another key": by_thief(LOG),
    "a checkpoint changed after it was signed": log_directory.note(LOG).replace(b"\n600\n", b"\n599\n"),
    "a checkpoint of another origin": log_directory.note(LOG).replace(b"production.example", b"elsewhere1.example"),
}


def sql(url, *statements):
    async def run():
        connection = await asyncpg.connect(url)
        try:
            # what a database administrator can do: our triggers stop nobody
            await connection.execute("set session_replication_role = replica")
            for statement, *values in statements:
                await connection.execute(statement, *values)
        finally:
            await connection.close()

    asyncio.run(run())


def fill(url):
    """The honest log, as the sequencer's store writes it."""

    async def run():
        async with open_database(url) as database:
            store, edge = database.log(ORIGIN), TileEdge()
            await store.load_head()
            for start, stop in ((0, OLDER), (OLDER, SIZE)):
                part = LOG[start:stop]
                new, full = edge.extend(map(leaf_hash, part))
                rows = [NewEntry(i, parse_entry(b).entry_id, "config", b, leaf_hash(b)) for i, b in enumerate(part, start)]
                tiles = [NewTile(tile.address.level, tile.address.n, tile.data) for tile in full]
                await store.append_batch(edge.range(), rows, tiles, new.range())
                await store.save_checkpoint(stop, log_directory.note(LOG[:stop]))
                edge = new

    trio.run(run)


def export(url, directory):
    async def run():
        async with open_log_rows(url, VKEY) as rows:
            await export_log(await rows.newest_cosigned(LogPolicy(VKEY)), rows.bodies, directory, VKEY)

    trio.run(run)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def done_to_rows(url, deed):
    """Bring the tables to what the deed leaves."""
    column = {index: leaf_hash(body) for index, body in deed.rows.items()}
    changed = [(i, b) for i, b in deed.rows.items() if b != LOG[i]]
    size = open_checkpoint(deed.note, VKEY).size
    tiles = tiles_over(deed.tree)[0] | {(0, n): data for n, data in deed.tiles.items()}
    statements = [
        ("alter table log_entry drop constraint log_entry_log_entry_id_key",),
        ("alter table log_tile drop constraint log_tile_data_check",),
        ("delete from log_entry where idx <> all($1::bigint[])", list(deed.rows)),
        ("delete from log_tile where (level, n) not in (select * from unnest($1::smallint[], $2::bigint[]))", *map(list, zip(*tiles, strict=True))) if tiles else ("delete from log_tile",),
        *(("update log_tile set data = $3 where level = $1 and n = $2", *at, data) for at, data in tiles.items() if data != HONEST.get(at)),
        *(("update log_entry set body = $2, leaf_hash = $3, entry_id = $4 where idx = $1", i, b, column[i], json.loads(b)["entry_id"]) for i, b in changed),
        ("delete from checkpoint where size > $1 or ($1 = 600 and $2)", size, deed.note != log_directory.note(LOG)),
    ]  # fmt: skip
    if deed.note != log_directory.note(LOG):
        statements.append(("insert into checkpoint (log, size, note) select id, $1, $2 from log", size, deed.note))
    sql(url, *statements)


def done_to_files(files, deed):
    """The files of the deed: those of the export, but where the deed changed them."""
    bodies = list(deed.rows.values())
    served = log_directory.served(deed.tree)
    kept = {path: data for path, data in served.items() if "entries" not in path}
    bundles = log_directory.served(tuple(bodies))
    kept |= {path: data for path, data in bundles.items() if "entries" in path}
    size = open_checkpoint(deed.note, VKEY).size
    if len(bodies) < size:
        # the last bundle stands where the checkpoint says, and is short
        width, last = len(bodies) % 256, size % 256
        kept[f"tile/entries/002.p/{last}"] = kept.pop(f"tile/entries/002.p/{width}")
    kept |= {f"tile/0/{n:03}": data for n, data in deed.tiles.items()} | {"checkpoint": deed.note}
    return {path: files[path] if files.get(path) == data else data for path, data in kept.items() if not path.startswith("proof/")}


@pytest.fixture
def older(tmp_path):
    path = tmp_path / "older"
    path.write_bytes(log_directory.note(LOG[:OLDER]))
    return path


@pytest.fixture
def fsck(tmp_path, capsys):
    """`pingee log fsck` of a source; exit code, report, words."""
    (tmp_path / "policy").write_bytes(log_directory.POLICY)

    def fsck(source, *words):
        code = main(["log", "fsck", str(source), "--log-policy", str(tmp_path / "policy"), "-o", "json", *map(str, words)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return fsck


@pytest.fixture(scope="module")
def exported(postgres_server, tmp_path_factory):
    """The files of `export-log` over the honest rows."""
    name, url = postgres_server.fresh()
    try:
        fill(url)
        return export(url, tmp_path_factory.mktemp("exported") / "log")
    finally:
        postgres_server.drop(name)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A static file server over TLS: `(URL of the log, CA file, the files it serves)`."""
    certificates, files = tmp_path_factory.mktemp("tls"), {}
    make_certificate(certificates, "a CA of the test")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            data = files.get(self.path.removeprefix("/some/log/"))
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/some/log", certificates / "ca.pem", files
    server.shutdown()
    server.server_close()
    thread.join(10)


def judged(code, report, expected):
    """The fault is the expected one, at its place; and what is said of the tail, which is compared bundle by bundle."""
    fault = report["fault"]
    assert (fault and (fault["fault"], fault["first"], fault["end"])) == expected
    assert (code, report["sound"]) == ((3, False) if expected else (0, True))
    compared = expected is None or expected[0] == "entry-repeated" or expected[1] >= 512
    words = "the older checkpoint is a prefix" if compared else "not shown: the check ended before the older checkpoint was compared"
    assert report["tail"] == words


@pytest.mark.parametrize("name", TABLE)
def test_in_an_exported_directory(tmp_path, fsck, exported, older, name):
    deed, expected, _ = TABLE[name]
    files = done_to_files(exported, deed)
    assert (files == exported) == (name == "nothing")
    code, report, _ = fsck(log_directory.write(files, tmp_path / "log"), "--since", older)
    judged(code, report, expected)


@pytest.mark.parametrize("name", TABLE)
def test_over_http(fsck, web, exported, older, name):
    deed, expected, _ = TABLE[name]
    url, ca, files = web
    files.clear()
    files |= done_to_files(exported, deed)
    code, report, _ = fsck(url, "--ca-file", ca, "--since", older)
    judged(code, report, expected)


@pytest.mark.parametrize("name", TABLE)
def test_in_the_rows_themselves(database_url, name):
    deed, _, expected = TABLE[name]
    fill(database_url)
    done_to_rows(database_url, deed)

    async def check(older):
        return (await check_rows(database_url, VKEY, older=older)).report

    report = trio.run(check, open_checkpoint(log_directory.note(LOG[:OLDER]), VKEY))
    assert (report.fault and (report.fault.fault.value, report.fault.first, report.fault.end)) == expected, report.fault
    assert report.sound == (expected is None)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_checkpoint_is_refused_by_every_reader(tmp_path, fsck, web, exported, older, database_url, name):
    files = exported | {"checkpoint": FORGED[name]}
    url, ca, shown = web
    shown.clear()
    shown |= files
    for source, words in ((log_directory.write(files, tmp_path / "log"), ()), (url, ("--ca-file", ca))):
        code, report, err = fsck(source, "--since", older, *words)
        assert (code, report) == (3, None)
        assert "the checkpoint does not verify" in err
    fill(database_url)
    sql(database_url, ("update checkpoint set note = $1 where size = 600", FORGED[name]))
    with pytest.raises(LogRefused, match="is not signed by the log's key"):
        trio.run(check_rows, database_url, VKEY)


@pytest.mark.parametrize("name", ["an older copy restored", "an older copy restored, and grown anew"])
def test_without_an_older_checkpoint_a_cut_tail_cannot_be_told_and_that_is_said_in_words(tmp_path, fsck, web, exported, database_url, name):
    deed = TABLE[name][0]
    files = done_to_files(exported, deed)
    url, ca, shown = web
    shown.clear()
    shown |= files
    for source, words in ((log_directory.write(files, tmp_path / "log"), ()), (url, ("--ca-file", ca))):
        code, report, _ = fsck(source, *words)
        assert (code, report["sound"], report["tail"]) == (0, True, "cannot tell: no older checkpoint")
    fill(database_url)
    sql(database_url, ("delete from checkpoint where size = 300",))
    done_to_rows(database_url, deed)
    report = trio.run(check_rows, database_url, VKEY).report
    assert (report.sound, report.tail.value) == (True, "cannot tell: no older checkpoint")


def test_an_export_of_rows_that_were_meddled_with_shows_no_new_checkpoint(tmp_path, database_url):
    fill(database_url)
    done_to_rows(database_url, TABLE["an entry edited with all tiles above"][0])
    with pytest.raises(LogRefused, match="do not have the root that was signed at size 600"):
        trio.run(_exporting, database_url, tmp_path / "log")
    assert not (tmp_path / "log" / "checkpoint").exists()


async def _exporting(url, directory):
    async with open_log_rows(url, VKEY) as rows:
        await export_log(await rows.newest_cosigned(LogPolicy(VKEY)), rows.bodies, directory, VKEY)
