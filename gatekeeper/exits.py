"""How the `pingee-gatekeeper` command ends (interfaces, section 1.4)."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Exit(IntEnum):
    """Exit codes, frozen; those of `pingee` that this command has."""

    OK = 0
    USAGE = 1
    """usage, or something local: a bad file, a port in use"""
    REMOTE = 2
    """the database, the vault or the policy repository was not reached, or would not"""
    DENIED = 3
    """it was looked at, and the answer is no: a policy that is refused, a log that is not as signed"""
    LOGIN = 4
    """a token or secret is missing, spent or refused"""
    INTERNAL = 20


class Failure(Exception):
    """Why the command ends: one sentence that holds no secret."""

    def __init__(self, exit_code: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
