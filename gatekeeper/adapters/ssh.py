"""A target behind SSH: sends frames to a doorkeeper and reads its answers. The only user of asyncssh in the gatekeeper.

The credential lives in memory alone. No agent, no configuration file, no known-hosts file of the machine is read: the host is believed by
the keys of its `TargetAddress`, or not at all. What the host writes is bounded and parsed strictly; it may say no, but it cannot make us say yes:
an outcome is believed only together with its own exit status.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncssh
import trio

from gatekeeper.crossing import LoopThread
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.frame import encode_header
from gatekeeper.model.reason import REASONS, Effect
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.ports.target import (
    AdoptedStatus,
    Answer,
    Applied,
    ApplyFailed,
    ComponentStatus,
    LastOutcome,
    OverrideReport,
    Part,
    Phase,
    Progress,
    Refused,
    RolledBack,
    SshCredential,
    Stale,
    TargetAddress,
    TargetStatus,
    TargetUnavailable,
    TargetUnknown,
)

CONNECT_S: Final = 5
LOGIN_S: Final = 10
STATUS_S: Final = 180.0
"""a status may have to put back a release first"""
APPLY_S: Final = 1200.0
MAX_LINE: Final = 64 * 1024
MAX_STATUS: Final = 256 * 1024
"""of a status, which may tell of 32 override orders as they were signed"""
MAX_OVERRIDES: Final = 32
MAX_LINES: Final = 10_000
_CHUNK: Final = 1 << 16

_Say = Callable[[Progress], None]


class SshTarget:
    """`ports.target.Target` over SSH. `loop` runs asyncssh."""

    def __init__(self, loop: LoopThread, *, apply_s: float = APPLY_S, status_s: float = STATUS_S) -> None:
        self._loop = loop
        self._apply_s = apply_s
        self._status_s = status_s

    async def apply(
        self,
        address: TargetAddress,
        credential: SshCredential,
        receipt: Digest,
        parts: Sequence[Part],
        *,
        progress: Callable[[Progress], None],
    ) -> Answer:
        """See the port. `receipt` is what the certificate names; the host takes it from there."""
        token = trio.lowlevel.current_trio_token()

        def say(value: Progress) -> None:
            token.run_sync_soon(progress, value)

        return await self._loop.run(_apply, _Call(address, credential, self._apply_s), receipt, tuple(parts), say)

    async def status(self, address: TargetAddress, credential: SshCredential, receipt: Digest | None) -> TargetStatus:  # noqa: ARG002 -- as above
        """See the port."""
        return await self._loop.run(_status, _Call(address, credential, self._status_s))


    async def shows_pinned_key(self, address: TargetAddress) -> bool:
        """Whether the host answers with one of the keys pinned for it; nobody logs in. Raises `TargetUnavailable`."""
        return await self._loop.run(_shows_pinned_key, address)


@dataclass(frozen=True)
class _Call:
    address: TargetAddress
    credential: SshCredential
    deadline_s: float


async def _apply(call: _Call, receipt: Digest, parts: tuple[Part, ...], say: _Say) -> Answer:
    header = encode_header([part.spec for part in parts])
    sent = False
    try:
        async with asyncio.timeout(call.deadline_s), _session(call, "apply") as process:
            sent = True
            say(Progress(Phase.SENDING))
            sending = asyncio.create_task(_send(process, header, parts))
            try:
                answer = await _read_answer(process, receipt, say)
            finally:
                sending.cancel()
                failed = (await asyncio.gather(sending, return_exceptions=True))[0]
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise (TargetUnknown if sent else TargetUnavailable)(_cause(call, error)) from None
    if isinstance(failed, _PartChanged):
        # Our own file was not what was decided on: the target has seen an early end, and says so.
        return ApplyFailed(f"{call.address.name}: {failed}", spent=False) if isinstance(answer, ApplyFailed | Refused) else answer
    return answer


async def _status(call: _Call) -> TargetStatus:
    try:
        async with asyncio.timeout(call.deadline_s), _session(call, "status") as process:
            process.stdin.write_eof()
            async for line in _lines(process, longest=MAX_STATUS):
                fields = Fields(parse_object(line, max_bytes=MAX_STATUS))
                if fields.has("error"):
                    raise TargetUnavailable(f"{call.address.name}: {fields.text('error', max_length=600)}")
                return _read_status(fields)
        raise TargetUnavailable(f"{call.address.name}: no answer")
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise TargetUnavailable(_cause(call, error)) from None
    except (MalformedJson, FieldError, TargetUnknown) as error:
        raise TargetUnavailable(f"{call.address.name}: unreadable status: {error}") from None


async def _shows_pinned_key(address: TargetAddress) -> bool:
    try:
        keys = [asyncssh.import_public_key(line) for line in address.host_keys]
        algorithms = _host_algorithms(keys, with_ca=False)
        async with asyncio.timeout(CONNECT_S):
            found = await asyncssh.get_server_host_key(address.host, address.port, server_host_key_algs=algorithms, config=None)
    except asyncssh.KeyExchangeFailed:
        return False
    except (asyncssh.Error, OSError, TimeoutError, ValueError) as error:
        raise TargetUnavailable(f"{address.name}: {type(error).__name__}") from None
    return found is not None and found in keys


@asynccontextmanager
async def _session(call: _Call, word: str) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
    address = call.address
    if not address.host_keys and address.host_ca is None:
        raise TargetUnavailable(f"{address.name}: neither a pinned host key nor a host CA is known")
    try:
        keys = [asyncssh.import_public_key(line) for line in address.host_keys]
        authorities = [] if address.host_ca is None else [asyncssh.import_public_key(address.host_ca)]
        key = asyncssh.import_private_key(call.credential.private_key_pem)
        certificate = asyncssh.import_certificate(call.credential.certificate)
    except (asyncssh.KeyImportError, ValueError):
        raise TargetUnavailable(f"{address.name}: a key or certificate cannot be read") from None
    connection = await asyncssh.connect(
        address.host,
        address.port,
        username=address.user,
        client_keys=[(key, certificate)],
        known_hosts=(keys, authorities, []),
        host_key_alias=address.name,
        server_host_key_algs=_host_algorithms(keys, with_ca=bool(authorities)),
        config=None,
        agent_path=None,
        preferred_auth="publickey",
        x509_trusted_certs=None,
        login_timeout=LOGIN_S,
        connect_timeout=CONNECT_S,
        keepalive_interval=15,
        compression_algs=None,
    )
    try:
        yield await connection.create_process(word, encoding=None, request_pty=False, stderr=asyncssh.DEVNULL)
    finally:
        connection.abort()
        await connection.wait_closed()


def _host_algorithms(keys: Sequence[asyncssh.SSHKey], *, with_ca: bool) -> list[str]:
    # Without this a host with a certificate offers it first, and a pinned plain key is never asked for.
    plain = [key.get_algorithm() for key in keys]
    return (["ssh-ed25519-cert-v01@openssh.com"] if with_ca else []) + list(dict.fromkeys(plain))


class _PartChanged(Exception):
    """A part's file is no longer as long as it was when it was hashed."""


