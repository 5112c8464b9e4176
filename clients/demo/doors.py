"""What the target refuses to whoever holds all the credentials of a gatekeeper replica, each in the doorkeeper's own words.

After each refusal the target is looked at again (`looks`): its record has the refusal, and nothing else has changed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gatekeeper.model import uris
from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_hex, digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import Moment, later, moment
from gatekeeper.model.receipt import parse_receipt
from gatekeeper.model.statement import DecisionStatement, parse_decision_statement
from gatekeeper.ports.errors import Denied
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.kinds import OutcomeEntry
from gatekeeper.verify.dsse import parse_envelope

from .calls import call
from .looks import Look, demand_refused, demand_untouched, look, place_of
from .steps import Built, Stage
from .telling import StepFailed, Telling
from .thief import Answered, Thief, frame, knock, stolen_replica
from .trees import Tree, served_tree, signed_tree
from .world import InstanceWorld

_NOBODY: Final = digest_of(b"a receipt that nobody ever made")
_OTHER_WORDS: Final = ("sh", "apply; sh", "pingee-doorkeeper install", "scp -t /tmp", None)
_OTHER_COMMANDS: Final = ("sh", "")
PREPARE_S: Final = 60.0


@dataclass(frozen=True)
class KeptAllow:
    """An Allow of the true gatekeeper that was never used, with the log that shows it and the replica that was paused over it."""

    instance: InstanceWorld
    ping: str
    receipt: bytes
    tree: Tree
    gatekeeper: int
    """process id"""

    @property
    def not_after(self) -> Moment:
        """When it ends."""
        end = _statement(self.receipt).not_after
        assert end is not None  # noqa: S101 -- every Allow has an end
        return end


def deny_at_the_doors(stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld) -> None:
    """Five steps. The late Allow is made first: it grows old while others are shown.

    Forged trees are shown to the test host, whose log policy asks for no witness: there nothing but its own memory stands against them. What
    production's host says to such a tree is `deny_unwitnessed`.
    """
    with kept_allow(stage, test) as kept:
        deny_direct_deploy(stage, telling, production)
        deny_replay(stage, telling, production)
        deny_other_target(stage, telling, production, kept)
        deny_late(stage, telling, kept)
    deny_fork(stage, telling, test)


def deny_direct_deploy(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """The vault's own certificate, and no receipt."""
    what = "with a stolen replica's logins the vault signs an SSH certificate for the host: without a receipt it opens nothing"
    with telling.step("deny-direct-deploy", what) as detail, stolen_replica(stage.world, production.name) as thief:
        before = look(stage, production)
        answered = knock(thief.address, thief.credential(_NOBODY), "apply", frame(_evil(stage)))
        detail |= demand_refused(stage, production, before, answered, "receipt-missing")
        before = look(stage, production)
        words = {word or "a shell": knock(thief.address, thief.credential(_NOBODY), word).code for word in _OTHER_WORDS}
        commands = [knock(thief.address, thief.credential(_NOBODY, command=command), "apply").code for command in _OTHER_COMMANDS]
        after = look(stage, production)
        demand_untouched(stage, production, before, after)
        detail |= {"other_words": list(words), "exit": sorted({*words.values(), *commands})}
        if detail["exit"] != [1] or after.record != before.record:
            raise StepFailed(f"something else than the doorkeeper's own words was served: {words} {commands}")


