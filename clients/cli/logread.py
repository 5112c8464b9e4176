"""Reading the deploy log for commands that look into it: its policy file, a checkpoint, tiles and bundles of a server or a directory."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Final

from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned, parse_log_policy

from .exits import Exit, Failure
from .server import Server

MAX_PART: Final = 64 * 1024 * 1024


def log_policy(arguments: Namespace) -> LogPolicy:
    """The policy file that `--log-policy` names."""
    if arguments.log_policy is None:
        raise Failure(Exit.USAGE, "no log policy: give --log-policy FILE or set PINGEE_LOG_POLICY; it must come from somebody you trust")
    try:
        return parse_log_policy(Path(arguments.log_policy).read_bytes())
    except OSError as error:
        raise Failure(Exit.USAGE, f"{arguments.log_policy} cannot be read: {error.strerror}") from None
    except TlogError as error:
        raise Failure(Exit.USAGE, f"{arguments.log_policy}: {error}") from None


def read_part(source: Server | Path, path: str) -> bytes | None:
    """The bytes at a path below the log's URL, or in a directory with the same layout; None where there are none."""
    if isinstance(source, Path):
        file = source / path
        return file.read_bytes() if file.is_file() and file.stat().st_size <= MAX_PART else None
    try:
        return source.get_bytes(f"/log/{path}")
    except Failure as failure:
        if failure.problem is not None and failure.problem.get("status") == 404:
            return None
        raise


def newest(source: Server | Path, policy: LogPolicy) -> tuple[bytes, VerifiedCheckpoint]:
    """The newest checkpoint and its note, verified under the policy."""
    note = read_part(source, "checkpoint")
    if note is None:
        raise Failure(Exit.USAGE if isinstance(source, Path) else Exit.REMOTE, "the log has no checkpoint")
    try:
        return note, open_cosigned(note, policy)
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the checkpoint does not verify: {error}") from None
