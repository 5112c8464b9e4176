"""A target in memory, held to the contract of `gatekeeper.ports.target` by the same suite as the real one.

It runs the doorkeeper's own pure checks on real receipts and proofs, and "runs" an artifact by remembering it. `unhealthy` names artifacts that
never become healthy; `faults` are raised, one for each call, before (`TargetUnavailable`) or after (`TargetUnknown`) the frame took effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from clients.doorkeeper import checks
from clients.doorkeeper.artifact import parse_config, parse_manifest
from clients.doorkeeper.bundle import Bundle, check_arriving
from clients.doorkeeper.settings import join_settings, parse_settings
from clients.doorkeeper.state import NOTHING, ComponentMemory, Memory, Outcome, Release, Remembered
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.frame import MalformedFrame, PartName, encode_header
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.verified import Refusal
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
from gatekeeper.tlog.logpolicy import parse_log_policy

COSIGNATURE = "— fake 0000"


class FakeTarget:
    def __init__(
        self, *, name: str, instance: str, environment: str, component: str, log_policy: bytes, receipt_keys: bytes, now: Callable[[], Moment]
    ):
        slot = ComponentSlot(component, 1, (), None)
        installed = InstalledTarget(name, instance, environment, (slot,), Caps())
        self._pinned = Pinned(installed, parse_log_policy(log_policy), parse_receipt_keys(receipt_keys), None)
        self._memory: Memory = NOTHING
        self._now = now
        self.unhealthy: set[Digest] = set()
        self.faults: list[Exception] = []
        self.credentials: list[SshCredential] = []
        self.adopted: list[AdoptedStatus] = []
        self.kept: dict[Digest, dict[PartName, bytes]] = {}
        """bytes of what was adopted, which a frame leaves out"""
        self.bundles: list[Bundle] = []
        self.overrides: list[OverrideReport] = []
        self.record = "intact, 1 lines"

    async def apply(
        self, address: TargetAddress, credential: SshCredential, receipt: Digest, parts: Sequence[Part], *, progress: Callable[[Progress], None]
    ) -> Answer:
        await trio.lowlevel.checkpoint()
        self.credentials.append(credential)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, TargetUnavailable):
            raise fault
        encode_header([part.spec for part in parts])
        progress(Progress(Phase.SENDING))
        data = {p.name: p.source if isinstance(p.source, bytes) else p.source.read_bytes() for p in parts}
        try:
            answer = self._take(receipt, parts, data)
        except (MalformedFrame, ValueError) as error:
            answer = ApplyFailed(str(error), spent=False)
        if isinstance(fault, TargetUnknown):
            raise fault
        return answer

    async def status(self, address: TargetAddress, credential: SshCredential, receipt: Digest | None) -> TargetStatus:
        await trio.lowlevel.checkpoint()
        if self.faults and isinstance(self.faults[0], TargetUnavailable):
            raise self.faults.pop(0)
        known = self._memory.checkpoint
        return TargetStatus(
            target=self._pinned.target.name,
            origin=None if known is None else known.origin,
            size=0 if known is None else known.size,
            cosigner="fake+00000000+AA==",
            components=tuple(_component(name, memory) for name, memory in self._memory.components),
            adopted=tuple(self.adopted),
            overrides=tuple(self.overrides),
            record=self.record,
        )

    def override(self, component: str, report: OverrideReport, config: str) -> None:
        """Two people were there: what they ordered runs."""
        memory = self._memory.component(component)
        assert memory is not None
        assert memory.healthy is not None
        running = replace(memory.healthy, artifact=report.digest, config=config)
        self._memory = self._memory.with_component(component, replace(memory, healthy=running, override=report.order))
        self.overrides.append(report)

    def stop(self, component: str) -> None:
        """Nothing runs any more."""
        memory = self._memory.component(component)
        assert memory is not None
        self._memory = self._memory.with_component(component, replace(memory, healthy=None))

    def forget(self) -> None:
        """The host was installed anew."""
        self._memory = NOTHING

    def _take(self, named: Digest, parts: Sequence[Part], data: dict[PartName, bytes]) -> Answer:
        for part in parts:
            if digest_of(data[part.name]) != part.sha256:
                return Refused("digest-mismatch", part.name.value)
        offer = checks.Offer(*(data.get(n) for n in (PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY)), PartName.OPENING in data, data.get(PartName.KEYS))
        found = checks.check_offer(offer, named=named, pinned=self._pinned, memory=self._memory, at=self._now())
        if isinstance(found, checks.Behind):
            return Stale(found.size)
        if isinstance(found, Refusal):
            return Refused(found.reason, found.detail)
        configuration = checks.check_configuration(data[PartName.CONFIGURATION], found.statement)
        if isinstance(configuration, Refusal):
            return Refused(configuration.reason, configuration.detail)
        settings = join_settings(configuration, parse_settings(data[PartName.SETTINGS]))
        if isinstance(settings, Refusal):
            return Refused(settings.reason, settings.detail)
        if PartName.MANIFEST not in data:
            data = data | self.kept[found.statement.subject]
        if PartName.ROLLBACK_BUNDLE in data:
            arrived = check_arriving(data[PartName.ROLLBACK_BUNDLE], found, self._now())
            if isinstance(arrived, Refusal):
                return Refused(arrived.reason, arrived.detail)
            self.bundles.append(arrived)
            self.overrides = [report for report in self.overrides if report.order not in arrived.reported]
        refused = checks.check_manifest(data[PartName.MANIFEST], found.statement) or checks.check_config(
            data[PartName.CONFIG], parse_manifest(data[PartName.MANIFEST]), digest_of(data[PartName.LAYER]), len(data[PartName.LAYER])
        )
        if refused is not None:
            return Refused(refused.reason, refused.detail)
        run, last = parse_config(data[PartName.CONFIG]), self._memory.component(found.statement.component)
        healthy = None if last is None else last.healthy
        size = found.checkpoint.size
        memory = ComponentMemory(found.index, None, named, Outcome.HEALTHY, "", COSIGNATURE, size, render_moment(self._now()), healthy)
        artifact = found.statement.subject
        if artifact not in self.unhealthy:
            answer: Answer = Applied(artifact, COSIGNATURE, size)
            memory = replace(memory, healthy=Release(artifact, named, found.statement.candidate_config, run.argv, run.health, run.grace_s))
        elif healthy is None:
            answer = ApplyFailed("not healthy", spent=True, cosignature=COSIGNATURE, size=size)
            memory = replace(memory, outcome=Outcome.FAILED)
        else:
            answer = RolledBack("not healthy", healthy.artifact, COSIGNATURE, size)
            memory = replace(memory, outcome=Outcome.ROLLED_BACK)
        remembered = Remembered(found.checkpoint.origin, size, found.checkpoint.root, found.checkpoint.note)
        self._memory = replace(self._memory, checkpoint=remembered, keys=found.believed.keys).with_component(found.statement.component, memory)
        return answer


def _component(name: str, memory: ComponentMemory) -> ComponentStatus:
    healthy = memory.healthy
    return ComponentStatus(
        component=name,
        receipt=memory.receipt,
        index=memory.index,
        slot=memory.slot,
        outcome=LastOutcome(memory.outcome.value),
        detail=memory.detail,
        cosignature=memory.cosignature,
        size=memory.size,
        running=None if healthy is None else healthy.artifact,
        config=None if healthy is None else healthy.config,
        override=memory.override,
    )
