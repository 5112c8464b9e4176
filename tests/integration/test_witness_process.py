"""A real `pingee-witness` behind TLS: alone, killed, badgered, and as the witness of a sequencer; attack row 117 over the network."""

import http.client
import select
import socket
import ssl
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
import trio

from clients.demo.certificate import make_certificate
from clients.witness.serving import MOST_EACH
from gatekeeper.adapters.witness import MAX_ANSWER, open_witnesses
from gatekeeper.ports.errors import Denied, Unavailable
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize, WitnessBusy
from gatekeeper.sequencer import WitnessPlan
from gatekeeper.tlog.logpolicy import LogPolicy, Witness, open_cosigned
from gatekeeper.tlog.note import parse_note, parse_vkey
from gatekeeper.tlog.proof import parse_proof, verify_proof
from tests.fakes.frames import MemoryLog
from tests.fakes.running_log import check_served, log_key, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import ROOT, running_witness
from tests.unit.test_sequencer_publishes import add

pytestmark = pytest.mark.anyio
ORIGIN = "log.example/log/2026"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


@pytest.fixture
def log():
    log = MemoryLog()
    log.entries = [b"%d" % nr for nr in range(20)]
    return log


@pytest.fixture
def witness(tmp_path, certificates, log):
    with running_witness(tmp_path / "w", certificates, log.vkey) as witness:
        yield witness


def policy_with(witness, key):
    return LogPolicy(key, witnesses=(Witness("w", parse_vkey(witness.vkey), witness.url),), quorum="w")


async def test_it_starts_quickly_and_ends_when_it_is_told(witness, certificates, log):
    assert witness.kill(gently=True) == 0
    assert witness.start() < 20, "0.2 s on a machine that does nothing else"
    async with open_witnesses(certificates / "ca.pem") as link:
        assert isinstance(await link.add_checkpoint(witness.url, log.growth(0, 4)), Cosignatures)


async def test_a_kill_at_any_moment_loses_nothing_that_was_answered_and_signs_nothing_twice(witness, certificates, log):
    """The size that it names after a restart is at least the last that it cosigned, and it goes on from there."""
    async with open_witnesses(certificates / "ca.pem") as link:
        answered = size = 0
        for pause in (0.001, 0.004, 0.009, 0.02):

            async def offer():
                nonlocal answered, size
                while answered < 19:
                    with suppress(Unavailable):
                        match await link.add_checkpoint(witness.url, log.growth(answered, answered + 1)):
                            case Cosignatures():
                                answered += 1
                            case OtherSize(known):
                                answered = known

            async with trio.open_nursery() as nursery:
                nursery.start_soon(offer)
                await trio.sleep(pause)
                before = answered
                witness.kill()
                nursery.cancel_scope.cancel()
            witness.start()
            answer = await link.add_checkpoint(witness.url, log.growth(0, 20))
            if before:
                assert isinstance(answer, OtherSize)
                assert answer.size in (before, before + 1), "stored, and perhaps killed before it was said"
                answered = answer.size
        assert isinstance(await link.add_checkpoint(witness.url, log.growth(answered, 20)), Cosignatures)
    assert witness.command("status").startswith(f"{log.vkey.name}: size 20")


KILLED = """
import os, sys
from pathlib import Path
from clients.witness.keys import Home, load_key
from clients.witness.protocol import Witness
from clients.witness.store import Store
home, point = Home(Path(sys.argv[1])), sys.argv[2]
store = Store(home.store)
if point == "before the commit":
    Store.remember = lambda self, new: os._exit(9)
witness = Witness(store, load_key(home), lambda: 1_800_000_000)
witness.answer("POST", "/add-checkpoint", sys.stdin.buffer.read())
os._exit(9)  # after the commit, before a byte of the answer
"""


@pytest.mark.parametrize(("point", "remembered"), [("before the commit", 0), ("after the commit", 4)])
async def test_killed_around_its_commit_it_has_stored_all_or_nothing_and_can_answer(witness, certificates, log, point, remembered):
    done = await trio.run_process(
        [sys.executable, "-c", KILLED, str(witness.directory), point], stdin=log.growth(0, 4), cwd=ROOT, check=False
    )
    assert done.returncode == 9
    async with open_witnesses(certificates / "ca.pem") as link:
        if remembered:
            assert await link.add_checkpoint(witness.url, log.growth(0, 20)) == OtherSize(remembered)
        assert isinstance(await link.add_checkpoint(witness.url, log.growth(remembered, 20)), Cosignatures)


async def test_two_processes_of_one_witness_accept_one_of_many_trees(witness, certificates, log):
    """Check and store are one step for all who share the file."""
    with serving_too(witness) as url:
        urls, answers = [witness.url, url], []
        async with open_witnesses(certificates / "ca.pem") as link, trio.open_nursery() as nursery:

            async def one(nr):
                fork = log.fork()
                fork.entries = [b"fork %d" % nr]
                answers.append(await link.add_checkpoint(urls[nr % 2], fork.growth(0, 1)))

            for nr in range(10):
                nursery.start_soon(one, nr)
        assert [type(answer) for answer in answers].count(Cosignatures) == 1
        assert [type(answer) for answer in answers].count(OtherRoot) == 9


@contextmanager
def serving_too(witness):
    arguments = [sys.executable, "-m", "clients.witness.cli", "serve", str(witness.directory), "--listen", "127.0.0.1:0", *witness.tls]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT, stderr=subprocess.DEVNULL) as second:
        try:
            yield second.stdout.readline().decode().split()[1]
        finally:
            second.kill()


async def test_two_clients_who_are_shown_two_trees_of_one_size(witness, certificates, log):
    """Attack row 117: the second tree gets no cosignature, so whoever asks for the quorum refuses it; the witness keeps both notes."""
    fork = log.fork()
    fork.entries = [b"for the victim's eyes", *log.entries[1:]]
    policy = policy_with(witness, log.vkey)
    async with open_witnesses(certificates / "ca.pem") as link:
        shown = await link.add_checkpoint(witness.url, log.growth(0))
        assert isinstance(shown, Cosignatures)
        assert await link.add_checkpoint(witness.url, fork.growth(20)) == OtherRoot()
    first = parse_note(log.note()).with_signatures(shown.lines)
    assert policy.quorum_met(first) == {"w"}
    proof = parse_proof(fork.proof(0))
    with pytest.raises(ValueError, match="the quorum w did not cosign"):
        verify_proof(proof, fork.entries[0], policy)
    lifted = parse_note(fork.note()).with_signatures(shown.lines)
    with pytest.raises(ValueError, match="does not verify"):
        policy.quorum_met(lifted)
    told = witness.command("status", code=3)
    assert "two roots" in told
    for note in (log.note(), fork.note()):
        assert note.decode() in told
    assert "CRITICAL" in (witness.directory / "log").read_text()


# badgered


def head(length, path="/add-checkpoint"):
    return f"POST {path} HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\n\r\n".encode()


async def connect(witness, certificates):
    stream = await trio.open_tcp_stream("127.0.0.1", witness._port)
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    return trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)


async def answered(stream):
    data = b""
    with trio.fail_after(60), suppress(trio.BrokenResourceError):
        while more := await stream.receive_some(65536):
            data += more
    return data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(1_000_000) + b"x" * 200_000, b"413"),
        (b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n" + b"10000\r\n" + b"x" * 65536, b"413"),
        (b"GET / HTTP/1.1\r\nhost: w\r\nx: " + b"y" * 40_000, b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"4"),
    ],
)  # fmt: skip
async def test_what_is_too_much_is_cut(witness, certificates, sent, status):
    async with await connect(witness, certificates) as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(sent)
        assert (await answered(stream)).startswith(b"HTTP/1.1 " + status)


async def test_a_body_that_drips_is_cut_and_others_are_served_meanwhile(witness, certificates, log):
    began = time.monotonic()
    async with await connect(witness, certificates) as slow:
        await slow.send_all(head(1000) + b"old 0\n")
        async with open_witnesses(certificates / "ca.pem") as link:
            assert isinstance(await link.add_checkpoint(witness.url, log.growth(0, 4)), Cosignatures)
        assert (await answered(slow)).startswith(b"HTTP/1.1 408")
    assert 3 < time.monotonic() - began < 60


async def test_more_connections_of_one_address_than_allowed_are_closed_and_places_come_free_again(witness, certificates, log):
    idle = [socket.create_connection(("127.0.0.1", witness._port)) for _ in range(MOST_EACH)]
    try:
        # Which of them is one too many is the witness's to say: it may take what came at once in any order.
        idle.append(socket.create_connection(("127.0.0.1", witness._port)))
        closed, _, _ = await trio.to_thread.run_sync(select.select, idle, [], [], 30)
        assert [connection.recv(1) for connection in closed] == [b""]
    finally:
        for connection in idle:
            connection.close()
    async with open_witnesses(certificates / "ca.pem") as link:
        with trio.fail_after(60):
            answer = None
            while answer is None:
                with suppress(Unavailable):
                    answer = await link.add_checkpoint(witness.url, log.growth(0, 4))
        assert isinstance(answer, Cosignatures)


async def test_one_connection_takes_request_after_request(witness, certificates, log):
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", witness._port, context=context, timeout=30)
    for old, size, status in ((0, 4, 200), (0, 9, 409), (4, 9, 200)):
        connection.request("POST", "/add-checkpoint", log.growth(old, size))
        answer = connection.getresponse()
        body = answer.read()
        assert (answer.status, answer.headers["Content-Type"]) == (status, "text/x.tlog.size" if status == 409 else "text/plain; charset=utf-8")
        assert status != 409 or body == b"4\n"
    connection.close()


# the adapter, against servers that are no witness


