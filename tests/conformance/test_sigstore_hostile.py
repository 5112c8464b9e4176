"""What nobody published as a case: splices of two good bundles, edges of every validity, times and timestamps that do not hold (rows 23 to 38)."""

import base64
import copy
import hashlib
import importlib.resources
import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, verify_attestation
from gatekeeper.verify.checks import Outcome
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.fulciocertificate import read_keyless_certificate
from gatekeeper.verify.logentry import is_about
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.sigstorebundle import parse_sigstore_bundle
from gatekeeper.verify.sigstoreroot import parse_sigstore_root

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
SUITE = CORPORA / "sigstore-conformance" / "bundle-verify"
IDENTITY = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
NOW = moment(datetime(2026, 11, 21, 12, tzinfo=UTC))
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _corpus():
    if not SUITE.is_dir():
        message = "PUBLIC BUNDLES MISSING: sigstore-conformance is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def case(name: str) -> dict:
    return json.loads((SUITE / name / "bundle.sigstore.json").read_bytes())


def root_of(name: str) -> dict:
    file = SUITE / name / "trusted_root.json"
    if file.exists():
        return json.loads(file.read_bytes())
    packaged = importlib.resources.files("sigstore").joinpath("_store", "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev", "trusted_root.json")
    return json.loads(packaged.read_bytes())


def artifact(name: str) -> Artifact:
    file = SUITE / name / "artifact"
    data = (file if file.exists() else SUITE / "a.txt").read_bytes()
    return Artifact({"sha256": hashlib.sha256(data).hexdigest()})


def said(name: str, what: str, default: str) -> str:
    file = SUITE / name / what
    return file.read_text().strip() if file.exists() else default


def verify(name, bundle=None, root=None, *, at=NOW, identity=None, issuer=None):
    parsed = parse_sigstore_root(json.dumps(root or root_of(name)).encode())
    signer = Keyless(identity or said(name, "identity", IDENTITY), issuer or said(name, "issuer", ISSUER), parsed)
    return verify_attestation(json.dumps(bundle or case(name)).encode(), signer, artifact(name), at=at)


def failed(report) -> tuple[str, str]:
    assert isinstance(report.result, Refusal)
    (check,) = [check for check in report.checks if check.outcome is Outcome.FAILED]
    return check.name.value, report.result.reason


# Row 23: A and B are both good, under one root, over one artifact, by one identity.
def material(bundle: dict) -> dict:
    return bundle["verificationMaterial"]


def logged(bundle: dict) -> dict:
    return bundle["verificationMaterial"]["tlogEntries"][0]


# Where each part stands: an object, and those of its members that are the part.
PARTS = {
    "certificate": (material, ("certificate",)),
    "entry": (material, ("tlogEntries",)),
    "promise": (logged, ("inclusionPromise", "integratedTime")),
    "proof": (logged, ("inclusionProof",)),
    "timestamp": (material, ("timestampVerificationData",)),
    "content": (lambda bundle: bundle, ("messageSignature", "dsseEnvelope")),
}
PAIRS = {"rekor 2": ("rekor2-happy-path", "rekor2-timestamp-with-embedded-cert"), "rekor 1": ("happy-path-v0.3", "happy-path-intoto-in-dsse-v3")}


def part(bundle: dict, name: str) -> dict:
    place, keys = PARTS[name]
    empty = ({}, {"rfc3161Timestamps": []})  # an empty list of timestamps is none
    return {key: place(bundle)[key] for key in keys if key in place(bundle) and place(bundle)[key] not in empty}


def splice(bundle: dict, name: str, other: dict) -> None:
    place, keys = PARTS[name]
    for key in keys:
        place(bundle).pop(key, None)
    place(bundle).update(copy.deepcopy(part(other, name)))


@pytest.mark.parametrize("pair", PAIRS)
def test_row_23_no_proper_splice_of_two_good_bundles_is_verified(pair):
    first, second = PAIRS[pair]
    a, b = case(first), case(second)
    assert isinstance(verify(first, a, root_of(first)).result, Verified)
    assert isinstance(verify(first, b, root_of(first)).result, Verified)
    differing = [name for name in PARTS if part(a, name) != part(b, name)]
    assert len(differing) >= 4
    believed = []
    for count in range(1, len(differing)):
        for taken in itertools.combinations(differing, count):
            mixed = copy.deepcopy(a)
            for name in taken:
                splice(mixed, name, b)
            if any(all(part(mixed, name) == part(whole, name) for name in PARTS) for whole in (a, b)):
                continue
            try:
                if isinstance(verify(first, mixed, root_of(first)).result, Verified):
                    believed.append(taken)
            except Malformed:
                continue
    assert believed == []


