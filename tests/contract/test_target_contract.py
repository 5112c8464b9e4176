"""One suite for `ports.target.Target`: the fake, and a real doorkeeper behind a real SSH host."""

import dataclasses

import pytest

from gatekeeper.adapters.ssh import SshTarget
from gatekeeper.crossing import open_loop_thread
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import MalformedFrame, PartName
from gatekeeper.ports.target import Applied, ApplyFailed, LastOutcome, Part, Phase, Refused, RolledBack, SshCredential, Stale, TargetAddress
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import COMMIT, ORIGIN, Gatekeeper, make_artifact, now, parts_of
from tests.fakes.ssh_host import running_host
from tests.fakes.target import FakeTarget

pytestmark = pytest.mark.anyio


@dataclasses.dataclass
class Bench:
    target: object
    gatekeeper: Gatekeeper
    address: TargetAddress
    credential: object
    bad: object
    seen: list

    async def apply(self, receipt, items):
        parts = items if isinstance(items, tuple) else parts_of(items)
        return await self.target.apply(self.address, self.credential(receipt), receipt, parts, progress=self.seen.append)

    async def status(self, receipt=digest_of(b"any")):  # noqa: B008
        return await self.target.status(self.address, self.credential(receipt), receipt)


@pytest.fixture(params=["fake", "ssh"])
async def bench(request, tmp_path):
    gatekeeper = Gatekeeper()
    if request.param == "fake":
        fake = FakeTarget(
            name="host-1", instance="production", environment="production", component="hello",
            log_policy=gatekeeper.log_policy, receipt_keys=gatekeeper.receipt_keys, now=now,
        )  # fmt: skip
        bad = make_artifact("bad")
        fake.unhealthy.add(bad.digest)
        yield Bench(fake, gatekeeper, TargetAddress("host-1", "h", 22, "u"), lambda _: SshCredential(b"", ""), bad, [])
        return
    bad = make_artifact("bad", argv=["python3", "-c", "raise SystemExit(1)"])
    with installed(tmp_path, gatekeeper) as door, running_host(door) as host:
        async with open_loop_thread("ssh") as loop:
            yield Bench(SshTarget(loop), gatekeeper, host.address, host.credential, bad, [])


async def test_first_contact_apply_status_and_replay(bench):
    before = await bench.status()
    assert (before.origin, before.size, before.components) == (None, 0, ())
    artifact = make_artifact()
    receipt, items = bench.gatekeeper.deploy(artifact, old=0)
    answer = await bench.apply(receipt, items)
    assert isinstance(answer, Applied)
    assert (answer.artifact, answer.size) == (artifact.digest, 1)
    assert bench.seen[0].phase is Phase.SENDING
    status = await bench.status()
    component = status.component("hello")
    assert (status.origin, status.size) == (ORIGIN, 1)
    assert (component.receipt, component.index, component.slot, component.size) == (receipt, 0, None, 1)
    assert (component.outcome, component.running, component.config) == (LastOutcome.HEALTHY, artifact.digest, COMMIT)
    assert component.cosignature == answer.cosignature
    again = await bench.apply(receipt, {**items, PartName.CONSISTENCY: bench.gatekeeper.log.growth(1)})
    assert isinstance(again, Refused)
    assert again.code == "receipt-replayed"


async def test_stale_names_the_size_and_the_frame_can_be_sent_again(bench):
    first = make_artifact("1")
    assert isinstance(await bench.apply(*bench.gatekeeper.deploy(first, old=0)), Applied)
    receipt, items = bench.gatekeeper.deploy(make_artifact("2"), old=0)
    assert await bench.apply(receipt, items) == Stale(1)
    rebuilt = {**items, PartName.CONSISTENCY: bench.gatekeeper.log.growth(1)}
    assert isinstance(await bench.apply(receipt, rebuilt), Applied)


async def test_unhealthy_is_rolled_back_and_without_a_previous_one_it_failed(bench):
    receipt, items = bench.gatekeeper.deploy(bench.bad, old=0)
    answer = await bench.apply(receipt, items)
    assert isinstance(answer, ApplyFailed)
    assert answer.spent
    assert answer.size == 1
    good = make_artifact("good")
    assert isinstance(await bench.apply(*bench.gatekeeper.deploy(good, old=1)), Applied)
    receipt, items = bench.gatekeeper.deploy(bench.bad, old=2)
    answer = await bench.apply(receipt, items)
    assert isinstance(answer, RolledBack)
    assert answer.restored == good.digest
    component = (await bench.status()).component("hello")
    assert (component.outcome, component.running, component.receipt) == (LastOutcome.ROLLED_BACK, good.digest, receipt)


async def test_refusals_change_nothing(bench):
    artifact = make_artifact()
    receipt, items = bench.gatekeeper.deploy(artifact, old=0)
    no_proof = {name: data for name, data in items.items() if name is not PartName.PROOF}
    other = {**items, PartName.MANIFEST: make_artifact("2").manifest}
    lying = tuple(dataclasses.replace(p, sha256=digest_of(b"x")) if p.name is PartName.LAYER else p for p in parts_of(items))
    for frame, code in ((no_proof, "receipt-missing"), (other, "digest-mismatch"), (lying, "digest-mismatch")):
        answer = await bench.apply(receipt, frame)
        assert isinstance(answer, Refused)
        assert answer.code == code
    assert (await bench.status()).components == ()
    assert isinstance(await bench.apply(receipt, items), Applied)


async def test_a_part_may_be_a_file(bench, tmp_path):
    artifact = make_artifact()
    receipt, items = bench.gatekeeper.deploy(artifact, old=0)
    (tmp_path / "layer").write_bytes(artifact.layer)
    parts = tuple(dataclasses.replace(p, source=tmp_path / "layer") if p.name is PartName.LAYER else p for p in parts_of(items))
    assert isinstance(await bench.apply(receipt, parts), Applied)


async def test_parts_out_of_order_are_a_fault_of_the_caller(bench):
    receipt, items = bench.gatekeeper.deploy(make_artifact(), old=0)
    with pytest.raises(MalformedFrame, match="out of order"):
        await bench.apply(receipt, tuple(reversed(parts_of(items))))


def test_secrets_do_not_show():
    assert "KEY" not in repr(SshCredential(b"KEY", "KEY"))
    assert "KEY" not in repr(Part(PartName.SETTINGS, b"KEY", 3, digest_of(b"KEY")))
