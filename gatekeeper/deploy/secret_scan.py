"""Looks for secrets in what is about to be deployed (decision rules, P12).

Two detectors, run by whoever may know what they look for. A private key in PEM is looked for by everybody, before the decision, and is part of
it. The values of the vault's secrets are read by the one-deploy token alone, after the Allow: role `decide` has no path to them, and must have
none. So they are compared by whoever holds that token, in memory, before the first byte is sent; what is found ends the ping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import trio

from gatekeeper.model.frame import PartName
from gatekeeper.model.privatekey import holds_private_key
from gatekeeper.ports.target import Part

SHORTEST: Final = 8
"""bytes of a secret that is looked for: shorter ones stand anywhere by chance"""
_CHUNK: Final = 1 << 20
_SEARCHED: Final = (PartName.CONFIG, PartName.CONFIGURATION, PartName.LAYER)


async def file_holds_private_key(path: Path) -> bool:
    """Whether a file, read piece by piece off the event loop, holds a private key in PEM."""
    return await trio.to_thread.run_sync(lambda: holds_private_key(_pieces(path)), abandon_on_cancel=True)


async def secret_in_parts(parts: tuple[Part, ...], secrets: Mapping[str, str]) -> str | None:
    """Where a secret's value stands in the bytes of an artifact or configuration, in words that name the secret and not its value; else None."""
    wanted = {name: value.encode() for name, value in secrets.items() if len(value.encode()) >= SHORTEST}
    if not wanted:
        return None
    return await trio.to_thread.run_sync(_search, parts, wanted, abandon_on_cancel=True)


def _search(parts: tuple[Part, ...], wanted: Mapping[str, bytes]) -> str | None:
    overlap = max(map(len, wanted.values())) - 1
    for part in parts:
        if part.name not in _SEARCHED:
            continue
        kept = b""
        for piece in (part.source,) if isinstance(part.source, bytes) else _pieces(part.source):
            window = kept + piece
            if found := next((name for name in sorted(wanted) if wanted[name] in window), None):
                return f"the value of the secret {found} stands in the {part.name.value}"
            kept = window[-overlap:]
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece
