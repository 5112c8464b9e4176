"""Exit codes (interfaces, 1.4; frozen) and the failures that lead to them."""

from __future__ import annotations

from enum import IntEnum, unique

from gatekeeper.model.ping import State


@unique
class Exit(IntEnum):
    """What a process ends with."""

    OK = 0
    USAGE = 1
    REMOTE = 2
    DENIED = 3
    AUTHENTICATION = 4
    PENDING = 5
    UNHEALTHY = 6
    INDETERMINATE = 7
    INTERNAL = 20


class Failure(Exception):
    """A command ends here: one sentence for people, and the exit code. `problem` is the server's problem document, where there is one."""

    def __init__(self, exit_code: Exit, sentence: str, problem: dict[str, object] | None = None) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.problem = problem


def exit_of_state(state: State, reasons: tuple[str, ...]) -> Exit:
    """The exit code of a ping that was waited for and now stands in this state."""
    match state:
        case State.DEPLOYED | State.SHADOW_ALLOWED:
            return Exit.OK
        case State.DENIED | State.CANCELLED | State.SUPERSEDED:
            return Exit.DENIED
        case State.FAILED if "lease-refused" in reasons:
            return Exit.REMOTE
        case State.FAILED | State.UNRESPONSIVE | State.ROLLED_BACK:
            return Exit.UNHEALTHY
        case State.INDETERMINATE:
            return Exit.INDETERMINATE
        case _:
            return Exit.PENDING
