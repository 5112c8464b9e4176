"""A place where components run, guarded by its own doorkeeper (`interfaces.md` 10, `formats.md` 6).

Contract, kept by every implementation and by the fake:

- `apply` sends one frame and waits for the target's last word. What the target *says* is a value (`Answer`), also where it says no.
- `TargetUnavailable` means that no byte of the frame was sent: nothing can have happened, the call may be made again.
- `TargetUnknown` means that bytes were sent and the last word was lost. The caller asks `status` before anything else: sending again blindly
  is answered `receipt-replayed` where the first frame was accepted, for each receipt is accepted once.
- `status` changes nothing the caller decided. A doorkeeper that finds an apply cut short by a crash puts the previous release back first and
  says so; an apply still under way is told as `IN_PROGRESS`. After a crash nothing is ever told as `HEALTHY` that was not seen healthy.
- Two applies at one target exclude each other there; the second is `ApplyFailed` with `spent` false.
- `progress` is called in the caller's own task context, in order, before `apply` returns; it must not block or raise.
- Cancellation is prompt; what the target then does is unknown, as with `TargetUnknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import Protocol, TypeAlias

from gatekeeper.model.digest import Digest
from gatekeeper.model.frame import PartName, PartSpec
from gatekeeper.model.moment import Moment


class TargetUnavailable(Exception):
    """Never connected, or refused before a byte of the frame was sent: nothing happened at the target."""


class TargetUnknown(Exception):
    """The connection or the answer was lost after bytes were sent: ask `status` before anything else."""


@dataclass(frozen=True)
class TargetAddress:
    """Where a target is and how it proves itself. Without a pinned key and without a host CA nothing is trusted."""

    name: str
    """the target's name in the policy; also the name its host certificate carries"""
    host: str
    port: int
    user: str
    """the account, which is also the certificate's principal"""
    host_keys: tuple[str, ...] = ()
    """pinned public host keys, as lines `ssh-ed25519 AAAA...`"""
    host_ca: str | None = None
    """public key of the CA that signs host certificates, as such a line"""


@dataclass(frozen=True)
class SshCredential:
    """A key pair made for one deploy, with the vault's certificate over it. Never written to disk, never shown."""

    private_key_pem: bytes = field(repr=False)
    certificate: str = field(repr=False)


@dataclass(frozen=True)
class Part:
    """One part of a frame: bytes held in memory, or a file read while sending. `sha256` is what we hashed ourselves."""

    name: PartName
    source: bytes | Path = field(repr=False)
    size: int
    sha256: Digest

    @property
    def spec(self) -> PartSpec:
        """The part as the frame's header has it."""
        return PartSpec(self.name, self.size, self.sha256)


@unique
class Phase(StrEnum):
    """Where an apply stands."""

    SENDING = "sending"
    RECEIVING = "receiving"
    CHECKED = "checked"
    UNPACKING = "unpacking"
    RESTARTING = "restarting"
    HEALTH = "health"
    RESTORING = "restoring"


@dataclass(frozen=True)
class Progress:
    """A sign of life, at least every 60 s."""

    phase: Phase
    detail: str = ""


@dataclass(frozen=True)
class Applied:
    """It runs and is healthy. `cosignature` is the doorkeeper's note signature line over the checkpoint of `size` entries that it accepted."""

    artifact: Digest
    cosignature: str
    size: int


@dataclass(frozen=True)
class RolledBack:
    """It was switched on, never became healthy, and the previous release runs again."""

    detail: str
    restored: Digest
    cosignature: str
    size: int


@dataclass(frozen=True)
class Stale:
    """The consistency proof starts elsewhere than the target's memory: send again with one from `size`. Nothing happened.

    `origin`: given where the target follows another origin than the frame's; then `size` is of that one, and the step between them is to be shown.
    """

    size: int
    origin: str | None = None


@dataclass(frozen=True)
class Refused:
    """The doorkeeper looked and said no, with a code of `model.reason`. Nothing happened."""

    code: str
    detail: str


@dataclass(frozen=True)
class ApplyFailed:
    """The target could not do it. `spent`: the receipt was accepted, so it can never be sent again, and `cosignature` is its acceptance."""

    detail: str
    spent: bool
    cosignature: str | None = None
    size: int | None = None


Answer: TypeAlias = Applied | RolledBack | Stale | Refused | ApplyFailed


@unique
class LastOutcome(StrEnum):
    """What became of the last receipt accepted for a component."""

    HEALTHY = "healthy"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    IN_PROGRESS = "in-progress"
    INTERRUPTED = "interrupted"
    """the target was cut short in mid-apply and has put back what ran before; this receipt is spent"""


@dataclass(frozen=True)
class ComponentStatus:
    """One component as its target sees it."""

    component: str
    receipt: Digest
    """the last one accepted"""
    index: int
    slot: int | None
    outcome: LastOutcome
    detail: str
    cosignature: str
    """the doorkeeper's, for the last receipt"""
    size: int
    """of the checkpoint that `cosignature` is over"""
    running: Digest | None
    """the artifact that runs now, as far as the target can see; None: nothing does"""
    config: str | None
    """configuration commit of what runs now"""
    override: Digest | None = None
    """the override order by which it runs, where it was no deploy"""
    origin: str | None = None
    """of the log that `index` and `size` are of; None: a doorkeeper from before it told"""


@dataclass(frozen=True)
class OverrideReport:
    """An override that two people made at the target. All of it is the target's word; `envelope` is the order as they signed it."""

    order: Digest
    component: str
    digest: Digest
    signers: tuple[str, ...]
    """names, as the target's own file of keys has them"""
    applied_at: Moment
    outcome: LastOutcome
    record: Digest
    """head of the target's hash-chained record when it had come to its end"""
    envelope: bytes


@dataclass(frozen=True)
class AdoptedStatus:
    """What an admin at the host had the target keep of a component that was never deployed by ping."""

    component: str
    artifact: Digest
    runs: bool
    """whether the process that ran it then still runs, as far as the target can see"""


@dataclass(frozen=True)
class TargetStatus:
    """What a target remembers and runs."""

    target: str
    origin: str | None
    """None before the first contact"""
    size: int
    """of the newest checkpoint accepted; 0 before the first contact: the `old` of the next consistency proof"""
    cosigner: str
    """vkey"""
    components: tuple[ComponentStatus, ...]
    adopted: tuple[AdoptedStatus, ...] = ()
    overrides: tuple[OverrideReport, ...] = ()
    """those of which the target was not told that the log has them"""
    record: str = ""
    """what the target says of its own record: `intact`, or how it is damaged"""

    def component(self, name: str) -> ComponentStatus | None:
        """The component of that name, if a receipt was ever accepted for it."""
        return next((c for c in self.components if c.component == name), None)


class Target(Protocol):
    """One kind of target. See the module's contract."""

    async def apply(
        self,
        address: TargetAddress,
        credential: SshCredential,
        receipt: Digest,
        parts: Sequence[Part],
        *,
        progress: Callable[[Progress], None],
    ) -> Answer:
        """Send the frame made of `parts` under the certificate that names `receipt`; wait for the last word."""
        ...

    async def status(self, address: TargetAddress, credential: SshCredential, receipt: Digest | None) -> TargetStatus:
        """Ask what the target remembers and runs; `receipt` is what the credential names, None for one that only reads.

        Raises `TargetUnavailable` where it cannot be asked or gives no readable answer.
        """
        ...