def windows(root: dict, kind: str) -> list[dict]:
    return [item.get("publicKey", item) for item in root[kind]]


KINDS = ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"]


@pytest.mark.parametrize("name", ["happy-path-v0.3", "rekor2-happy-path", "rekor2-dsse-happy-path", "intoto-with-custom-trust-root"])
@pytest.mark.parametrize("kind", KINDS)
def test_row_32_each_authority_is_trusted_in_its_window_and_not_a_second_longer(name, kind):
    report = verify(name)
    assert isinstance(report.result, Verified)
    if kind == "timestampAuthorities" and "timestampVerificationData" not in json.dumps(case(name)):
        return
    times = report.result.value.times
    if kind == "ctlogs":  # trusted at the time of their own signature
        times = read_keyless_certificate(parse_sigstore_bundle(json.dumps(case(name)).encode()).certificates[0]).logged_at
    first, last = min(times), max(times)
    for start, end, good in ((first, last, True), (first - SECOND, last + SECOND, True), (last + SECOND, None, False), (first - 2 * SECOND, first - SECOND, False)):
        root = root_of(name)
        for authority in windows(root, kind):
            authority["validFor"] = {"start": stamp(start), **({} if end is None else {"end": stamp(end)})}
        result = verify(name, root=root)
        if good:
            assert isinstance(result.result, Verified), (start, end)
        else:
            assert failed(result) == ("authorities", "unknown-builder")


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S") + f".{time.microsecond:06}Z"


@pytest.mark.parametrize("kind", KINDS)
def test_a_root_without_an_authority_of_each_kind_verifies_nothing(kind):
    root = root_of("rekor2-happy-path")
    root[kind] = []
    assert failed(verify("rekor2-happy-path", root=root)) == ("authorities", "unknown-builder")


def test_row_24_another_instances_root_verifies_nothing():
    assert failed(verify("happy-path-v0.3", root=root_of("intoto-with-custom-trust-root")))[1] == "unknown-builder"


def test_row_29_a_time_after_the_moment_of_checking_is_refused_and_its_own_second_is_not():
    (signed,) = verify("happy-path-v0.3").result.value.times
    assert isinstance(verify("happy-path-v0.3", at=moment(signed)).result, Verified)
    assert failed(verify("happy-path-v0.3", at=moment(signed - SECOND))) == ("time", "certificate-expired")


def test_row_29_an_integrated_time_that_the_log_did_not_promise_is_none():
    bundle = case("happy-path-v0.3")
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]
    assert failed(verify("happy-path-v0.3", bundle)) == ("time", "certificate-expired")


def test_row_27_an_integrated_time_that_is_moved_breaks_the_promise():
    bundle = case("happy-path-v0.3")
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)
    assert failed(verify("happy-path-v0.3", bundle)) == ("promise", "bad-signature")


