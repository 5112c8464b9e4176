"""`pingee verify bundle` on real public bundles and on each with one thing broken: the exit code, and the one check that fails.

A person who is told "refused" looks where the report points, so it must point to what is broken.
"""

import base64
import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.cli.main import main

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
SUITE = CORPORA / "sigstore-conformance" / "bundle-verify"
IDENTITY = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
PROMISED, STAMPED = "happy-path-intoto-in-dsse-v3", "rekor2-dsse-happy-path"
"""one of each generation of the log: the time is the log's promise, or a timestamp authority's"""
MATERIAL, ENVELOPE = "verificationMaterial", "dsseEnvelope"
ENTRY = (MATERIAL, "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")
STAMP = (MATERIAL, "timestampVerificationData", "rfc3161Timestamps")


@pytest.fixture(autouse=True)
def _corpus():
    if not SUITE.is_dir():
        message = "PUBLIC BUNDLES MISSING: sigstore-conformance is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-10] ^= 1
    return base64.b64encode(data).decode()


def renamed(text: str) -> str:
    return base64.b64encode(base64.b64decode(text).replace(b"a.txt", b"b.txt")).decode()


def forged(note: str) -> str:
    """A checkpoint whose first signature, the log's own, is changed; those of witnesses, which nobody here knows, stand below it."""
    text, _, lines = note.partition("\n\n")
    first, _, rest = lines.partition("\n")
    name, _, signature = first.rpartition(" ")
    return f"{text}\n\n{name} {flipped(signature)}\n{rest}"


def without(member: str) -> Callable[[dict], dict]:
    return lambda members: {name: value for name, value in members.items() if name != member}


def case(name: str) -> dict:
    return json.loads((SUITE / name / "bundle.sigstore.json").read_bytes())


def broken(name: str, path: tuple, change: Callable) -> dict:
    document = copy.deepcopy(case(name))
    parent = document
    for part in path[:-1]:
        parent = parent[part]
    parent[path[-1]] = change(parent[path[-1]])
    return document


def verify(tmp_path, capsys, name, document, *, artifact=None, identity=IDENTITY, issuer=ISSUER) -> tuple[int, str | None, str | None]:
    """The exit code, the check that failed, and the reason."""
    file, root = tmp_path / "bundle.json", SUITE / name / "trusted_root.json"
    file.write_text(json.dumps(document))
    words = ["verify", "bundle", str(file), "--artifact", artifact or str(SUITE / "a.txt"), "--identity", identity, "--issuer", issuer, "-o", "json"]
    code = main(words + (["--trusted-root", str(root)] if root.exists() else []))
    out = capsys.readouterr().out
    if not out:
        return code, None, None
    said = json.loads(out)
    names = [check["name"] for check in said["checks"]]
    assert len(set(names)) == len(names) == 19
    failed = [check["name"] for check in said["checks"] if check["outcome"] == "failed"]
    assert len(failed) == (code == 3)
    return code, failed[0] if failed else None, said["reason"]


@pytest.mark.parametrize("name", [PROMISED, STAMPED])
def test_the_bundles_that_are_broken_below_are_good(tmp_path, capsys, name):
    assert verify(tmp_path, capsys, name, case(name)) == (0, None, None)