def deny_replay(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """Receipts that were applied before, each with a fresh proof and under its own certificate."""
    what = "receipts that were used before, with fresh proofs and certificates of their own: each is accepted once"
    with telling.step("deny-replay", what) as detail, stolen_replica(stage.world, production.name) as thief:
        tree, applied, old = served_tree(production), _applied(look(stage, production)), _remembered(thief)
        for name, digest in (("the_last_one", applied[-1]), ("the_one_before", applied[-2])):
            receipt = _receipt(production, digest)
            before = look(stage, production)
            answered = _offer(thief, receipt, tree, _stored(production, _statement(receipt).subject), old=old)
            detail[name] = {"receipt": digest, **demand_refused(stage, production, before, answered, "receipt-replayed")}


def deny_other_target(stage: Stage, telling: Telling, production: InstanceWorld, kept: KeptAllow) -> None:
    """Receipts for another host: of another instance, and of this one."""
    test, what = kept.instance, "the test host's unspent receipt at production, and Allows signed by test's own keys for other places"
    with telling.step("deny-other-target", what) as detail, stolen_replica(stage.world, test.name) as neighbour:
        detail["vault_says_to_the_test_replica"] = _demand_no_way_to(neighbour, production)
        with stolen_replica(stage.world, production.name) as thief:
            before, served = look(stage, production), served_tree(production)
            own = _receipt(production, _applied(before)[-1])
            answered = _offer(thief, kept.receipt, kept.tree, {}, old=_remembered(thief))
            detail["of_the_test_host"] = demand_refused(stage, production, before, answered, "bad-signature")
        before, old = look(stage, test), _remembered(neighbour)
        answered = _offer(neighbour, own, served, {}, old=old)
        detail["of_production_at_the_test_host"] = demand_refused(stage, test, before, answered, "bad-signature")
        for name, changes in _ELSEWHERE.items():
            forged = neighbour.forge(kept.receipt, len(kept.tree.entries), **_fresh(_evil(stage)), **changes)
            # Nothing else is wrong with it: this log extends the true one, and the true log key signed it.
            tree = signed_tree(test.origin, (*kept.tree.entries, forged.entry), neighbour.sign_note)
            before = look(stage, test)
            answered = _offer(neighbour, forged.receipt, tree, {}, old=old)
            detail[name] = demand_refused(stage, test, before, answered, "receipt-other-target")


def deny_fork(stage: Stage, telling: Telling, test: InstanceWorld) -> None:
    """A private log, signed by the true log key, with an Allow signed by the true receipt key."""
    what = "an Allow by the true receipt key in a private log by the true log key: the host remembers the log that it knows"
    with telling.step("deny-fork", what) as detail:
        with stolen_replica(stage.world, test.name) as thief:
            before, served, evil = look(stage, test), served_tree(test), _evil(stage)
            forged = thief.forge(_receipt(test, _applied(before)[-1]), 0, **_fresh(evil))
            # One leaf of its own in the place of the first, all others as they are; the proofs of inclusion and growth are true of that tree.
            tree = signed_tree(test.origin, (forged.entry, *served.entries[1:]), thief.sign_note)
            answered = _offer(thief, forged.receipt, tree, evil, old=_remembered(thief))
            detail |= demand_refused(stage, test, before, answered, "log-fork")
            detail["evidence"] = _demand_both_notes(stage, test, before, tree)
        ping = stage.ping(test, what_runs(stage, test))
        found = stage.wait_for(test, ping, "deployed")
        detail |= {"then_deployed": ping, "log_index": found["log_index"], "outcome_index": found["outcome_index"]}


def deny_unwitnessed(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """The true log, continued in private by its true key: the target's memory has nothing against it, the witness has not seen it."""
    what = "the true log continued in private by its true key, with an Allow by the true receipt key: no witness cosigned it"
    with telling.step("deny-unwitnessed", what) as detail, stolen_replica(stage.world, production.name) as thief:
        before, served, evil = look(stage, production), served_tree(production), _evil(stage)
        forged = thief.forge(_receipt(production, _applied(before)[-1]), len(served.entries), **_fresh(evil))
        tree = signed_tree(production.origin, (*served.entries, forged.entry), thief.sign_note)
        answered = _offer(thief, forged.receipt, tree, evil, old=_remembered(thief))
        detail |= demand_refused(stage, production, before, answered, "receipt-missing")
        if "quorum" not in detail["words"]:
            raise StepFailed(f"the receipt was refused for another reason than the witness: {detail['words']}")


@contextmanager
def kept_allow(stage: Stage, test: InstanceWorld) -> Iterator[KeptAllow]:
    """A ping of `test` is allowed and logged, and its replica is paused before it can send: the Allow grows old. Goes on at the end."""
    target = _pid(Path(stage.world.directory) / "targets" / test.name / "host.pid")
    gatekeeper = _pid(Path(test.pid_file))
    try:
        os.kill(target, signal.SIGSTOP)
        ping = stage.ping(test, what_runs(stage, test))
        found = _wait_allowed(test, ping)
        receipt, tree = _receipt(test, found["receipt_id"]), served_tree(test)
        os.kill(gatekeeper, signal.SIGSTOP)
        os.kill(target, signal.SIGCONT)
        yield KeptAllow(test, ping, receipt, tree, gatekeeper)
    finally:
        for process in (target, gatekeeper):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def deny_late(stage: Stage, telling: Telling, kept: KeptAllow) -> None:
    """The kept Allow after its time, by the thief; and what its own gatekeeper does about it."""
    test = kept.instance
    what = "an Allow that a paused replica kept: after its not_after the host refuses it, and its own gatekeeper decides anew"
    with telling.step("deny-late", what) as detail:
        time.sleep(max(0.0, kept.not_after.timestamp() - time.time()))
        with stolen_replica(stage.world, test.name) as thief:
            before = look(stage, test)
            artifact = _stored(test, _statement(kept.receipt).subject)
            answered = _offer(thief, kept.receipt, kept.tree, artifact, old=_remembered(thief))
            detail |= demand_refused(stage, test, before, answered, "allow-expired")
        os.kill(kept.gatekeeper, signal.SIGCONT)
        found = stage.wait_for(test, kept.ping, "deployed")
        first = parse_receipt(kept.receipt).index
        detail |= {"ping": kept.ping, "first_decision": first, "decided_anew": found["log_index"], "outcome_index": found["outcome_index"]}
        if found["log_index"] <= first or _outcomes(test, first) != ["allow-expired"]:
            raise StepFailed(f"decision {first} has outcomes {_outcomes(test, first)}; the ping was deployed by decision {found['log_index']}")


def _remembered(thief: Thief) -> int:
    """The size of the log that the target remembers: the word `status` tells it to whoever has a certificate."""
    return int(knock(thief.address, thief.credential(_NOBODY), "status").line["size"])


def _offer(thief: Thief, receipt: bytes, tree: Tree, artifact: Mapping[PartName, bytes], *, old: int) -> Answered:
    """A frame under a certificate for its receipt, with the growth that the target asks for: what it says to it."""
    items = {
        PartName.RECEIPT: receipt,
        PartName.PROOF: tree.proof(parse_receipt(receipt).index),
        PartName.CONSISTENCY: tree.growth(min(old, len(tree.entries))),
    }
    return knock(thief.address, thief.credential(digest_of(receipt)), "apply", frame({**items, **artifact}))


def _fresh(artifact: Mapping[PartName, bytes]) -> dict[str, Any]:
    """What every forged Allow says of itself: it is for these bytes, and holds now."""
    at = moment(datetime.now(UTC))
    return {"subject": digest_of(artifact[PartName.MANIFEST]), "evaluated_at": at, "not_after": later(at, seconds=300)}


_ELSEWHERE: Final[Mapping[str, Mapping[str, Any]]] = {
    "for_another_target": {"targets": ("another-host",)},
    "for_another_component": {"component": "another-component"},
    "for_another_environment": {"environment": "another-environment"},
}


def _evil(stage: Stage) -> Mapping[PartName, bytes]:
    """An artifact that nobody built: well-formed, of the component that runs, and with bytes that say who made them."""
    file, data = io.BytesIO(), b"#!/bin/sh\necho stolen\n"
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("out/stolen")
        member.size, member.mode = len(data), 0o755
        archive.addfile(member, io.BytesIO(data))
    layer, component = file.getvalue(), stage.world.component
    run: dict[str, Json] = {"argv": ["out/stolen"], "health": "/", "grace_s": 1}
    config = encode_canonical({"component": component, "run": run, "source": {}})
    blobs = ((uris.ARTIFACT_CONFIG, config), (uris.OCI_LAYER_TAR, layer))
    described: list[Json] = [{"mediaType": kind, "digest": digest_of(blob), "size": len(blob)} for kind, blob in blobs]
    manifest: dict[str, Json] = {"schemaVersion": 2, "mediaType": uris.OCI_MANIFEST, "artifactType": uris.ARTIFACT_TYPE}
    return {
        PartName.MANIFEST: encode_canonical({**manifest, "config": described[0], "layers": described[1:]}),
        PartName.CONFIG: config,
        PartName.LAYER: layer,
    }


def _stored(instance: InstanceWorld, artifact: Digest) -> Mapping[PartName, bytes]:
    """The true bytes of an artifact, as a replica finds them in the store."""
    blobs = Path(instance.artifacts) / "blobs" / "sha256"
    manifest = (blobs / digest_hex(artifact)).read_bytes()
    named = json.loads(manifest)
    config, layer = ((blobs / digest_hex(blob["digest"])).read_bytes() for blob in (named["config"], *named["layers"]))
    return {PartName.MANIFEST: manifest, PartName.CONFIG: config, PartName.LAYER: layer}


def _statement(receipt: bytes) -> DecisionStatement:
    return parse_decision_statement(parse_envelope(parse_receipt(receipt).statement).payload)


def _applied(seen: Look) -> list[str]:
    """Receipts that the target accepted, oldest first."""
    return [line["receipt"] for line in seen.record if line["what"] == "accepted"]


def _receipt(instance: InstanceWorld, digest: str) -> bytes:
    found = call(instance, f"/v1/receipts/{digest}")
    if found.status != 200 or digest_of(found.body) != digest:
        raise StepFailed(f"{instance.name} does not give the receipt {digest}: {found.status}")
    return found.body


def what_runs(stage: Stage, instance: InstanceWorld) -> Built:
    """What runs there, as a pipeline's run of its commit would ask for it once more."""
    rows = stage.pingee(instance, "running", "-o", "json").document()
    row = next(row for row in rows if row["component"] == stage.world.component)
    run = stage.platform.start_run(project=stage.world.project, commit=row["commit"], ref="refs/heads/main", actor="alice")
    return Built(row["commit"], "", row["artifact"], run, "", 0.0)


def _wait_allowed(instance: InstanceWorld, ping: str) -> Any:
    deadline = time.monotonic() + PREPARE_S
    while time.monotonic() < deadline:
        found = call(instance, f"/v1/pings/{ping}").document()
        if found["state"] == "applying":  # the vault has been asked by now: the next to answer is the paused host
            return found
        time.sleep(0.02)
    raise StepFailed(f"ping {ping} was not allowed within {PREPARE_S:.0f} s: {found['state']} {found['reasons']}")


def _outcomes(instance: InstanceWorld, decision: int) -> list[str]:
    """Every outcome that the log holds of one decision."""
    entries = map(parse_entry, served_tree(instance).entries)
    return [entry.state for entry in entries if isinstance(entry, OutcomeEntry) and entry.of.index == decision]


def _demand_no_way_to(neighbour: Thief, instance: InstanceWorld) -> str:
    """That logins of another instance get no credential for this one's target; the vault's words."""
    child = neighbour.child()
    try:
        for login, path in (
            (neighbour.logins["act"], f"auth/token/create/{instance.name}-deploy-{instance.target}"),
            (neighbour.logins["act"], f"ssh-{instance.name}/sign/{instance.target}"),
            (child, f"ssh-{instance.name}/sign/{instance.target}"),
        ):
            try:
                login.write(path, {})
            except Denied as error:
                words = error.detail
            else:
                raise StepFailed(f"the vault gives {neighbour.settings.instance} what it asks of {path}")
    finally:
        child.close()
    return words


def _demand_both_notes(stage: Stage, instance: InstanceWorld, before: Look, forked: Tree) -> str:
    """The file of evidence holds the note that the host remembers and the one it was shown."""
    place = place_of(stage, instance)
    (name,) = look(stage, instance).forks - before.forks
    kept = (place.forks / name).read_bytes()
    remembered = base64.b64decode(json.loads(before.memory)["checkpoint"]["note"])
    if remembered not in kept or forked.note not in kept:
        raise StepFailed(f"the evidence {place.forks / name} lacks one of the two notes")
    return str(place.forks / name)


def _pid(file: Path) -> int:
    return int(file.read_text())
