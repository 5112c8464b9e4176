"""A blob that arrives in parts: it goes on where the connection broke, and is believed no earlier than it is hashed as a whole."""

from __future__ import annotations

import os

import h11
import httpx2
import pytest
import trio

from builder import submit
from builder.fault import BuildFault
from builder.outputs import Blob
from gatekeeper.adapters import uploads as adapter
from gatekeeper.adapters.uploads import open_uploads
from gatekeeper.api.listen import READ_TIMEOUT_S
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.ports.artifacts import BlobTooLarge
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.uploads import WrongOffset
from tests.fakes import signing
from tests.fakes.api import Stream, running_api, until
from tests.integration.test_api_streams_and_uploads import door

pytestmark = pytest.mark.anyio

DATA = os.urandom(3000)
DIGEST = digest_of(DATA)
NAME = f"{digest_hex(digest_of(signing.PROJECT.encode()))}-{digest_hex(DIGEST)}-{digest_hex(DIGEST)}"


@pytest.fixture
async def shelf(tmp_path):
    return await open_uploads(tmp_path / "uploads")


@pytest.fixture
async def api(shelf, anyio_backend):
    async with running_api(max_blob=4000, uploads=shelf) as running:
        yield running


def names(shelf) -> list[str]:
    return sorted(path.name for path in shelf._directory.iterdir())


async def part(api, path, data, where, token=None):
    return await api.ask("PATCH", path, token or api.run_token(), body=data, content_range=where)


async def test_parts_in_order_become_the_blob_and_nothing_stays_on_the_shelf(api, shelf):
    path = await door(api, DIGEST)
    for first in (0, 1000):
        answer = await part(api, path, DATA[first : first + 1000], f"bytes {first}-{first + 999}/3000")
        assert (answer.status, answer.json) == (202, {"offset": first + 1000})
        assert (await api.get(path, api.run_token())).json == {"offset": first + 1000}
    assert DIGEST not in api.house.artifacts.blobs
    answer = await part(api, path, DATA[2000:], "bytes 2000-2999/3000")
    assert (answer.status, answer.json) == (201, {"size": 3000})
    assert api.house.artifacts.blobs[DIGEST] == DATA
    assert names(shelf) == []


async def test_a_part_that_was_sent_before_or_too_early_is_told_where_to_go_on(api):
    path = await door(api, DIGEST)
    await part(api, path, DATA[:1000], "bytes 0-999/3000")
    for where in ("bytes 0-999/3000", "bytes 500-999/3000", "bytes 1001-1999/3000", "bytes */3000"):
        (await part(api, path, b"x" * 10, where)).refused(416, "range-not-satisfiable")
    assert "the bytes end at 1000" in (await part(api, path, b"x", "bytes 0-0/3000")).json["detail"]


async def test_what_came_before_the_connection_broke_stays(api, shelf):
    path = await door(api, DIGEST)
    stream = Stream(await trio.open_tcp_stream("127.0.0.1", api.port))
    headers = {"host": "x", "authorization": f"Bearer {api.run_token()}", "content-length": "3000", "content-range": "bytes 0-2999/3000"}
    await stream.send(h11.Request(method="PATCH", target=path, headers=list(headers.items())))
    await stream.send(h11.Data(data=DATA[:1200]))
    async with stream:
        await until(lambda: names(shelf) and (shelf._directory / NAME).stat().st_size == 1200)
        (await part(api, path, DATA[1200:], "bytes 1200-2999/3000")).refused(416, "range-not-satisfiable")  # another sender is at it
    answer = None
    with trio.fail_after(10):
        while answer is None or answer.status == 416:
            answer = await part(api, path, DATA[1200:], "bytes 1200-2999/3000")
    assert answer.status == 201
    assert api.house.artifacts.blobs[DIGEST] == DATA


async def test_wrong_bytes_are_refused_as_a_whole_and_forgotten(api, shelf):
    path = await door(api, DIGEST)
    (await part(api, path, b"x" * 3000, "bytes 0-2999/3000")).refused(422, "digest-mismatch")
    assert names(shelf) == []
    assert (await part(api, path, DATA, "bytes 0-2999/3000")).status == 201


async def test_what_is_complete_and_was_not_stored_is_finished_later(api, shelf):
    path = await door(api, DIGEST)
    api.house.artifacts.full = True
    (await part(api, path, DATA, "bytes 0-2999/3000")).refused(503, "registry-unavailable")
    api.house.artifacts.full = False
    answer = await part(api, path, b"", "bytes */3000")
    assert (answer.status, answer.json) == (201, {"size": 3000})
    assert names(shelf) == []


async def test_a_blob_goes_to_the_store_once_and_whoever_asks_again_waits_for_that(api, shelf, monkeypatch):
    path, go_on, began, put = await door(api, DIGEST), trio.Event(), [], api.house.artifacts.put
    answers = []

    async def slow(*args, **named):
        began.append(args[0])
        await go_on.wait()
        return await put(*args, **named)

    async def ask(data, where):
        answers.append((await part(api, path, data, where)).status)

    monkeypatch.setattr(api.house.artifacts, "put", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, DATA, "bytes 0-2999/3000")
        await until(lambda: began)
        for _ in range(2):
            nursery.start_soon(ask, b"", "bytes */3000")
        await until(lambda: api.app._app.finishing[NAME].statistics().tasks_waiting == 2)
        go_on.set()
    assert answers == [201] * 3
    assert began == [DIGEST]
    assert (names(shelf), api.app._app.finishing) == ([], {})


async def test_what_was_finished_is_finished(api, shelf):
    path = await door(api, DIGEST)
    assert (await part(api, path, DATA, "bytes 0-2999/3000")).status == 201
    assert (await part(api, path, b"", "bytes */3000")).status == 201, "the first answer may have been lost"
    (await part(api, path, b"", "bytes */2999")).refused(416, "range-not-satisfiable")
    (await part(api, path, b"", "bytes */0")).refused(400, "bad-request")
    assert names(shelf) == []


@pytest.mark.parametrize("where", [None, "", "bytes", "bytes 0-2999", "bytes 0-2999/*", "bytes -5/3000", "bytes 10-9/3000", "bytes 0-3000/3000", "items 0-1/3000", "bytes 0-1/3000,5", "bytes 0-1/1" + "0" * 20])
async def test_a_range_that_names_no_part_is_refused(api, shelf, where):
    (await part(api, await door(api, DIGEST), b"x", where) if where is not None else await api.ask("PATCH", await door(api, DIGEST), api.run_token(), body=b"x")).refused(400, "bad-request")
    assert names(shelf) == []


async def test_more_than_a_blob_may_have_is_refused_by_range_and_by_bytes(api, shelf):
    path = await door(api, DIGEST)
    (await part(api, path, b"x", "bytes 0-0/4001")).refused(413, "too-large")
    (await part(api, path, b"x" * 11, "bytes 0-9/3000")).refused(413, "too-large")
    assert names(shelf) in ([], [NAME])
    assert DIGEST not in api.house.artifacts.blobs


async def test_who_may_not_upload_learns_nothing_of_an_upload(api):
    path = await door(api, DIGEST)
    await part(api, path, DATA[:1000], "bytes 0-999/3000")
    for method in ("GET", "PATCH"):
        (await api.ask(method, path, content_range="bytes 1000-1000/3000")).refused(401, "unauthenticated")
        (await api.ask(method, path, api.token(), content_range="bytes 1000-1000/3000")).refused(403, "not-authorised")
        (await api.ask(method, path, api.run_token(commit="4" * 40), content_range="bytes 1000-1000/3000")).refused(404, "unknown-manifest")
        unnamed = path.replace(f"uploads/{DIGEST}", f"uploads/{digest_of(b'unnamed')}")
        (await api.ask(method, unnamed, api.run_token(), content_range="bytes 0-0/3000")).refused(404, "not-found")
    assert (await api.get(path, api.run_token())).json == {"offset": 1000}


# the builder's side


async def upload(api, blob, path) -> list[tuple[str, str | None]]:
    """Have the builder's code send a blob; the requests that came to the shelf's door."""
    asked, token = [], api.run_token()

    def send() -> None:
        hook = {"request": [lambda request: asked.append((request.method, request.headers.get("content-range")))]}
        with httpx2.Client(base_url=f"http://127.0.0.1:{api.port}", headers={"Authorization": f"Bearer {token}"}, event_hooks=hook) as client:
            submit._upload(submit._Door("test", client), path, blob, lambda _: None)

    with trio.fail_after(20):
        await trio.to_thread.run_sync(send)
    return asked


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(submit, "PART", 1000)


@pytest.mark.parametrize("in_file", [True, False])
async def test_the_builder_sends_what_is_large_in_parts_and_what_is_small_at_once(api, tmp_path, small_parts, in_file):
    (tmp_path / "blob").write_bytes(DATA)
    asked = await upload(api, Blob(DIGEST, len(DATA), tmp_path / "blob" if in_file else DATA), await door(api, DIGEST))
    assert asked == [("PATCH", "bytes 0-999/3000"), ("PATCH", "bytes 1000-1999/3000"), ("PATCH", "bytes 2000-2999/3000")]
    assert api.house.artifacts.blobs[DIGEST] == DATA
    small = b"x" * 1000
    assert await upload(api, Blob(digest_of(small), 1000, small), await door(api, digest_of(small))) == [("PUT", None)]


async def test_the_builder_goes_on_where_the_bytes_end(api, shelf, small_parts):
    await shelf.append(NAME, 0, chunks(DATA[:1700]), max_bytes=3000)
    asked = await upload(api, Blob(DIGEST, len(DATA), DATA), await door(api, DIGEST))
    assert asked == [("PATCH", "bytes 0-999/3000"), ("GET", None), ("PATCH", "bytes 1700-2699/3000"), ("PATCH", "bytes 2700-2999/3000")]
    assert api.house.artifacts.blobs[DIGEST] == DATA