@pytest.mark.parametrize("name", [PROMISED, STAMPED])
@pytest.mark.parametrize(
    ("path", "change", "check", "reason"),
    [
        ((ENVELOPE, "payload"), renamed, "signature", "bad-signature"),
        ((ENVELOPE, "payloadType"), lambda _: "application/json", "signature", "bad-signature"),
        ((ENVELOPE, "signatures"), lambda _: [], "signature", "bad-signature"),
        ((ENVELOPE, "signatures"), lambda signatures: signatures * 2, "signature", "bad-signature"),
        ((ENVELOPE, "signatures", 0, "sig"), lambda _: "", "signature", "bad-signature"),
        ((MATERIAL, "certificate", "rawBytes"), flipped, "path", "unknown-builder"),
        ((*PROOF, "hashes", 0), flipped, "inclusion", "bad-signature"),
        ((*PROOF, "rootHash"), flipped, "inclusion", "bad-signature"),
        ((*PROOF, "logIndex"), lambda index: str(int(index) - 1), "inclusion", "bad-signature"),
        ((*PROOF, "logIndex"), lambda _: "9000000000000000", "inclusion", "bad-signature"),
        ((*PROOF, "treeSize"), lambda _: "1", "inclusion", "bad-signature"),
        ((*PROOF, "checkpoint", "envelope"), lambda text: text.replace("\n", "0\n", 2), "inclusion", "bad-signature"),
        ((*PROOF, "checkpoint", "envelope"), forged, "inclusion", "bad-signature"),
        (PROOF, without("checkpoint"), "inclusion", "bad-signature"),
        (ENTRY, without("inclusionProof"), "inclusion", "bad-signature"),
        ((*ENTRY, "canonicalizedBody"), flipped, "inclusion", "bad-signature"),
        ((*ENTRY, "kindVersion", "version"), lambda _: "9", "entry", "bad-signature"),
    ],
)
def test_what_is_broken_in_any_bundle_is_what_fails(tmp_path, capsys, name, path, change, check, reason):
    assert verify(tmp_path, capsys, name, broken(name, path, change)) == (3, check, reason)


@pytest.mark.parametrize(
    ("name", "path", "change", "check", "reason"),
    [
        (PROMISED, (ENVELOPE, "signatures", 0, "sig"), flipped, "signature", "bad-signature"),
        (PROMISED, (*ENTRY, "inclusionPromise", "signedEntryTimestamp"), flipped, "promise", "bad-signature"),
        (PROMISED, (*ENTRY, "logIndex"), lambda index: str(int(index) + 1), "promise", "bad-signature"),
        (PROMISED, (*ENTRY, "integratedTime"), lambda time: str(int(time) + 1), "promise", "bad-signature"),
        (PROMISED, (*ENTRY, "integratedTime"), lambda time: str(int(time) + 3600), "validity", "certificate-expired"),
        (PROMISED, (*ENTRY, "integratedTime"), lambda _: "4102444800", "time", "certificate-expired"),
        (PROMISED, ENTRY, without("inclusionPromise"), "time", "certificate-expired"),
        (STAMPED, (ENVELOPE, "signatures", 0, "sig"), flipped, "timestamps", "unknown-builder"),
        (STAMPED, (*STAMP, 0, "signedTimestamp"), flipped, "timestamps", "unknown-builder"),
        (STAMPED, STAMP, lambda _: [], "time", "certificate-expired"),
        (STAMPED, (MATERIAL, "tlogEntries"), lambda _: [], "inclusion", "bad-signature"),
    ],
)
def test_what_is_broken_in_one_generation_is_what_fails(tmp_path, capsys, name, path, change, check, reason):
    assert verify(tmp_path, capsys, name, broken(name, path, change)) == (3, check, reason)


@pytest.mark.parametrize("name", [PROMISED, STAMPED])
@pytest.mark.parametrize(
    ("expected", "check", "reason"),
    [
        ({"artifact": "sha256:" + "00" * 32}, "subject", "digest-mismatch"),
        ({"identity": IDENTITY[:-1]}, "identity", "unknown-builder"),
        ({"identity": IDENTITY.upper()}, "identity", "unknown-builder"),
        ({"issuer": ISSUER + "/"}, "issuer", "unknown-builder"),
    ],
)
def test_another_expectation_is_what_fails(tmp_path, capsys, name, expected, check, reason):
    assert verify(tmp_path, capsys, name, case(name), **expected) == (3, check, reason)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("mediaType",), lambda _: "application/vnd.dev.sigstore.bundle.v0.9+json"),
        ((MATERIAL, "tlogEntries"), lambda entries: entries * 2),
        ((MATERIAL, "certificate", "rawBytes"), lambda text: text[:-1]),
        ((MATERIAL,), lambda material: {**material, "publicKey": {"hint": "x"}}),
        ((ENVELOPE,), lambda envelope: {**envelope, "more": 1}),
    ],
)
def test_what_could_be_read_in_two_ways_is_malformed(tmp_path, capsys, path, change):
    assert verify(tmp_path, capsys, PROMISED, broken(PROMISED, path, change)) == (1, None, None)
