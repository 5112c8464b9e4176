"""What `/readyz` asks of a replica's parts, and the word for each answer. Built by `serve` over parts that it made itself.

What can only be known through a part that is away is `cannot-tell`, never a guess. Nothing here is a value, a count or a secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import trio
from cryptography import x509

from gatekeeper.adapters.ssh import SshTarget
from gatekeeper.adapters.vault import DEADLINE_S, Connection, VaultAddress, VaultSession, integer_of
from gatekeeper.adapters.vault_log import VaultLog
from gatekeeper.api.operator import Probe
from gatekeeper.crossing import in_thread
from gatekeeper.model.readiness import NEEDED, Part, Word
from gatekeeper.policy.document import Policy
from gatekeeper.ports.errors import Denied, PortError, Untrustworthy
from gatekeeper.ports.target import TargetAddress, TargetUnavailable
from gatekeeper.ports.vault import DecideVault
from gatekeeper.postgres.database import Database
from gatekeeper.sequencer import Sequencer
from gatekeeper.verify.signers import authorities_of, parse_signer

SKEW: Final = timedelta(seconds=10)
"""More than this between two clocks is said; a token's leeway is 60 s, a certificate of the vault's lives 300 s."""
EXPIRING: Final = timedelta(days=14)
THROUGH_S: Final = 2.5
"""What is known only through a part that is this slow cannot be told; the part itself is then `slow`."""


@dataclass(frozen=True)
class Watched:
    """The parts of a replica that are asked."""

    database: Database
    sequencer: Sequencer
    vault: VaultAddress
    vault_log: VaultLog
    vault_decide: DecideVault
    vault_act: VaultSession
    policy: Callable[[], Policy]
    policy_trouble: Callable[[], str | None]
    certificate: Path | None
    target: SshTarget
    addresses: Mapping[str, TargetAddress]
    clock: Callable[[], datetime]
    witness_change: Callable[[], bool | None] = lambda: None
    """whether the log says of the witnesses what the configuration says; None where nothing is to be said"""


def probes(watched: Watched) -> tuple[Mapping[str, Probe], Mapping[str, Probe]]:
    """What decides whether the replica is ready, and what is told beside it."""
    w = watched
    limiter = trio.CapacityLimiter(4)
    found: dict[str, Probe] = {
        Part.DATABASE: partial(_database, w.database),
        Part.LOG: partial(_log, w.sequencer),
        Part.WITNESSES: partial(_witnesses, w.sequencer, w.witness_change),
        Part.VAULT_LOG: partial(_through, partial(_login, w.vault_log.public_key)),
        Part.VAULT_DECIDE: partial(_through, partial(_login, w.vault_decide.public_key_pem)),
        Part.VAULT: partial(_vault, w.vault, limiter),
        Part.VAULT_ACT: partial(_through, partial(_login, partial(w.vault_act.write, "auth/token/renew-self"))),
        Part.VAULT_CLOCK: partial(_through, partial(_vault_clock, w.vault, limiter, w.clock)),
        Part.SCHEMA: partial(_through, partial(_schema, w.database)),
        Part.DATABASE_CLOCK: partial(_through, partial(_database_clock, w.database, w.clock)),
        Part.POLICY: partial(_policy, w.policy_trouble),
        Part.CERTIFICATE: partial(_certificate, w.certificate, w.clock),
        Part.BUILDER_CA: partial(_builder_ca, w.policy, w.clock),
        **{f"{Part.TARGET}:{name}": partial(_target, w.target, address) for name, address in sorted(w.addresses.items())},
    }
    return {name: probe for name, probe in found.items() if name in NEEDED}, {name: probe for name, probe in found.items() if name not in NEEDED}


async def _through(probe: Callable[[], Awaitable[Word]]) -> Word:
    with trio.move_on_after(THROUGH_S):
        return await probe()
    return Word.CANNOT_TELL


async def _database(database: Database) -> Word:
    try:
        await database.ready()
    except PortError:
        return Word.UNREACHABLE
    return Word.OK


async def _schema(database: Database) -> Word:
    try:
        return Word.MIGRATION_NEEDED if await database.missing_migrations() else Word.OK
    except PortError:
        return Word.CANNOT_TELL


async def _database_clock(database: Database, clock: Callable[[], datetime]) -> Word:
    try:
        return skew(await database.now(), clock())
    except PortError:
        return Word.CANNOT_TELL


async def _log(sequencer: Sequencer) -> Word:
    if sequencer.late():
        return Word.BEHIND
    if sequencer.alarm() is not None:
        return Word.STOPPED
    return Word.UNPUBLISHED if sequencer.published() is None else Word.OK


async def _witnesses(sequencer: Sequencer, logged: Callable[[], bool | None]) -> Word:
    state = sequencer.witnessed()
    if state.fail_open:
        return Word.OPEN
    if logged() is False:
        return Word.UNLOGGED
    if state.quorum_missing:
        return Word.NO_QUORUM
    return Word.UNREACHABLE if state.troubles else Word.OK


async def _login(call: Callable[[], Awaitable[object]]) -> Word:
    try:
        await call()
    except Denied:
        return Word.REFUSED
    except Untrustworthy as error:
        return Word.KEY_DIFFERS if error.cause_code == "key-differs" else Word.FAILING
    except PortError as error:
        # The vault is away: what this login may still do is not known. A key that is gone is "nothing at the path".
        return Word.REFUSED if error.cause_code in ("vault-absent", "vault-rejected") else Word.CANNOT_TELL
    return Word.OK


async def _vault(address: VaultAddress, limiter: trio.CapacityLimiter) -> Word:
    try:
        answer = await in_thread(_read_anonymously, address, "sys/seal-status", deadline_s=DEADLINE_S, limiter=limiter)
    except PortError as error:
        return {"vault-tls": Word.UNTRUSTED, "vault-unreachable": Word.UNREACHABLE, "timeout": Word.SLOW}.get(error.cause_code, Word.FAILING)
    return Word.OK if answer is not None and answer.get("sealed") is False else Word.SEALED


async def _vault_clock(address: VaultAddress, limiter: trio.CapacityLimiter, clock: Callable[[], datetime]) -> Word:
    try:
        answer = await in_thread(_read_anonymously, address, "sys/health", deadline_s=DEADLINE_S, limiter=limiter)
        now = clock()
        return skew(datetime.fromtimestamp(integer_of(answer, "server_time_utc"), now.tzinfo), now)
    except PortError:
        return Word.CANNOT_TELL


def _read_anonymously(address: VaultAddress, path: str) -> Mapping[str, object] | None:
    connection = Connection(address)
    try:
        return connection.read(path)
    finally:
        connection.close()


async def _policy(trouble: Callable[[], str | None]) -> Word:
    found = trouble()
    return Word.OK if found is None else Word(found)


async def _certificate(file: Path | None, clock: Callable[[], datetime]) -> Word:
    if file is None:
        return Word.CANNOT_TELL
    try:
        data = await trio.Path(file).read_bytes()
        return expiry(x509.load_pem_x509_certificates(data)[:1], clock())
    except (OSError, ValueError):
        return Word.FAILING


async def _builder_ca(policy: Callable[[], Policy], clock: Callable[[], datetime]) -> Word:
    try:
        rules = [parse_signer(builder.id, builder.signer) for builder in policy().builders.values()]
        return expiry((x509.load_der_x509_certificate(ca) for rule in rules for ca in authorities_of(rule)), clock())
    except ValueError:
        return Word.FAILING


async def _target(target: SshTarget, address: TargetAddress) -> Word:
    try:
        return Word.OK if await target.shows_pinned_key(address) else Word.UNTRUSTED
    except TargetUnavailable:
        return Word.UNREACHABLE


def skew(theirs: datetime, ours: datetime) -> Word:
    """Their clock against ours."""
    if theirs - ours > SKEW:
        return Word.AHEAD
    return Word.BEHIND if ours - theirs > SKEW else Word.OK


def expiry(certificates: Iterable[x509.Certificate], now: datetime) -> Word:
    """The worst of these certificates; `ok` where there is none."""
    ends = [certificate.not_valid_after_utc for certificate in certificates]
    if any(end <= now for end in ends):
        return Word.EXPIRED
    return Word.EXPIRING if any(end - now <= EXPIRING for end in ends) else Word.OK
