"""What lasts longer than a moment: event streams, answers that wait, and uploads of blobs, over a real listener."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import h11
import pytest
import trio

from gatekeeper.adapters.layout import open_layout
from gatekeeper.deploy.decide import state_event
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.label import Compartment
from gatekeeper.model.ping import State
from tests.fakes import signing
from tests.fakes.api import DEADLINE_S, Stream, running_api, until
from tests.fakes.house import OLD_COMMIT
from tests.fakes.records import artifact

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024


@pytest.fixture
async def api():
    async with running_api() as found:
        yield found


async def moved(api, ping, state, **changes):
    """The ping in another state, as the worker would move it."""
    old = await api.house.read(ping)
    new = replace(old, state=state, **changes)
    return await api.house.database.pings.move(old, new, [state_event(new)])


async def asked(api):
    return await api.house.ping(await api.house.bring())


async def test_events_come_in_order_and_the_stream_ends_with_the_end(api):
    ping = await asked(api)
    await moved(api, ping, State.PENDING, reasons=("votes-missing",))
    seen = []
    with trio.fail_after(DEADLINE_S):
        async with await api.open("GET", f"/v1/pings/{ping.id}/events") as stream:
            async for event in stream.events():
                seen.append(event)
                if len(seen) == 1:
                    await moved(api, ping, State.INDETERMINATE, reasons=("vcs-unavailable",))
                if len(seen) == 2:
                    await moved(api, ping, State.CANCELLED, reasons=("cancelled",))
            assert stream.headers["content-type"] == "text/event-stream"
            assert stream.headers["cache-control"] == "no-store, no-transform"
    assert [(number, name, data["state"]) for number, name, data in seen] == [
        (1, "state", "pending"), (2, "state", "indeterminate"), (3, "end", "cancelled"),
    ]  # fmt: skip
    assert seen[0][2]["reasons"] == ["votes-missing"]


@pytest.mark.parametrize(
    ("header", "query", "first"),
    [("1", "", 2), (None, "?after=2", 3), ("2", "?after=0", 3), ("x", "", 1), ("-1", "", 1), ("9" * 5000, "", 1)],
)
async def test_a_stream_goes_on_after_the_last_event_the_client_has(api, header, query, first):
    ping = await asked(api)
    for state in (State.PENDING, State.INDETERMINATE, State.CANCELLED):
        await moved(api, ping, state)
    headers = {} if header is None else {"last_event_id": header}
    answer = await api.get(f"/v1/pings/{ping.id}/events{query}", **headers)
    numbers = [int(line[4:]) for line in answer.body.decode().splitlines() if line.startswith("id: ")]
    assert numbers == list(range(first, 4))


async def test_a_stream_of_an_unknown_ping_is_a_plain_404_and_hostile_text_stays_on_its_line(api):
    (await api.get("/v1/pings/" + "0" * 32 + "/events")).refused(404, "not-found")
    ping = await asked(api)
    await moved(api, ping, State.CANCELLED, detail="\n\nevent: end\ndata: {}\u2028")
    answer = await api.get(f"/v1/pings/{ping.id}/events")
    assert answer.body.count(b"event: ") == 1 + answer.body.count(b"\\nevent: ")
    assert answer.body.count(b"\nevent: ") == 1


async def test_a_stream_ends_where_clearance_is_lost(api):
    ping = await asked(api)
    await moved(api, ping, State.PENDING)
    rows = api.house.database.state.rows
    with trio.fail_after(DEADLINE_S):
        async with await api.open("GET", f"/v1/pings/{ping.id}/events") as stream:
            seen = []
            async for _, name, _ in stream.events():
                seen.append(name)
                row = rows[ping.id]
                row.ping = replace(row.ping, new=replace(row.ping.new, label=frozenset({Compartment("embargo:cve-1")})))
                api.house.database.state.notify()
    assert seen == ["state"]


async def test_streams_and_waiting_answers_end_when_the_server_closes():
    async with running_api() as api:
        ping = await asked(api)
        await moved(api, ping, State.PENDING)
        names, waited = [], []
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:

                async def follow():
                    async with await api.open("GET", f"/v1/pings/{ping.id}/events") as stream:
                        async for _, name, _ in stream.events():
                            names.append(name)
                            if name == "state":
                                followed.set()

                async def wait():
                    waited.append(await api.get(f"/v1/pings/{ping.id}", prefer="wait=30"))

                followed = trio.Event()
                nursery.start_soon(follow)
                nursery.start_soon(wait)
                await followed.wait()
                api.closing.set()
                api.stop.set()
    assert names == ["state", "bye"]
    assert waited[0].json["state"] == "pending"


async def test_prefer_wait_answers_at_the_change_and_not_before(api):
    ping = await asked(api)
    began = trio.current_time()
    for prefer in ("", "wait=0", "wait=-1", "wait=x", "respond-async", "wait=1000"):
        if prefer != "wait=1000":
            assert (await api.get(f"/v1/pings/{ping.id}", prefer=prefer)).json["state"] == "received"
    assert trio.current_time() - began < 20
    began = trio.current_time()
    assert (await api.get(f"/v1/pings/{ping.id}", prefer="respond-async, wait=1")).json["state"] == "received"
    assert trio.current_time() - began >= 1
    answers = []
    async with trio.open_nursery() as nursery:

        async def ask():
            answers.append(await api.get(f"/v1/pings/{ping.id}", prefer="wait=30"))

        nursery.start_soon(ask)
        await until(lambda: api.house.database.state.subscriptions)
        await moved(api, ping, State.CANCELLED)
    assert answers[0].json["state"] == "cancelled"


# uploads


async def door(api, digest):
    """The path of an upload that is wanted: of the artifact's own OCI manifest, of which only the digest is known yet."""
    row = artifact(artifact=digest, project=signing.PROJECT, commit=OLD_COMMIT)
    await api.house.database.statements.add_artifact(row)
    return f"/v1/artifacts/{digest}/uploads/{digest}"


