"""What the run's own token says of it. Read, not verified: the gatekeeper and the vault verify; we only need to say the same as they will."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper.model.digest import is_commit
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .fault import BuildFault

_MAX_TOKEN: Final = 16 * 1024
_DOTS: Final = 2


@dataclass(frozen=True)
class ClaimedRun:
    """Project, commit and run as the CI platform's token claims them; `ref` is empty where the token names none."""

    project: str
    commit: str
    run: str
    ref: str


def read_token(path: Path) -> str:
    """The bearer token in a file; raises `BuildFault` for a file that others may read, or that holds no token."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            mode = os.fstat(fd).st_mode
            data = stream.read(_MAX_TOKEN + 1)
    except OSError as error:
        raise BuildFault("token-unreadable", f"the token file {path} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise BuildFault("token-unreadable", f"the token file {path} may be read by others; chmod 600 it")
    text = data.strip().decode("ascii", "replace")
    if len(data) > _MAX_TOKEN or text.count(".") != _DOTS or not all("!" <= c <= "~" for c in text):
        raise BuildFault("token-unreadable", f"the token file {path} holds no JSON web token")
    return text


def claimed_run(token: str) -> ClaimedRun:
    """Read the claims `project`, `commit`, `run` and `ref`; raises `BuildFault` `token-unreadable`, without the token."""
    try:
        payload = token.split(".")[1]
        claims = Fields(parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        run = ClaimedRun(
            project=claims.text("project"), commit=claims.text("commit"), run=claims.text("run"), ref=claims.optional("ref", claims.text) or ""
        )
    except (binascii.Error, MalformedJson, FieldError) as error:
        reason = str(error) if isinstance(error, FieldError) else "it is no JSON web token"
        raise BuildFault("token-unreadable", f"the run's token cannot be used: {reason}") from None
    if not is_commit(run.commit):
        raise BuildFault("token-unreadable", "the run's token names no full commit id")
    return run
