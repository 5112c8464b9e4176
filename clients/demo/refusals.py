"""What the demo asks for and must not get. Each refusal is known by its reason code, and costs no credential.

Every step returns how many credentials were leased for what it asked: it must be none.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from ssl import create_default_context
from typing import Any, Final

from .postgres import run_sql
from .steps import Built, Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

REASON_S: Final = 60.0

def deny_unsigned(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> int:
    """A manifest signed by nobody."""
    with telling.step("deny-unsigned", "a manifest whose signature is nobody's is refused at the intake; nothing is stored or logged") as detail:
        _refused_at_intake(stage, production, built, _without_signature, detail)
    return 0


def deny_tampered(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> int:
    """A manifest changed in one byte after signing."""
    with telling.step("deny-tampered", "one byte of the signed manifest is changed: the signature no longer holds") as detail:
        _refused_at_intake(stage, production, built, _with_one_byte_changed, detail)
    return 0


def deny_self_vote(stage: Stage, telling: Telling, production: InstanceWorld) -> tuple[Built, str, int]:
    """The author's own vote. Returns the second version and its ping, which goes on waiting."""
    with telling.step("deny-self-vote", "alice votes for her own change: the vote is stored, and counts for nothing") as detail:
        stage.new_version("Greet again")
        second = stage.build(stage.new_version("Greet again, better"))
        ping = stage.ping(production, second)
        stage.vote("alice", production, second.commit)
        found = _wait_for_reason(stage, production, ping, "votes-self")
        detail |= {"ping": ping, "state": found["state"], "reason": "votes-self"}
    return second, ping, _leases(found)


def deny_stale_vote(stage: Stage, telling: Telling, production: InstanceWorld, second: Built, ping: str) -> int:
    """A vote for the revision before."""
    with telling.step("deny-stale-vote", "bob's vote is for the earlier revision of the same change: it does not carry over") as detail:
        earlier = stage.parent(second.commit)
        stage.vote("bob", production, earlier)
        found = _wait_for_reason(stage, production, ping, "votes-stale")
        detail |= {"ping": ping, "voted_for": earlier, "built": second.commit, "state": found["state"], "reason": "votes-stale"}
    return _leases(found)


def deny_wrong_bytes(stage: Stage, telling: Telling, production: InstanceWorld) -> int:
    """Bytes changed in the artifact store."""
    with telling.step("deny-wrong-bytes", "somebody alters a blob in the artifact store: the gatekeeper hashes again before it decides") as detail:
        built = stage.build(stage.new_version("A third version", change="I" + "3" * 40))
        blob = _config_file(production, built)
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes().replace(b'"run":', b'"ran":'))
        ping = stage.ping(production, built)
        found = stage.wait_for(production, ping, "denied")
        if "digest-mismatch" not in found["reasons"]:
            raise StepFailed(f"expected digest-mismatch, got {found['reasons']}")
        detail |= {"ping": ping, "state": "denied", "reason": "digest-mismatch", "log_index": found["log_index"]}
    return _leases(found)


def tamper_detected(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """One row of the log is edited behind the gatekeeper's back, then restored."""
    with telling.step("tamper-detected", "one row of the log is edited as the database's owner: fsck names it; restored, it passes") as detail:
        index = 2
        url = Path(production.database_url_file).read_text().strip()
        original = _replace_entry(url, index, None)
        tampered = original.replace(b'"kind":"intake"', b'"kind":"intakf"')
        _replace_entry(url, index, tampered)
        try:
            done = stage.pingee(production, "log", "fsck", "-o", "json", code=3)
        finally:
            _replace_entry(url, index, original)
        fault = done.document()["fault"]
        if fault["first"] != index:
            raise StepFailed(f"entry {index} was edited, fsck named {fault}")
        stage.pingee(production, "log", "fsck")
        detail |= {"edited": index, "fsck_named": fault["first"], "fault": fault["fault"]}


def _replace_entry(url: str, index: int, body: bytes | None) -> bytes:
    """The entry's bytes; put others in their place where some are given, past the triggers that stop honest code: the owner may."""
    found = run_sql(url, f"select encode(body, 'hex') from log_entry where idx = {index};")  # noqa: S608 -- our own number
    if body is not None:
        change = f"update log_entry set body = decode('{body.hex()}', 'hex') where idx = {index};"  # noqa: S608 -- hexadecimal digits
        run_sql(url, f"begin; alter table log_entry disable trigger user; {change} alter table log_entry enable trigger user; commit;")
    return bytes.fromhex(found)


def _refused_at_intake(stage: Stage, instance: InstanceWorld, built: Built, spoil: Callable[[dict[str, Any]], bytes], detail: dict[str, Any]) -> None:
    size = _log_size(stage, instance)
    manifest = json.loads((stage.out(built.run) / "manifest.bundle.json").read_text())
    status, code = _post(stage, instance, built, spoil(manifest))
    detail |= {"status": status, "reason": code}
    if (status, code) != (422, "bad-signature") or _log_size(stage, instance) != size:
        raise StepFailed(f"expected 422 bad-signature and no new entry, got {status} {code}")


def _post(stage: Stage, instance: InstanceWorld, built: Built, body: bytes) -> tuple[int, str]:
    """Submit as a builder would, with the run's own token; status and code of the answer."""
    token = stage.token(built.run, f"pingee:{instance.name}").read_text()
    request = urllib.request.Request(  # noqa: S310 -- our own https URL
        f"{instance.url}/v1/artifacts",
        data=body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=create_default_context(cafile=instance.ca_file))
    )
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, "accepted"
    except urllib.error.HTTPError as error:
        with error:
            return error.code, str(json.load(error)["code"])


def _without_signature(bundle: dict[str, Any]) -> bytes:
    # A well-formed signature, by nobody: r = s = 1.
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(bytes.fromhex("3006020101020101")).decode()
    return json.dumps(bundle).encode()


def _with_one_byte_changed(bundle: dict[str, Any]) -> bytes:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    changed = payload.replace(b'"component":"', b'"component":"x', 1)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()
    return json.dumps(bundle).encode()


def _config_file(instance: InstanceWorld, built: Built) -> Path:
    # The config names the commit, so it is this artifact's alone; a layer may be shared with another version of the same bytes.
    blobs = Path(instance.artifacts) / "blobs" / "sha256"
    manifest = json.loads((blobs / built.artifact.removeprefix("sha256:")).read_text())
    return blobs / str(manifest["config"]["digest"]).removeprefix("sha256:")


def _wait_for_reason(stage: Stage, instance: InstanceWorld, ping: str, reason: str) -> Any:
    deadline = time.monotonic() + REASON_S
    while time.monotonic() < deadline:
        found = stage.look(instance, ping)
        if reason in found["reasons"]:
            return found
        time.sleep(0.1)
    raise StepFailed(f"ping {ping} never said {reason}: {found['state']} {found['reasons']}")


def _leases(found: Any) -> int:
    """Whether a credential can have been leased: only a ping with a receipt ever gets one."""
    return 0 if found["receipt_id"] is None else 1


def _log_size(stage: Stage, instance: InstanceWorld) -> int:
    return int(stage.pingee(instance, "log", "checkpoint").out.splitlines()[1])