async def _send(process: asyncssh.SSHClientProcess[bytes], header: bytes, parts: Sequence[Part]) -> None:
    # A target that refuses early closes its side; what is lost then does not matter, its answer does.
    try:
        process.stdin.write(header)
        for part in parts:
            await _send_part(process, part)
        process.stdin.write_eof()
    except (asyncssh.Error, BrokenPipeError, ConnectionResetError):
        return
    except (_PartChanged, OSError):
        process.stdin.write_eof()
        raise


async def _send_part(process: asyncssh.SSHClientProcess[bytes], part: Part) -> None:
    if isinstance(part.source, bytes):
        process.stdin.write(part.source)
        await process.stdin.drain()
        return
    left = part.size
    with part.source.open("rb") as file:
        while left:
            chunk = await asyncio.to_thread(file.read, min(_CHUNK, left))
            if not chunk:
                raise _PartChanged(f"{part.name.value} is shorter than it was")
            left -= len(chunk)
            process.stdin.write(chunk)
            await process.stdin.drain()


async def _read_answer(process: asyncssh.SSHClientProcess[bytes], receipt: Digest, say: _Say) -> Answer:
    last: bytes | None = None
    async for line in _lines(process):
        try:
            fields = Fields(parse_object(line, max_bytes=MAX_LINE))
            if fields.has("progress"):
                phase = fields.choice("progress", tuple(p.value for p in Phase))
                say(Progress(Phase(phase), fields.text("detail", min_length=0)))
            else:
                last = line
        except (MalformedJson, FieldError) as error:
            raise TargetUnknown(f"the target's answer cannot be read: {error}") from None
    await process.wait_closed()
    status = process.exit_status
    if last is None or status is None:
        raise TargetUnknown("the target's last word was lost")
    try:
        return parse_answer(last, status, receipt)
    except (MalformedJson, FieldError) as error:
        raise TargetUnknown(f"the target's answer cannot be read: {error}") from None


