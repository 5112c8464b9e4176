"""`pingee-gatekeeper bootstrap`: from a layout and a root token to a vault that is set up, and no root token.

The root token comes on standard input, never as an argument or variable: those are visible to others. Blocking throughout.
"""

from __future__ import annotations

import getpass
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper import bootstrap
from gatekeeper.adapters.vault import VaultAddress
from gatekeeper.adapters.vault_layout import Layout
from gatekeeper.bootstrap import RootSecrets, VaultState
from gatekeeper.exits import Exit, Failure
from gatekeeper.layout_file import read_layout
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.ports.errors import Denied

READY_S: Final = 30.0
"""How long a vault may take from its initialisation until it serves."""
MAX_LINE: Final = 4096
_POLL_S: Final = 0.05

_TOKEN = re.compile(r"[!-~]{8,512}")


@dataclass(frozen=True)
class Setup:
    """What was asked for on the command line."""

    address: VaultAddress
    layout_file: Path
    out: Path
    plan_only: bool
    initialise: bool


def set_up(asked: Setup, told: Callable[[str], None]) -> None:
    """Do it, telling a line for each thing that was done. Raises `Failure`, `BadLayout`, `BootstrapRefused` and `PortError`."""
    layout = read_layout(asked.layout_file)
    state = _state(asked.address)
    if state is VaultState.UNINITIALISED:
        if asked.plan_only:
            told(f"initialise {asked.address.url}\n{bootstrap.plan_of_nothing(layout)}")
            return
        secrets = _initialised(asked, told)
    else:
        secrets = _given()
    _apply(asked, secrets, layout, told)


def _apply(asked: Setup, secrets: RootSecrets, layout: Layout, told: Callable[[str], None]) -> None:
    try:
        changes = bootstrap.plan(asked.address, secrets.root_token, layout)
    except Denied:
        raise Failure(Exit.LOGIN, "the vault refuses the root token: it was revoked, has expired, or is another vault's") from None
    if asked.plan_only:
        told(str(changes))
        return
    bootstrap.bootstrap(asked.address, secrets, layout, asked.out, told=told)


def _state(address: VaultAddress) -> VaultState:
    if not address.ca_file.is_file():
        raise Failure(Exit.USAGE, f"--ca-file {address.ca_file} is no file")
    state = bootstrap.vault_state(address)
    if state is VaultState.SILENT:
        raise Failure(Exit.REMOTE, f"no vault answers at {address.url}, or its certificate does not come from {address.ca_file}")
    if state is VaultState.SEALED:
        raise Failure(Exit.REMOTE, f"the vault at {address.url} is sealed or has no leader: unseal it, then run this again")
    return state


def _initialised(asked: Setup, told: Callable[[str], None]) -> RootSecrets:
    if not asked.initialise:
        raise Failure(Exit.USAGE, f"the vault at {asked.address.url} is not initialised: initialise it, or let me with --initialise")
    recovery = asked.out / "recovery.key"
    if recovery.exists():
        raise Failure(Exit.USAGE, f"{recovery} is the recovery key of another vault: name another directory")
    asked.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    _try_writing(asked.out)
    secrets = bootstrap.initialise(asked.address)
    bootstrap.keep_recovery_key(asked.out, secrets)
    told(f"initialised {asked.address.url}; wrote {recovery}: take it away from this host")
    deadline = time.monotonic() + READY_S
    while bootstrap.vault_state(asked.address) is not VaultState.READY:
        if time.monotonic() > deadline:
            sentence = f"the vault is initialised and did not become ready: make a root token with {recovery}, then run this again"
            raise Failure(Exit.REMOTE, sentence)
        time.sleep(_POLL_S)
    return secrets


def _try_writing(directory: Path) -> None:
    # Before the vault is initialised, not after: its recovery key is shown once.
    probe = directory / ".writable"
    probe.write_bytes(b"x" * MAX_LINE)
    probe.unlink()


def _given() -> RootSecrets:
    """The root token from standard input: a line that is the token, or `{"root_token": ..., "recovery_key": ...}`."""
    if sys.stdin.isatty():
        text = getpass.getpass("root token (not shown): ", stream=sys.stderr)
    else:
        text = sys.stdin.buffer.readline(MAX_LINE).decode("utf-8", "replace")
    if not text.strip():
        raise Failure(Exit.LOGIN, "no root token on standard input: pipe it in as one line, for example from a file of mode 0600")
    return parse_root(text.strip())


def parse_root(line: str) -> RootSecrets:
    """Read the line; raises `Failure`, which shows nothing of it."""
    if not line.startswith("{"):
        if _TOKEN.fullmatch(line) is None:
            raise Failure(Exit.USAGE, "standard input holds no token: one line of printable characters without spaces is expected")
        return RootSecrets(line)
    try:
        fields = Fields(parse_object(line.encode(), max_bytes=MAX_LINE))
        recovery = fields.optional("recovery_key", lambda key: fields.text(key, max_length=512))
        secrets = RootSecrets(fields.text("root_token", max_length=512), recovery)
        fields.done()
    except (MalformedJson, FieldError):
        raise Failure(Exit.USAGE, 'standard input must be {"root_token": "...", "recovery_key": "..."}; the recovery key may be left out') from None
    return secrets
