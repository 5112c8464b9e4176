"""The keeper's control socket over a real connection, and what supervision does with a part that is stopped, started, killed or will not start."""

import json
import socket
import stat
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from clients.demo.control import MAX_LINE, Controlled, ControlRefused, Do, ask_keeper, serve_control
from clients.demo.processes import NotReady, Supervised

DEADLINE_S = 60


class FakeProgram:
    """Runs when it is launched; `fails` is how often it will not be."""

    def __init__(self, name):
        self.name, self.up, self.launches, self.ends, self.kills, self.fails = name, False, 0, 0, 0, 0

    def runs(self):
        return self.up

    async def launch(self):
        if self.fails:
            self.fails -= 1
            raise NotReady(f"{self.name} is not to be had")
        self.launches += 1
        self.up = True

    async def ready(self):
        if not self.up:
            raise NotReady(f"{self.name} does not answer")

    async def end(self):
        self.ends += 1
        self.up = False

    async def kill(self):
        self.kills += 1
        self.up = False


@asynccontextmanager
async def keeper(directory, **fixed):
    """A control socket over two parts, watched as in a house."""
    programs = {name: FakeProgram(name) for name in ("vault", "target-test")}
    parts = {name: Supervised(program) for name, program in programs.items()}
    async with trio.open_nursery() as nursery:
        for part in parts.values():
            await part.start()
            nursery.start_soon(part.run)
        await nursery.start(serve_control, directory, Controlled(parts, fixed))
        yield programs
        nursery.cancel_scope.cancel()


async def tell(directory, part, do):
    with trio.fail_after(DEADLINE_S):
        await trio.to_thread.run_sync(ask_keeper, directory, part, do)


async def until(holds):
    with trio.fail_after(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 -- what is waited for happens in the code under test
            await trio.sleep(0.01)


def raw(directory, data):
    """What is answered to these bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(directory / "control"))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as lines:
            return json.loads(lines.readline())


async def test_a_stopped_part_stays_down_until_it_is_started(tmp_path):
    async with keeper(tmp_path) as programs:
        await tell(tmp_path, "vault", Do.STOP)
        assert (programs["vault"].up, programs["vault"].ends, programs["target-test"].up) == (False, 1, True)
        await trio.sleep(0.5)  # longer than the supervision takes to bring a killed one back
        assert not programs["vault"].up
        await tell(tmp_path, "vault", Do.START)
        assert (programs["vault"].up, programs["vault"].launches) == (True, 2)


async def test_a_killed_part_comes_back_by_itself(tmp_path):
    async with keeper(tmp_path) as programs:
        await tell(tmp_path, "target-test", Do.KILL)
        await until(lambda: programs["target-test"].launches == 2)
        assert (programs["target-test"].kills, programs["target-test"].ends) == (1, 0)


async def test_what_does_not_run_cannot_be_killed(tmp_path):
    async with keeper(tmp_path):
        await tell(tmp_path, "vault", Do.STOP)
        with pytest.raises(ControlRefused, match=r"^vault does not run$"):
            await tell(tmp_path, "vault", Do.KILL)


async def test_a_start_that_fails_says_why_and_is_tried_again(tmp_path):
    async with keeper(tmp_path) as programs:
        await tell(tmp_path, "vault", Do.STOP)
        programs["vault"].fails = 2
        with pytest.raises(ControlRefused, match=r"^vault is not to be had$"):
            await tell(tmp_path, "vault", Do.START)
        await until(lambda: programs["vault"].up)
        assert programs["vault"].fails == 0


async def test_stopping_and_starting_twice_is_once(tmp_path):
    async with keeper(tmp_path) as programs:
        for do in (Do.STOP, Do.STOP, Do.START, Do.START):
            await tell(tmp_path, "vault", do)
        assert programs["vault"].launches == 2


async def test_an_unknown_part_is_answered_with_the_known_ones(tmp_path):
    async with keeper(tmp_path):
        with pytest.raises(ControlRefused, match=r"^there is no part 'v\\xe4ult'; there are vault, target-test$"):
            await tell(tmp_path, "v\u00e4ult", Do.STOP)


async def test_a_part_that_is_not_ours_says_whose_it_is(tmp_path):
    async with keeper(tmp_path, database="somebody else runs it"):
        with pytest.raises(ControlRefused, match=r"^somebody else runs it$"):
            await tell(tmp_path, "database", Do.KILL)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the line has no end"),
        (b'{"part": "vault", "do": "stop"}', "the line has no end"),
        (b"x" * (MAX_LINE + 1) + b"\n", f"the line has more than {MAX_LINE} bytes"),
        (b" " * 10 * MAX_LINE, f"the line has more than {MAX_LINE} bytes"),
        (b'{"part": "vault", "do": "stop"}\n{"part": "vault", "do": "stop"}\n', "more than one line"),
        (b"\n", 'expected {"part": NAME'),
        (b"\xff\xfe\n", 'expected {"part": NAME'),
        (b'["vault", "stop"]\n', 'expected {"part": NAME'),
        (b'{"part": "vault"}\n', "/do: is missing"),
        (b'{"part": "vault", "do": "stop", "by": "force"}\n', "/by: is not a member"),
        (b'{"part": "vault", "part": "vault", "do": "stop"}\n', 'expected {"part": NAME'),
        (b'{"part": ["vault"], "do": "stop"}\n', "/part: must be a string"),
        (b'{"part": "va\xc2\x9b31mult", "do": "stop"}\n', "/part: holds a control character"),
        (b"[" * 900 + b"\n", 'expected {"part": NAME'),
        (b'{"part": "vault", "do": "reap"}\n', "not 'reap'"),
        (b'{"part": "../vault", "do": "stop"}\n', "there is no part '../vault'"),
    ],
)
async def test_what_is_no_line_of_ours_is_refused_and_nothing_is_done(tmp_path, data, says):
    async with keeper(tmp_path) as programs:
        answer = await trio.to_thread.run_sync(raw, tmp_path, data)
        assert says in answer["error"]
        assert (programs["vault"].up, programs["vault"].ends) == (True, 0)
        await tell(tmp_path, "vault", Do.STOP)  # it still answers


async def test_a_caller_who_goes_away_stops_nobody(tmp_path):
    async with keeper(tmp_path) as programs:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(tmp_path / "control"))
            connection.sendall(b'{"part": "vault", "do": "stop"}\n')
        await until(lambda: programs["vault"].ends == 1)
        await tell(tmp_path, "vault", Do.START)


async def test_the_socket_is_its_owners_alone_and_goes_with_the_keeper(tmp_path):
    (tmp_path / "control").write_text("left by one that was killed")
    async with keeper(tmp_path):
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
    assert not (tmp_path / "control").exists()
    with pytest.raises(ControlRefused, match=f"^no demo runs in {tmp_path}$"):
        await tell(tmp_path, "vault", Do.STOP)


async def test_a_directory_deeper_than_a_sockets_path_may_be_long_works(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with keeper(deep) as programs:
        await tell(deep, "vault", Do.STOP)
        assert not programs["vault"].up
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_keeper_that_ends_before_it_answers_is_one_sentence(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen(1)
        thread = threading.Thread(target=lambda: listening.accept()[0].close())
        thread.start()
        with pytest.raises(ControlRefused, match=r"ended before it answered$|no demo runs"):
            ask_keeper(tmp_path, "vault", Do.STOP)
        thread.join()