async def served(answer, certificates):
    """One TLS server that gives one answer, whatever is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def handle(stream):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with trio.SSLStream(stream, context, server_side=True, https_compatible=True) as spoken:
                await spoken.receive_some(65536)
                for part in answer:
                    await spoken.send_all(part)
                with trio.move_on_after(0.3):  # closed with bytes unread, the answer would be lost on its way
                    await spoken.receive_some(65536)

    return listener, handle


def http_answer(status, body=b"", **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return [f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{lines}\r\n".encode() + body]


@pytest.mark.parametrize(
    ("answer", "expected", "word"),
    [
        (http_answer(409), OtherRoot(), None),
        (http_answer(409, b"17\n"), OtherSize(17), None),
        (http_answer(409, b"017\n"), OtherRoot(), None),
        (http_answer(422, b"no"), OtherRoot(), None),
        (http_answer(429, retry_after="7"), WitnessBusy, "witness-busy"),
        (http_answer(429, retry_after="99999999999"), WitnessBusy, "witness-busy"),
        (http_answer(403), Denied, "witness-unknown-log"),
        (http_answer(404), Denied, "witness-unknown-log"),
        (http_answer(200, b"\xe2\x80\x94 x AAAA\n"), Unavailable, "witness-answer"),
        (http_answer(200, b"hello\n"), Unavailable, "witness-answer"),
        (http_answer(200, b""), Unavailable, "witness-answer"),
        (http_answer(200, b"x" * (MAX_ANSWER + 1)), Unavailable, "too long"),
        (http_answer(302, location="https://127.0.0.1:1/"), Unavailable, "HTTP 302"),
        (http_answer(500), Unavailable, "HTTP 500"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab"], Unavailable, "witness-unreachable"),
        ([b"garbage\r\n\r\n"], Unavailable, "witness-unreachable"),
        ([], Unavailable, "witness-unreachable"),
    ],
)
async def test_what_the_adapter_makes_of_any_answer(certificates, log, answer, expected, word):
    async with trio.open_nursery() as nursery, open_witnesses(certificates / "ca.pem") as link:
        listener, handle = await served(answer, certificates)
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}/"
        if word is None:
            assert await link.add_checkpoint(url, log.growth(0)) == expected
        else:
            with pytest.raises(expected, match=word) as caught:
                await link.add_checkpoint(url, log.growth(0))
            assert not isinstance(caught.value, WitnessBusy) or caught.value.retry_after_s in (7, 60)
        nursery.cancel_scope.cancel()


async def test_nobody_is_believed_whose_certificate_is_of_another_ca(witness, tmp_path, log):
    make_certificate(tmp_path, "another CA")
    async with open_witnesses(tmp_path / "ca.pem") as link:
        with pytest.raises(Unavailable, match="witness-unreachable"):
            await link.add_checkpoint(witness.url, log.growth(0))


# as the witness of a log


async def test_a_sequencer_publishes_what_a_real_witness_cosigned_and_waits_while_it_is_away(tmp_path, certificates):
    store, vault = FakeDatabase().log(ORIGIN), FakeLogVault()
    key = await log_key(vault)
    with running_witness(tmp_path / "w", certificates, key) as witness:
        policy = policy_with(witness, key)
        async with open_witnesses(certificates / "ca.pem") as link, running_log(store, vault, witnesses=WitnessPlan(policy, link)) as log:
            times = []
            for _ in range(20):
                began = time.monotonic()
                where = await add(log)
                proof = parse_proof((await log.prove(where.index)).proof)
                times.append(time.monotonic() - began)
                verified = verify_proof(proof, store.rows.entries[where.index].body, policy)
                assert verified.index == where.index
            print(f"entry to witnessed proof: median {statistics.median(times) * 1000:.1f} ms, worst {max(times) * 1000:.1f} ms")  # noqa: T201
            assert statistics.median(times) < 1
            before = log.published()
            witness.kill()
            where = await add(log, 3)
            with trio.move_on_after(1.5):
                await log.prove(where.index)
                pytest.fail("proven without its witness")
            assert log.published().note == before.note
            witness.start()
            opened = open_cosigned(parse_proof((await log.prove(where.index)).proof).checkpoint, policy)
            assert opened.size == where.index + 1
            assert log.alarm() is None
            await check_served(log, vault, older=before.note)


async def test_database_and_vault_rewound_together_are_caught_by_the_witness_alone(tmp_path, certificates):
    """What no lock of our own can see: both go back to a state that was consistent, and the witness remembers more."""
    store, vault = FakeDatabase().log(ORIGIN), FakeLogVault()
    key = await log_key(vault)
    with running_witness(tmp_path / "w", certificates, key) as witness:
        policy = policy_with(witness, key)
        async with open_witnesses(certificates / "ca.pem") as link:
            plan = WitnessPlan(policy, link)
            async with running_log(store, vault, witnesses=plan) as log:
                await log.prove((await add(log, 3)).index)
                rows, head = list(store.rows.entries), vault.head
                kept, notes = store.rows.head, list(store.rows.notes)
                await log.prove((await add(log, 5)).index)
            store.rows.entries, store.rows.head, store.rows.notes, vault.head = rows, kept, notes, head
            store.rows.by_id = {entry.entry_id: entry for entry in rows}
            async with running_log(store, vault, witnesses=plan) as log:
                where = await add(log)
                with pytest.raises(Unavailable, match="knows this log at size 9"):
                    await log.prove(where.index)
                assert "rewound or forked" in log.alarm()
                assert log.published().size == 4


