"""The vault's own audit file (OpenBao 2.x and HashiCorp Vault, JSON lines): what it tells of credentials that a vault gave for one instance.

Only answers without an error give anything, so only they are read. The file keeps values as keyed hashes; the bootstrap has the vault show
`serial_number` and `signed_key` of SSH certificates as they are, and a token's policies, metadata and display name are never hashed. Tokens
themselves stay hashed, always by the same key, so the same token is the same text on every line.

Nothing here touches a file: lines come in, values go out. A line that does not parse is counted and kept by its number, since whoever asks
the vault chooses some of what stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from gatekeeper.model.strictjson import MalformedJson, parse_object

MAX_LINE: Final = 1024 * 1024
MAX_KEPT: Final = 1_000_000
"""Credentials, and unreadable lines, of one audit."""
_HASHED: Final = "hmac-"


class TooMuch(ValueError):
    """More credentials, or unreadable lines, than one audit keeps."""


@dataclass(frozen=True, order=True)
class Place:
    """A line of the audit file, counted from 1, and the vault's time on it."""

    at: datetime
    file: str
    line: int


@dataclass(frozen=True)
class DeployToken:
    """A one-deploy token was given. `holder` is its hash; None where the answer was wrapped."""

    place: Place
    target: str
    holder: str | None


@dataclass(frozen=True)
class Certificate:
    """An SSH certificate was signed. `serial`, `key_id` and `command` are None where the file keeps them hashed."""

    place: Place
    path: str
    role: str
    holder: str
    """hash of the token that asked"""
    asked_by: str
    """that token's display name"""
    serial: int | None
    key_id: str | None
    command: str | None
    """its `force-command`; empty where it has none"""
    wrapped: bool = False
    """the answer went into a wrapping token, which hides it from this file"""


@dataclass(frozen=True)
class SettingsRead:
    """A workload's settings were read. `deploys` is whether the token was a one-deploy token."""

    place: Place
    path: str
    holder: str
    asked_by: str
    deploys: bool


@dataclass
class AuditFile:
    """What was found. `cut` are the first and last lines of files that begin or end within a line."""

    first: Place | None = None
    last: Place | None = None
    lines: int = 0
    tokens: list[DeployToken] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    reads: list[SettingsRead] = field(default_factory=list)
    unreadable: list[tuple[str, int]] = field(default_factory=list)
    cut: list[tuple[str, int]] = field(default_factory=list)


def read_audit(found: AuditFile, file: str, lines: Iterable[bytes], instance: str) -> None:
    """Add what the lines of one file tell of an instance. A line longer than `MAX_LINE` may come cut. Raises `TooMuch`."""
    marks = tuple(mark.encode() for mark in (f"ssh-{instance}/", f"{instance}-deploy-", f"/{instance}/config/"))
    number, unread, line = 0, False, b""
    for number, line in enumerate(lines, 1):
        unread = not _read_line(found, file, number, line, instance, marks)
        if unread:
            # Files are rotated by size as well: the first line's beginning may lie in another file.
            (found.cut if number == 1 and not line.startswith(b"{") else found.unreadable).append((file, number))
            if len(found.unreadable) > MAX_KEPT:
                raise TooMuch(f"more than {MAX_KEPT} lines cannot be read; is it an audit file?")
    if unread and (file, number) in found.unreadable[-1:] and not line.endswith(b"\n"):
        found.cut.append(found.unreadable.pop())
    elif number and not unread and (place := _place(_record(line), file, number)) is not None:
        found.last = max(found.last or place, place)
    found.lines += number


