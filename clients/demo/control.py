"""Stopping and starting parts of a kept house: one JSON line each way over a Unix socket in the demo's directory.

    {"part": "vault", "do": "stop"}      ->  {"ok": true}  or  {"error": "..."}

`stop`: the part ends and stays down. `start`: it comes back; the answer comes when it is ready. `kill`: SIGKILL; it comes back by itself.
The socket is its owner's alone (0600). Whatever is not such a line is answered with an error, and nothing is done.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import trio

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .processes import NotReady, Supervised

MAX_LINE: Final = 1024
ASK_S: Final = 5.0
"""in which the line has to arrive"""
ANSWER_S: Final = 150.0
AT_ONCE: Final = 8
MAX_ANSWER: Final = 64 * 1024


class ControlRefused(RuntimeError):
    """The keeper did not do it, or does not answer; one sentence."""


class Do(Enum):
    """What can be done to a part."""

    STOP = "stop"
    START = "start"
    KILL = "kill"


@dataclass(frozen=True)
class Controlled:
    """The parts by name, and why a part that people may look for cannot be controlled."""

    parts: Mapping[str, Supervised]
    fixed: Mapping[str, str]


async def serve_control(directory: Path, controlled: Controlled, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Answer until cancelled; the socket is there when the task has started, and gone when it ends."""
    with _short_path(directory) as path:
        Path(path).unlink(missing_ok=True)
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            # Nobody is let in between these two lines: nothing listens yet.
            await listening.bind(path)
            Path(path).chmod(0o600)
            listening.listen(AT_ONCE)
            places = trio.CapacityLimiter(AT_ONCE)

            async def one(stream: trio.SocketStream) -> None:
                async with places:
                    await _answer(stream, controlled)

            try:
                task_status.started()
                await trio.serve_listeners(one, [trio.SocketListener(listening)])
            finally:
                Path(path).unlink(missing_ok=True)


async def _answer(stream: trio.SocketStream, controlled: Controlled) -> None:
    try:
        await _do(await _line(stream), controlled)
        answer: dict[str, object] = {"ok": True}
    except (ControlRefused, NotReady, OSError) as error:
        answer = {"error": str(error)}
    # Who asked may have gone; what was asked for is done all the same.
    with trio.move_on_after(ASK_S), suppress(trio.BrokenResourceError):
        await stream.send_all(json.dumps(answer).encode() + b"\n")
    await stream.aclose()


async def _line(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.move_on_after(ASK_S):
        while b"\n" not in received and len(received) <= MAX_LINE:
            try:
                chunk = await stream.receive_some(MAX_LINE + 1 - len(received))
            except trio.BrokenResourceError:
                chunk = b""
            if not chunk:
                raise ControlRefused("the line has no end")
            received += chunk
        line, newline, rest = received.partition(b"\n")
        if not newline:
            raise ControlRefused(f"the line has more than {MAX_LINE} bytes")
        if rest:
            raise ControlRefused("more than one line")
        return line
    raise ControlRefused(f"no line came within {ASK_S:.0f} s")


async def _do(line: bytes, controlled: Controlled) -> None:
    try:
        fields = Fields(parse_object(line, max_bytes=MAX_LINE))
        name, word = fields.text("part", max_length=100), fields.text("do", max_length=20)
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise ControlRefused(f'expected {{"part": NAME, "do": "stop", "start" or "kill"}}: {error}') from None
    if name in controlled.fixed:
        raise ControlRefused(controlled.fixed[name])
    part = controlled.parts.get(name)
    if part is None:
        raise ControlRefused(f"there is no part {name!a}; there are {', '.join(controlled.parts)}")
    match word:
        case Do.STOP.value:
            await part.stop()
        case Do.START.value:
            await part.start()
        case Do.KILL.value:
            await part.kill()
        case _:
            raise ControlRefused(f"a part can be told to stop, to start or to be killed, not {word!a}")


def ask_keeper(directory: Path, part: str, do: Do) -> None:
    """Tell the keeper of the house in `directory`; returns when it is done. Raises `ControlRefused` with its sentence."""
    try:
        with _short_path(directory) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(path)
            connection.sendall(json.dumps({"part": part, "do": do.value}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = parse_object(lines.readline(MAX_ANSWER), max_bytes=MAX_ANSWER)
    except TimeoutError:
        raise ControlRefused(f"the demo in {directory} did not answer within {ANSWER_S:.0f} s") from None
    except OSError:
        raise ControlRefused(f"no demo runs in {directory}") from None
    except MalformedJson:
        raise ControlRefused(f"the demo in {directory} ended before it answered") from None
    if "error" in answer:
        raise ControlRefused(str(answer["error"]))


@contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    # A socket's path has at most 107 bytes, and a directory may lie deep: its descriptor is a short name for it.
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/control"
    finally:
        os.close(descriptor)
