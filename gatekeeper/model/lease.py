"""What ties a credential of the vault to the log: how a lease is named there, and what a certificate says that it is for.

The gatekeeper writes it, `pingee audit leases` reads it, and both by these functions.
"""

from __future__ import annotations

import hashlib
from typing import Final

from .digest import Digest, digest_hex, digest_of

STATUS_COMMAND: Final = "pingee-doorkeeper status"
"""The one command of a certificate that only reads."""


def lease_digest(serial: int) -> Digest:
    """What an outcome entry names an SSH certificate by: the sha256 of its serial number in decimal digits."""
    return digest_of(str(serial).encode())


def forced_command(receipt: Digest) -> str:
    """The one command of a deploy's certificate (`interfaces.md` section 6)."""
    return f"pingee-doorkeeper serve {digest_hex(receipt)}"


def status_role(target: str) -> str:
    """The vault's SSH role whose certificates only read a target's status; the dot keeps it apart from every target's own name."""
    return f"{target}.status"


def question_id(origin: str, target: str) -> str:
    """Key id of the certificates under which the gatekeeper of a log asks a target: always the same, so an auditor can tell its questions."""
    return hashlib.sha256(f"pingee.observe/v1\0{origin}\0{target}".encode()).hexdigest()[:32]