def _read_line(found: AuditFile, file: str, number: int, line: bytes, instance: str, marks: tuple[bytes, ...]) -> bool:
    whole = line.startswith(b"{") and line.rstrip(b"\n").endswith(b"}") and len(line) <= MAX_LINE
    # What is asked about stands in the clear, so a line without it is parsed for its time alone, and one that tells where the file begins is enough.
    wanted = any(mark in line for mark in marks)
    if not whole or not (wanted or found.first is None):
        return whole
    record = _record(line)
    place = _place(record, file, number)
    if record is None or place is None:
        return False
    found.first = min(found.first or place, place)
    found.last = max(found.last or place, place)
    if wanted and record.get("type") == "response" and not record.get("error"):
        _add(found, place, record, instance)
    if len(found.certificates) + len(found.tokens) + len(found.reads) > MAX_KEPT:
        raise TooMuch(f"more than {MAX_KEPT} credentials")
    return True


def _add(found: AuditFile, place: Place, record: dict[str, Any], instance: str) -> None:
    request, response, auth = _member(record, "request"), _member(record, "response"), _member(record, "auth")
    path, data = str(request.get("path", "")), _member(response, "data")
    holder, asked_by = str(request.get("client_token", "")), str(auth.get("display_name", ""))
    given = _member(response, "auth")
    wrapped = _member(response, "wrap_info")
    for target in dict.fromkeys([*_targets(given, instance), *_wrapped_target(path, wrapped, instance)]):
        token = given.get("client_token")
        found.tokens.append(DeployToken(place, target, token if isinstance(token, str) else None))
    signs, _, role = path.removeprefix(f"ssh-{instance}/").rpartition("/")
    if path.startswith(f"ssh-{instance}/") and ("serial_number" in data or "signed_key" in data or (wrapped and signs.split("/")[-1] in _SIGNING)):
        found.certificates.append(_certificate(place, path, role, holder, asked_by, data, bool(wrapped)))
    if path.startswith(f"kv/data/{instance}/config/") and request.get("operation") == "read" and (data or wrapped):
        found.reads.append(SettingsRead(place, path, holder, asked_by, any(_targets(auth, instance))))


_SIGNING: Final = frozenset({"sign", "issue"})


def _certificate(place: Place, path: str, role: str, holder: str, asked_by: str, data: dict[str, Any], wrapped: bool) -> Certificate:
    shown, key_id, command = data.get("serial_number"), None, None
    serial = _serial(shown) if isinstance(shown, str) else None
    parsed = _parse(data.get("signed_key"))
    if parsed is not None:
        key_id = parsed.key_id.decode("utf-8", "backslashreplace")
        command = parsed.critical_options.get(b"force-command", b"").decode("utf-8", "backslashreplace")
        serial = parsed.serial
    return Certificate(place, path, role, holder, asked_by, serial, key_id, command, wrapped)


def _serial(text: str) -> int | None:
    # Hexadecimal, without leading zeros (both vaults).
    return int(text, 16) if 1 <= len(text) <= 16 and all(c in "0123456789abcdef" for c in text) else None


def _parse(text: object) -> SSHCertificate | None:
    if not isinstance(text, str) or text.startswith(_HASHED):
        return None
    try:
        found = load_ssh_public_identity(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return found if isinstance(found, SSHCertificate) else None


def _targets(auth: dict[str, Any], instance: str) -> Iterator[str]:
    """Of which targets a token with these policies may have certificates signed."""
    for kind in ("policies", "token_policies", "identity_policies"):
        policies = auth.get(kind)
        for policy in policies if isinstance(policies, list) else ():
            if isinstance(policy, str) and policy.startswith(f"{instance}-deploy-"):
                yield policy.removeprefix(f"{instance}-deploy-")


def _wrapped_target(path: str, wrapped: dict[str, Any], instance: str) -> Iterator[str]:
    role = path.removeprefix("auth/token/create/")
    if wrapped and role != path and role.startswith(f"{instance}-deploy-"):
        yield role.removeprefix(f"{instance}-deploy-")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(line, max_bytes=MAX_LINE)
    except MalformedJson:
        return None


def _place(record: dict[str, Any] | None, file: str, line: int) -> Place | None:
    try:
        at = datetime.fromisoformat(str((record or {}).get("time")))
    except ValueError:
        return None
    return None if at.tzinfo is None else Place(at.astimezone(UTC), file, line)


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