def test_row_28_a_timestamp_that_does_not_hold_is_not_as_good_as_none():
    # The bundle has the log's own time too, with which the library alone is content.
    bundle, other = case("intoto-with-custom-trust-root"), case("rekor2-happy-path")
    data = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    root = root_of("intoto-with-custom-trust-root")
    for kind in KINDS:
        for authority in windows(root, kind):
            authority["validFor"] = {"start": "1970-01-01T00:00:00Z"}
    data[0] = other["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]
    assert failed(verify("intoto-with-custom-trust-root", bundle, root))[0] == "validity"
    late = case("intoto-with-custom-trust-root")
    text = late["dsseEnvelope"]["signatures"][0]["sig"]
    late["dsseEnvelope"]["signatures"][0]["sig"] = text[:-4] + ("AAA=" if text[-4:] != "AAA=" else "BBA=")
    assert failed(verify("intoto-with-custom-trust-root", late, root)) == ("timestamps", "unknown-builder")


def test_a_planted_time_outside_the_certificate_is_found_where_its_base64_is_mended():
    # The suite's own case is refused earlier, for a line break in its base64.
    bundle = case("rekor2-timestamp-with-incorrect-time_fail")
    (item,) = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    item["signedTimestamp"] = "".join(item["signedTimestamp"].split())
    assert failed(verify("rekor2-timestamp-with-incorrect-time_fail", bundle)) == ("validity", "certificate-expired")


def test_row_30_an_entry_without_a_proof_or_a_checkpoint_is_refused():
    for path in (("inclusionProof",), ("inclusionProof", "checkpoint")):
        bundle = case("happy-path-v0.3")
        place = bundle["verificationMaterial"]["tlogEntries"][0]
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        assert failed(verify("happy-path-v0.3", bundle)) == ("inclusion", "bad-signature")


def test_row_31_one_entry_twice_is_malformed():
    bundle = case("happy-path-v0.3")
    bundle["verificationMaterial"]["tlogEntries"] *= 2
    with pytest.raises(Malformed, match="tlogEntries"):
        verify("happy-path-v0.3", bundle)


def mutations(text: str) -> list[str]:
    return [
        text[:-1], text + "x", text[1:], text.upper(), text.replace("https://", "http://"), text.replace(".com", ".com:443"), text.replace("https://", "https://u@"),
        text + "/", text.replace(".com", ".com."), text.replace("o", "\u043e", 1), text.replace("t", "%74", 1), text + "@refs/heads/main",
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(12))
def test_rows_37_and_38_twelve_mutations_of_identity_and_issuer(place):
    assert failed(verify("happy-path-v0.3", identity=mutations(IDENTITY)[place])) == ("identity", "unknown-builder")
    assert failed(verify("happy-path-v0.3", issuer=mutations(ISSUER)[place])) == ("issuer", "unknown-builder")


@pytest.mark.parametrize("change", ["payload", "sig", "publicKey", "payloadHash", "payloadType", "kind"])
def test_the_body_of_an_intoto_entry_is_compared_member_by_member(change):
    bundle = case("intoto-with-custom-trust-root")
    parsed = parse_sigstore_bundle(json.dumps(bundle).encode())
    assert is_about(parsed.entry, parsed.content, parsed.certificates[0], artifact=b"")
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    body = json.loads(base64.b64decode(entry["canonicalizedBody"]))
    content = body["spec"]["content"]
    twice = base64.b64encode(base64.b64encode(b"other")).decode()
    if change == "payload":
        content["envelope"]["payload"] = twice
    elif change == "sig":
        content["envelope"]["signatures"][0]["sig"] = twice
    elif change == "publicKey":
        pem = (SUITE / "managed-key-happy-path" / "key.pub").read_bytes()
        content["envelope"]["signatures"][0]["publicKey"] = base64.b64encode(pem).decode()
    elif change == "payloadHash":
        content["payloadHash"]["value"] = "00" * 32
    elif change == "payloadType":
        content["envelope"]["payloadType"] = "text/plain"
    else:
        body["kind"] = "dsse"
    entry["canonicalizedBody"] = base64.b64encode(json.dumps(body).encode()).decode()
    changed = parse_sigstore_bundle(json.dumps(bundle).encode())
    assert not is_about(changed.entry, changed.content, changed.certificates[0], artifact=b"")


def pinned(bundle: dict, root: dict | None):
    key = parse_managed_key((SUITE / "managed-key-and-trusted-root" / "key.pub").read_bytes())
    parsed = None if root is None else parse_sigstore_root(json.dumps(root).encode())
    return verify_attestation(json.dumps(bundle).encode(), Pinned(key, parsed), artifact("managed-key-and-trusted-root"), at=NOW)


def test_a_managed_keys_log_entry_is_verified_where_a_root_answers_for_the_log():
    name = "managed-key-and-trusted-root"
    good, other = case(name), case("managed-key-happy-path")
    assert isinstance(pinned(good, root_of(name)).result, Verified)
    assert failed(pinned(other, root_of(name))) == ("inclusion", "bad-signature")
    assert isinstance(pinned(other, None).result, Verified)
    moved = copy.deepcopy(good)
    moved["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "1767810966"
    assert failed(pinned(moved, root_of(name))) == ("promise", "bad-signature")
    borrowed = copy.deepcopy(good)
    borrowed["messageSignature"] = other["messageSignature"]
    assert failed(pinned(borrowed, root_of(name))) == ("entry", "bad-signature")
    early = root_of(name)
    for log in windows(early, "tlogs"):
        log["validFor"] = {"start": "1970-01-01T00:00:00Z", "end": "1970-01-02T00:00:00Z"}
    assert failed(pinned(good, early)) == ("authorities", "unknown-builder")
