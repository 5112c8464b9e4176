"""Foreign programs for peer tests, where `tests/peers/build NAME` left them. One that is missing fails the test and says what to run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def peer(name: str, program: str) -> Path:
    """The program of a peer, of the version that was provided last."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pingee-peers" / name
    found = [link for link in cache.glob(f"*/{program}") if os.access(link, os.X_OK)]
    if not found:
        pytest.fail(f"the peer {name} is missing: run tests/peers/build {name}")
    return max(found, key=lambda link: link.lstat().st_mtime)