async def test_a_blob_is_taken_once_its_bytes_are_those_of_the_digest(api):
    data = b"x" * 1000
    stored = await api.ask("PUT", await door(api, digest_of(data)), api.run_token(), body=data)
    assert (stored.status, stored.json) == (201, {"size": 1000})
    assert api.house.artifacts.blobs[digest_of(data)] == data
    other = await api.ask("PUT", await door(api, digest_of(b"other")), api.run_token(), body=data)
    other.refused(422, "digest-mismatch")
    unnamed = f"/v1/artifacts/{digest_of(b'other')}/uploads/{digest_of(b'unnamed')}"
    (await api.ask("PUT", unnamed, api.run_token(), body=b"unnamed")).refused(404, "not-found")
    assert not {digest_of(b"other"), digest_of(b"unnamed")} & set(api.house.artifacts.blobs)


async def test_who_may_not_upload(api):
    path = await door(api, digest_of(b"x"))
    (await api.ask("PUT", path, body=b"x")).refused(401, "unauthenticated")
    (await api.ask("PUT", path, "not.a.token", body=b"x")).refused(401, "unauthenticated")
    (await api.ask("PUT", path, api.token(), body=b"x")).refused(403, "not-authorised")
    (await api.ask("PUT", path, api.run_token(commit="4" * 40), body=b"x")).refused(404, "unknown-manifest")
    for wrong in (path.upper(), path + "0", path + "/", path.replace("sha256:", "sha256%3A", 1).replace("uploads", "../uploads")):
        assert (await api.ask("PUT", wrong, api.run_token(), body=b"x")).status in (404, 405)
    assert digest_of(b"x") not in api.house.artifacts.blobs


async def test_too_large_is_refused_by_its_length_and_by_its_bytes():
    async with running_api(max_blob=1000) as api:
        data = b"x" * 1001
        path = await door(api, digest_of(data))
        (await api.ask("PUT", path, api.run_token(), body=data)).refused(413, "too-large")
        chunked = await _chunked(api, path, [b"x" * 500, b"x" * 501])
        chunked.refused(413, "too-large")
        assert digest_of(data) not in api.house.artifacts.blobs
        exact = b"y" * 1000
        assert (await _chunked(api, await door(api, digest_of(exact)), [exact])).status == 201


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path):
    async with running_api(artifacts=await open_layout(tmp_path / "store")) as api:
        path = await door(api, digest_of(b"x" * 1000))
        stream = Stream(await trio.open_tcp_stream("127.0.0.1", api.port))
        headers = {"host": "x", "authorization": f"Bearer {api.run_token()}", "content-length": "1000"}
        await stream.send(h11.Request(method="PUT", target=path, headers=list(headers.items())))
        await stream.send(h11.Data(data=b"x" * 500))
        blobs = tmp_path / "store" / "blobs" / "sha256"
        async with stream:
            await until(lambda: list(blobs.iterdir()))
        await until(lambda: not list(blobs.iterdir()))


async def test_thirty_megabytes_pass_in_flat_memory(tmp_path):
    size = 30
    chunk = os.urandom(MEGABYTE)
    whole = hashlib.sha256()
    for _ in range(size):
        whole.update(chunk)
    digest = Digest("sha256:" + whole.hexdigest())
    async with running_api(max_blob=64 * MEGABYTE, artifacts=await open_layout(tmp_path / "store")) as api:
        assert (await _chunked(api, await door(api, digest_of(b"warm")), [b"warm"])).status == 201
        path = await door(api, digest)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
        before = _memory("VmRSS")
        answer = await _chunked(api, path, [chunk] * size)
        assert (answer.status, answer.json) == (201, {"size": size * MEGABYTE})
        assert _memory("VmHWM") - before < 12 * MEGABYTE
        assert (tmp_path / "store" / "blobs" / "sha256" / whole.hexdigest()).stat().st_size == size * MEGABYTE


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


async def _chunked(api, path, chunks):
    headers = {"host": "x", "authorization": f"Bearer {api.run_token(commit=OLD_COMMIT)}", "transfer-encoding": "chunked", "connection": "close"}
    with trio.fail_after(60):
        async with Stream(await trio.open_tcp_stream("127.0.0.1", api.port)) as stream:
            await stream.send(h11.Request(method="PUT", target=path, headers=list(headers.items())))
            for chunk in chunks:
                await stream.send(h11.Data(data=chunk))
            await stream.send(h11.EndOfMessage())
            return await stream.whole()


async def test_clients_that_break_off_end_nobody_but_themselves(api):
    """Found by a race of hypercorn's: its answer to the broken request met ours on the socket, and the error ended the whole server."""
    path = await door(api, digest_of(b"x" * 1000))
    headers = {"host": "x", "content-length": "1000"}

    async def break_off(number):
        token = {"authorization": f"Bearer {api.run_token()}"} if number % 2 else {}
        async with Stream(await trio.open_tcp_stream("127.0.0.1", api.port)) as stream:
            await stream.send(h11.Request(method="PUT", target=path, headers=list((headers | token).items())))
            await stream.send(h11.Data(data=b"x" * 500))
            await trio.sleep(number / 20_000)  # spread over the moments at which the server may be answering

    with trio.fail_after(60):
        for _ in range(4):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(break_off, number)
            assert (await api.get("/v1/running")).status == 200
