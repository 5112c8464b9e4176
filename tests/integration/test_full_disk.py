"""Attack matrix 124: a full disk under the log, under the artifact store and under every state directory loses nothing and leaves no half thing.

Each function without `test_` runs in a process of its own on a small tmpfs (`tests.fakes.small_disk`).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
from contextlib import suppress

import h11
import pytest
import trio

from clients.demo.postgres import EmbeddedPostgres
from clients.doorkeeper.cli import main
from gatekeeper.adapters.layout import open_layout
from gatekeeper.deploy.reconcile import run_worker
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.label import Viewer
from gatekeeper.model.moment import moment
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.postgres import open_database
from gatekeeper.tlog.note import encode_vkey
from tests.fakes import signing
from tests.fakes.api import Stream, running_api
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import GREETER, frame_of, make_artifact, make_layer, parts_of
from tests.fakes.git_repositories import signers_line
from tests.fakes.house import COMPONENT, ENVIRONMENT, INSTANCE, NEW_COMMIT, OLD_COMMIT, TARGET, House, HouseTarget
from tests.fakes.records import artifact
from tests.fakes.running_log import check_served, log_key
from tests.fakes.small_disk import Filler, on_small_disk
from tests.fakes.vault import FakeActVault, FakeLogVault
from tests.integration.test_git_policy import House as PolicyHouse
from tests.integration.test_sandbox_run import commit, pipeline, run

HERE = "tests.integration.test_full_disk"
MEGABYTE = 1 << 20


# the log: PostgreSQL's own disk


def test_a_full_disk_under_the_log(tmp_path):
    on_small_disk(f"{HERE}:log", tmp_path / "disk", "220m")


async def log(directory):
    # The test's own directory for sockets and the like stays on the other disk: only the server's files are on the small one.
    with EmbeddedPostgres(directory / "server", settings=("max_wal_size=32MB", "min_wal_size=32MB")) as postgres:
        async with open_database(postgres.create_database("gatekeeper")) as database:
            await _log(database, postgres, Filler(directory))


async def _log(database, postgres, disk):
    house, vault = House(), FakeLogVault()
    house.database = database
    target = HouseTarget(
        name=TARGET, instance=INSTANCE, environment=ENVIRONMENT, component=COMPONENT,
        log_policy=f"log {encode_vkey(await log_key(vault))}\nquorum none\n".encode(),
        receipt_keys=house.parts.receipt_keys[0], now=lambda: moment(house.clock()),
    )  # fmt: skip
    leases = FakeActVault({TARGET: (ENVIRONMENT, f"pingee-{TARGET}", "127.0.0.1/32")}, settings={(ENVIRONMENT, COMPONENT): {}}, clock=house.clock)
    stores = {name: getattr(database, name) for name in ("pings", "locks", "statements", "deployments", "people")}
    async with running_api(house, vault=vault, target=target, act_vault=leases, **stores) as api, trio.open_nursery() as nursery:
        await nursery.start(run_worker, api.parts)

        async def asked(digest, key):
            return await api.post("/v1/pings", api.token(), {"environment": ENVIRONMENT, "component": COMPONENT, "artifact": digest}, key=key)

        async def state_of(ping):
            with suppress(PortError):
                found = await database.pings.get(ping, Viewer(who="people|s-alice"))
                return found.state
            return None

        async def ended(ping, state):
            with trio.fail_after(60):
                while (found := await state_of(ping)) is not state:
                    assert found is None or not found.ended, found
                    await trio.sleep(0.1)

        first = (await asked(await house.bring("1"), "k1")).json["id"]
        await ended(first, State.DEPLOYED)
        second = await house.bring("2", commit=NEW_COMMIT)
        acknowledged, applied = {}, len(target.accepted)
        intake = house.ca.run().sign(signing.manifest_statement())

        disk.fill()
        for size in (900, 200):  # pages that were allocated before still take a little
            refused = None
            while refused is None:
                body, entry_id = secrets.token_bytes(size), secrets.token_hex(16)
                try:
                    acknowledged[entry_id] = (body, await api.log.append(body, entry_id=entry_id, kind="intake"))
                except Unavailable as error:
                    refused, left_over = error, (entry_id, body)
            assert refused.cause_code == "log-unavailable"
        note = api.log.published().note

        answer = await api.post("/v1/artifacts", api.run_token(), intake)
        problem = answer.refused(503, "log-unavailable")
        assert (problem["retryable"], answer.headers["retry-after"]) == (True, "2")
        ping = await asked(second, "k2")
        if ping.status != 202:  # the ping's own row found no room either: then nothing was accepted, and the same call is made again
            assert ping.refused(503, "environment-unavailable")["retryable"] is True
        await trio.sleep(1)
        assert len(target.accepted) == applied, "nothing is deployed that could not be logged"
        assert (await api.get("/v1/running")).status in (200, 503)

        disk.free()
        if postgres._process.poll() is not None:  # it may have given up where its write-ahead log found no room: a supervisor starts it again
            postgres.start()
        with trio.fail_after(60):
            while (again := await asked(second, "k2")).status != 202:  # noqa: ASYNC110 -- the server says when
                await trio.sleep(0.2)
        await ended(again.json["id"], State.DEPLOYED)
        assert len(target.accepted) == applied + 1, "deployed once"
        assert (await api.post("/v1/artifacts", api.run_token(), intake)).status == 202
        entry_id, body = left_over
        acknowledged[entry_id] = (body, await api.log.append(body, entry_id=entry_id, kind="intake"))
        with trio.fail_after(60):
            await api.log.prove(acknowledged[entry_id][1].index)
        newest = await check_served(api.log, vault, older=note)
        store = database.log(api.parts.origin)
        await store.load_head()
        bodies = await store.read_entries(0, newest.size)
        assert all(bodies[where.index] == body for body, where in acknowledged.values())
        assert bodies.count(body) == 1
        assert api.log.alarm() is None
        nursery.cancel_scope.cancel()


# the store: the artifact directory


def test_a_full_disk_under_the_artifacts(tmp_path):
    on_small_disk(f"{HERE}:store", tmp_path / "disk", "4m")


async def store(directory):
    disk, house = Filler(directory), House()
    async with running_api(house, max_blob=64 * MEGABYTE, artifacts=await open_layout(directory / "store")) as api:
        blobs = directory / "store" / "blobs" / "sha256"
        data = os.urandom(MEGABYTE)
        large = os.urandom(8 * MEGABYTE)
        paths = {}
        for body in (data, large):
            row = artifact(artifact=digest_of(body), project=signing.PROJECT, commit=OLD_COMMIT)
            await house.database.statements.add_artifact(row)
            paths[body] = f"/v1/artifacts/{digest_of(body)}/uploads/{digest_of(body)}"
        # too large for the disk at all: refused while its sender still sends, and the answer is read
        problem = await _uploaded(api, paths[large], large)
        assert "No space left" in problem.refused(503, "registry-unavailable")["detail"]
        assert problem.headers["retry-after"] == "2"
        assert list(blobs.iterdir()) == []
        for leaving in (0, 4096, 8192, MEGABYTE // 2):
            disk.fill(leaving=leaving)
            problem = await api.ask("PUT", paths[data], api.run_token(), body=data)
            assert problem.refused(503, "registry-unavailable")["retryable"] is True
            assert list(blobs.iterdir()) == [], "no part of a blob, under no name"
            assert (await api.get("/v1/running")).status == 200
            disk.free()
        stored = await api.ask("PUT", paths[data], api.run_token(), body=data)
        assert (stored.status, stored.json) == (201, {"size": MEGABYTE})
        assert [entry.name for entry in blobs.iterdir()] == [digest_hex(digest_of(data))]
        # the index: the old one stays whole
        before = (directory / "store" / "index.json").read_bytes()
        disk.fill()
        with pytest.raises(Unavailable, match=r"registry-unavailable: .*No space left"):
            await api.parts.artifacts.list_manifest(digest_of(data), media_type="application/x", artifact_type=None)
        assert (directory / "store" / "index.json").read_bytes() == before
        with pytest.raises(Unavailable, match=r"registry-unavailable: .*No space left"):
            await open_layout(directory / "another")
        disk.free()
        await api.parts.artifacts.list_manifest(digest_of(data), media_type="application/x", artifact_type=None)
        assert len(json.loads((directory / "store" / "index.json").read_bytes())["manifests"]) == 1
        assert not list(directory.rglob(".incoming-*"))


async def _uploaded(api, path, data):
    """Send in pieces that the peer may stop reading."""
    stream = Stream(await trio.open_tcp_stream("127.0.0.1", api.port))
    with trio.fail_after(60):
        async with stream:
            return await _sent(api, stream, path, data)


async def _sent(api, stream, path, data):
    head = f"PUT {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.run_token()}\r\ncontent-length: {len(data)}\r\n\r\n".encode()
    stream._http.send(_head(path, len(data)))
    with suppress(trio.BrokenResourceError):
        await stream._socket.send_all(head)
        for start in range(0, len(data), 65536):
            await stream._socket.send_all(data[start : start + 65536])
    return await stream.whole()


def _head(path, length):
    return h11.Request(method="PUT", target=path, headers=[("host", "x"), ("content-length", str(length))])


# the doorkeeper's state


def test_a_full_disk_under_the_doorkeeper(tmp_path):
    on_small_disk(f"{HERE}:doorkeeper", tmp_path / "disk", "4m")


async def doorkeeper(directory):
    home = directory / "home"
    home.mkdir()
    with installed(home) as door:
        disk = Filler(directory)
        running = _deploy(door, "1")
        for pages in (0, 8, 12, 64):
            before = door.state()
            receipt, items = door.gatekeeper.deploy(_artifact(f"p{pages}"), old=_known(door))
            disk.fill(leaving=pages * 4096)
            code, answer = door.apply(receipt, items)
            disk.free()
            assert (code, "No space left" in answer["error"]) == (7, True), (pages, answer)
            assert door.state() == before, "nothing was accepted"
            assert door.page() == f"none {running}", "what ran before runs"
            assert not list(door.place.incoming.iterdir())
            assert not list(door.place.var.rglob(".*.new")), "no half-written release"
            code, answer = door.apply(receipt, items)
            assert (code, answer["outcome"]) == (0, "healthy"), "the same receipt still counts, as soon as there is room"
            running = f"p{pages}"
        assert door.page() == f"none {running}"
        assert door.status()["record"].startswith("intact")


def _deploy(door, version):
    receipt, items = door.gatekeeper.deploy(_artifact(version), old=_known(door))
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"]) == (0, "healthy"), answer
    assert door.page() == f"none {version}"
    return version


def _artifact(version):
    return make_artifact(version, layer=make_layer({"greeter.py": GREETER.replace(b"VERSION", version.encode()), "ballast": os.urandom(20_000)}))


def _known(door):
    return door.status()["size"]


# The workloads are this process's children here and not sshd's; subprocess reaps them when it starts the next one.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Popen.__del__:pytest.PytestUnraisableExceptionWarning")
def test_no_write_of_a_doorkeeper_may_fail_unnoticed(tmp_path, monkeypatch, capsys):
    """Every file that an apply makes durable, refused by the disk in turn: the old release or the new one runs, and the next apply works."""
    with installed(tmp_path) as door:
        running, turn, ends = _deploy(door, "1"), 0, []
        while True:
            receipt, items = door.gatekeeper.deploy(make_artifact(f"t{turn}"), old=_told(door, capsys)["size"])
            code, answer, struck = _struck(door, receipt, items, turn, monkeypatch, capsys)
            ends.append(code)
            assert code == (0 if not struck else code), answer
            page = door.page()
            assert page in (f"none {running}", f"none t{turn}"), (turn, answer)
            if code == 7:
                assert "No space left" in answer["error"], (turn, answer)
            # `status` puts right what was cut short; where the answer named the receipt, this is what its sender asks next.
            status = _told(door, capsys)
            told = status["components"][0]
            if told["receipt"] == receipt and told["outcome"] == "healthy":
                assert code == 0 or answer["receipt"] == receipt, "who is told of a failure does not find it running"
                running = f"t{turn}"
            elif told["receipt"] == receipt:
                assert told["outcome"] in ("failed", "interrupted", "rolled-back"), (turn, answer, told)
                assert code != 0
            else:
                assert code == 7, "unspent: whoever asks for the status sends it again"
            assert door.page() == f"none {running}", (turn, answer, told)
            assert status["record"].startswith("intact"), turn
            if not struck:
                break
            turn += 1
        assert set(ends) >= {0, 7}
        assert turn > 5, "there is more than one thing to make durable"
        _deploy(door, "last")


def _told(door, capsys):
    capsys.readouterr()
    assert main(["--dir", str(door.directory), "status"]) == 0
    return json.loads(capsys.readouterr().out)


def _struck(door, receipt, items, turn, monkeypatch, capsys):
    """Apply in this process; the `turn`-th flush to the disk, counted from 0, finds it full. Whether it came to that."""
    left, flush = turn, os.fsync

    def fsync(descriptor):
        nonlocal left
        left -= 1
        if left == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    frame = door.directory / "frame"
    frame.write_bytes(frame_of(parts_of(items)))
    descriptor = os.open(frame, os.O_RDONLY)
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        try:
            code = _serve(door, descriptor, receipt)
        finally:
            os.close(descriptor)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1]), left < 0


def _serve(door, descriptor, receipt):
    """The program itself, with the frame for its standard input."""
    with open(descriptor, closefd=False) as frame, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdin", frame)
        patched.setenv("SSH_ORIGINAL_COMMAND", "apply")
        return main(["--dir", str(door.directory), "serve", digest_hex(receipt)])


# the gatekeeper's own state directory


def test_a_full_disk_under_the_gatekeepers_state(tmp_path):
    on_small_disk(f"{HERE}:state", tmp_path / "disk", "6m")


async def state(directory):
    house = PolicyHouse(directory)
    source = await house.open()
    disk = Filler(directory)
    before = source.loaded
    newer = house.commit({"policy.toml": 'instance = "production"\nanonymous = "none"\n', "ballast.txt": os.urandom(40_000).hex()})
    disk.fill()
    with pytest.raises(Unavailable, match="config-unavailable"):
        await source.refresh()
    assert source.loaded == before, "the old policy stays in force"
    disk.free()
    house.signers = signers_line("owner@example.org", house.owner)
    assert await source.refresh() is True
    assert source.loaded == newer


# the builder's outputs


def test_a_full_disk_under_the_builders_outputs(tmp_path):
    on_small_disk(f"{HERE}:builder", tmp_path / "disk", "1m")


async def builder(directory):
    disk = Filler(directory)
    repository = directory.parent / "hello"
    repository.mkdir()
    revision = commit(repository, {".pipeline/config.yaml": pipeline(["mkdir out; head -c 300000 /dev/zero > out/x"], ["test -s out/x"])})
    disk.fill(leaving=8192)
    done, report = run(repository, revision, "--out", directory / "out")
    assert (done.returncode, report["code"]) == (1, "storage-unavailable"), done.stderr
    assert "No space left" in report["detail"]
    assert "Traceback" not in done.stderr
    disk.free()
    done, report = run(repository, revision, "--out", directory / "out")
    assert (done.returncode, report["result"]) == (0, "PASSED"), done.stderr