def parse_answer(line: bytes, status: int, receipt: Digest) -> Answer:
    """A doorkeeper's last line and its exit status. Raises `FieldError` or `MalformedJson` where they do not fit each other, or another receipt."""
    fields = Fields(parse_object(line, max_bytes=MAX_LINE))
    if fields.has("refused"):
        code = fields.text("refused")
        if status != 3 or code not in REASONS or Effect.DOOR not in REASONS[code].effects:
            raise fields.error("refused", f"is no refusal of a doorkeeper with exit status {status}")
        return Refused(code, fields.text("detail", max_length=1024, min_length=0))
    if fields.has("stale"):
        _fits(fields, "stale", status, (5,))
        return Stale(fields.integer("stale"), fields.optional("origin", fields.text))
    if fields.has("error"):
        _fits(fields, "error", status, (1, 7, 20))
        if status == 20 or fields.has("receipt"):
            # A bug, or a full disk, may have struck after the receipt was accepted: only the status can tell.
            raise fields.error("error", "is a fault of the target's own")
        return ApplyFailed(fields.text("error", max_length=1024, min_length=0), spent=False)
    outcome = LastOutcome(fields.choice("outcome", ("healthy", "rolled-back", "failed")))
    if fields.digest("receipt") != receipt:
        raise fields.error("receipt", "is not the one that was sent")
    detail = fields.text("detail", max_length=1024, min_length=0)
    cosignature, size = fields.text("cosignature", max_length=1024), fields.integer("size")
    if outcome is LastOutcome.HEALTHY:
        _fits(fields, "outcome", status, (0,))
        return Applied(fields.digest("applied"), cosignature, size)
    if outcome is LastOutcome.ROLLED_BACK:
        _fits(fields, "outcome", status, (6,))
        return RolledBack(detail, fields.digest("restored"), cosignature, size)
    _fits(fields, "outcome", status, (1, 6))
    return ApplyFailed(detail, spent=True, cosignature=cosignature, size=size)


def _fits(fields: Fields, key: str, status: int, allowed: tuple[int, ...]) -> None:
    if status not in allowed:
        raise fields.error(key, f"does not go with exit status {status}")


async def _lines(process: asyncssh.SSHClientProcess[bytes], *, longest: int = MAX_LINE) -> AsyncIterator[bytes]:
    """The lines of stdout, bounded in length and number. Raises `TargetUnknown` where a bound is passed."""
    waiting, number = b"", 0
    while chunk := await process.stdout.read(_CHUNK):
        *whole, waiting = (waiting + chunk).split(b"\n")
        number += len(whole)
        if number > MAX_LINES or len(waiting) > longest:
            raise TargetUnknown("the target's answer is too long")
        for line in whole:
            yield line


def _read_status(fields: Fields) -> TargetStatus:
    return TargetStatus(
        target=fields.name("target"),
        origin=fields.optional("origin", fields.text),
        size=fields.integer("size"),
        cosigner=fields.text("cosigner", max_length=512),
        components=tuple(_read_component(item) for item in fields.objects("components", max_items=256)),
        adopted=tuple(_read_adopted(item) for item in fields.objects("adopted", max_items=256)) if fields.has("adopted") else (),
        # A doorkeeper from before there were overrides tells of none.
        overrides=tuple(_read_override(item) for item in fields.objects("overrides", max_items=MAX_OVERRIDES)) if fields.has("overrides") else (),
        record=fields.optional("record", lambda key: fields.text(key, max_length=1024)) or "",
    )


def _read_override(fields: Fields) -> OverrideReport:
    try:
        envelope = base64.b64decode(fields.text("envelope", max_length=8192).encode(), validate=True)
    except binascii.Error:
        raise fields.error("envelope", "is not base64") from None
    return OverrideReport(
        order=fields.digest("order"),
        component=fields.name("component"),
        digest=fields.digest("digest"),
        signers=fields.texts("signers", max_items=2, max_length=64),
        applied_at=fields.moment("applied_at"),
        outcome=LastOutcome(fields.choice("outcome", tuple(o.value for o in LastOutcome))),
        record=fields.digest("record"),
        envelope=envelope,
    )


def _read_adopted(fields: Fields) -> AdoptedStatus:
    return AdoptedStatus(fields.name("component"), fields.digest("artifact"), fields.boolean("runs"))


def _read_component(fields: Fields) -> ComponentStatus:
    return ComponentStatus(
        component=fields.name("component"),
        receipt=fields.digest("receipt"),
        index=fields.integer("index"),
        slot=fields.optional("slot", fields.integer),
        outcome=LastOutcome(fields.choice("outcome", tuple(o.value for o in LastOutcome))),
        detail=fields.text("detail", max_length=1024, min_length=0),
        cosignature=fields.text("cosignature", max_length=1024),
        size=fields.integer("size"),
        running=fields.optional("running", fields.digest),
        config=fields.optional("config", fields.text),
        override=fields.optional("override", fields.digest),
        origin=fields.optional("origin", fields.text),
    )


def _cause(call: _Call, error: Exception) -> str:
    # Vendor messages may repeat what a server sent; the kind of error says enough, and holds no secret.
    return f"{call.address.name}: {type(error).__name__}"