async def test_the_builder_finishes_what_is_complete(api, shelf, small_parts):
    await shelf.append(NAME, 0, chunks(DATA), max_bytes=3000)
    asked = await upload(api, Blob(DIGEST, len(DATA), DATA), await door(api, DIGEST))
    assert asked == [("PATCH", "bytes 0-999/3000"), ("GET", None), ("PATCH", "bytes */3000")]
    assert api.house.artifacts.blobs[DIGEST] == DATA


async def test_the_builder_waits_for_a_blob_as_long_as_the_gatekeeper_may_take(api, small_parts, monkeypatch):
    waited, request = {}, httpx2.Client.request

    def noted(client, method, path, **named):
        waited[method] = named["timeout"].read
        return request(client, method, path, **named)

    monkeypatch.setattr(httpx2.Client, "request", noted)
    await upload(api, Blob(DIGEST, len(DATA), DATA), await door(api, DIGEST))
    small = b"x" * 10
    await upload(api, Blob(digest_of(small), 10, small), await door(api, digest_of(small)))
    assert waited == {"PATCH": READ_TIMEOUT_S, "PUT": READ_TIMEOUT_S}


async def test_the_builder_gives_up_on_a_gatekeeper_that_takes_nothing(api, shelf, small_parts, monkeypatch):
    async def nothing(*_args: object, **_options: object) -> int:
        raise WrongOffset(0)

    monkeypatch.setattr(shelf, "append", nothing)
    with pytest.raises(BuildFault, match="submission-failed: instance test does not take the parts"):
        await upload(api, Blob(DIGEST, len(DATA), DATA), await door(api, DIGEST))


# the shelf itself


async def chunks(*parts):
    for each in parts:
        yield each


async def test_unfinished_uploads_are_bounded_in_number_and_in_time(shelf, monkeypatch):
    monkeypatch.setattr(adapter, "MAX_OPEN", 2)
    for number in range(2):
        assert await shelf.append(f"{number}", 0, chunks(b"ab", b"c"), max_bytes=3) == 3
    with pytest.raises(Unavailable, match="too many uploads are unfinished"):
        await shelf.append("2", 0, chunks(b"a"), max_bytes=3)
    assert await shelf.append("1", 3, chunks(b"d"), max_bytes=4) == 4
    os.utime(shelf._directory / "0", (1, 1))
    assert await shelf.append("2", 0, chunks(b"a"), max_bytes=3) == 1
    assert names(shelf) == ["1", "2"]


async def test_one_project_leaves_room_for_the_others(shelf):
    for number in range(adapter.MAX_OF_ONE):
        await shelf.append(f"a-{number}", 0, chunks(b"a"), max_bytes=1)
    with pytest.raises(Unavailable, match="too many uploads are unfinished"):
        await shelf.append("a-9", 0, chunks(b"a"), max_bytes=1)
    assert await shelf.append("a-0", 1, chunks(b"b"), max_bytes=2) == 2, "what is under way goes on"
    assert await shelf.append("b-0", 0, chunks(b"a"), max_bytes=1) == 1
    assert adapter.MAX_OF_ONE < adapter.MAX_OPEN


async def test_an_upload_that_is_finished_meanwhile_disturbs_no_new_one(shelf, monkeypatch):
    await shelf.append("1", 0, chunks(b"a"), max_bytes=1)
    gone = [*shelf._directory.iterdir(), shelf._directory / "2"]
    monkeypatch.setattr(type(shelf._directory), "iterdir", lambda _: iter(gone))
    assert await shelf.append("3", 0, chunks(b"a"), max_bytes=1) == 1


async def test_the_shelf_takes_no_more_than_it_is_told_and_says_where_it_is(shelf):
    with pytest.raises(BlobTooLarge, match="too-large"):
        await shelf.append("1", 0, chunks(b"ab", b"cd"), max_bytes=3)
    assert await shelf.offset("1") == 2
    with pytest.raises(WrongOffset, match="range-not-satisfiable: the bytes end at 2"):
        await shelf.append("1", 0, chunks(b"ab"), max_bytes=3)
    assert [piece async for piece in shelf.read("1")] == [b"ab"]
    await shelf.drop("1")
    assert await shelf.offset("1") == 0


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "A", "x" * 201])
async def test_no_path_is_made_of_what_is_no_name(shelf, name):
    with pytest.raises(ValueError, match="no name of an upload"):
        await shelf.offset(name)


async def test_a_link_in_place_of_an_upload_is_not_followed(shelf, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    (tmp_path / "uploads" / "1").symlink_to(elsewhere)
    with pytest.raises(Unavailable, match="cannot be used: Too many levels of symbolic links"):
        await shelf.append("1", 0, chunks(b"evil"), max_bytes=10)
    assert elsewhere.read_bytes() == b""
