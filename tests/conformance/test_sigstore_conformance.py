"""The bundle suite of sigstore-conformance, each case with the artifact's file and with its digest, through the client of its protocol."""

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
CLIENT = Path(__file__).parent / "client"
SUITE = CORPORA / "sigstore-conformance" / "bundle-verify"
IDENTITY = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
CASES = 70

# For each case that must fail: the check that fails, or the words of a document that is not even well-formed.
FAILS = {
    "bundle-empty-certificate-chain_fail": "is empty",
    "bundle-from-wrong-instance_fail": "path",
    "bundle-invalid-base64-signature_fail": "is not base64",
    "bundle-malformed-json_fail": "Unterminated string",
    "bundle-negative-log-index_fail": "must be a decimal number",
    "bundle-unknown-version_fail": "/mediaType: must be one of",
    "bundle-with-root-cert_fail": "path",
    "checkpoint-bad-keyhint_fail": "inclusion",
    "checkpoint-wrong-roothash_fail": "inclusion",
    "dsse-invalid-sig_fail": "signature",
    "dsse-mismatch-envelope_fail": "entry",
    "dsse-mismatch-sig_fail": "entry",
    "inclusion-proof-corrupted-hash_fail": "inclusion",
    "incorrect-public-key_fail": "inclusion",
    "integrated-time-in-future_fail": "validity",
    "intoto-expired-certificate_fail": "validity",
    "intoto-log-entry-mismatch_fail": "entry",
    "intoto-missing-inclusion-proof_fail": "inclusion",
    "intoto-set-outside-signing-cert-validity_fail": "validity",
    "intoto-tsa-timestamp-outside-cert-validity_fail": "validity",
    "invalid-checkpoint-signature_fail": "inclusion",
    "invalid-ct-key_fail": "transparency",
    "invalid-inclusion-proof_fail": "inclusion",
    "managed-key-no-key_fail": "signer",
    "managed-key-wrong-key_fail": "not one PEM public key",
    "message-digest-mismatch_fail": "artifact",
    "rekor2-checkpoint-missing-log-signature_fail": "inclusion",
    "rekor2-checkpoint-missing-origin_fail": "inclusion",
    "rekor2-checkpoint-missing-root-hash_fail": "inclusion",
    "rekor2-checkpoint-missing-size_fail": "inclusion",
    "rekor2-checkpoint-no-matching-signature_fail": "inclusion",
    "rekor2-dsse-invalid-sig_fail": "signature",
    "rekor2-dsse-mismatch-envelope_fail": "entry",
    "rekor2-dsse-mismatch-sig_fail": "entry",
    "rekor2-no-inclusion-proof_fail": "inclusion",
    "rekor2-no-timestamp_fail": "time",
    "rekor2-timestamp-outside-trust-root-tsa-validity_fail": "authorities",
    "rekor2-timestamp-outside-tsa-cert-validity_fail": "timestamps",
    "rekor2-timestamp-payload-mismatch_fail": "timestamps",
    "rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail": "timestamps",
    "rekor2-timestamp-untrusted-tsa-without-embedded-cert_fail": "timestamps",
    "rekor2-timestamp-with-incorrect-time_fail": "is not base64",
    "set-invalid-signature_fail": "promise",
    "signature-mismatch_fail": "signature",
    "trust-root-tlog-missing-validity-start_fail": "validFor/start: is missing",
    "wrong-hashedrekord-artifact_fail": "entry",
    "wrong-hashedrekord-cert-and-sig_fail": "entry",
    "wrong-hashedrekord-entry_fail": "entry",
    "wrong-material_fail": "artifact",
}


def suite() -> list[Path]:
    if not SUITE.is_dir():
        message = "PUBLIC BUNDLES MISSING: sigstore-conformance is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return sorted(path for path in SUITE.iterdir() if path.is_dir())


def words(case: Path, *, by_digest: bool) -> list[str]:
    """The protocol's arguments for one case (its README)."""
    artifact = case / "artifact" if (case / "artifact").exists() else SUITE / "a.txt"
    key, root = case / "key.pub", case / "trusted_root.json"
    who = ["--certificate-identity", said(case, "identity", IDENTITY), "--certificate-oidc-issuer", said(case, "issuer", ISSUER)]
    return [
        "verify-bundle",
        *("--bundle", str(case / "bundle.sigstore.json")),
        *(["--key", str(key)] if key.exists() else who),
        *(["--trusted-root", str(root)] if root.exists() else []),
        "sha256:" + hashlib.sha256(artifact.read_bytes()).hexdigest() if by_digest else str(artifact),
    ]


def said(case: Path, name: str, default: str) -> str:
    return (case / name).read_text().strip() if (case / name).exists() else default


@pytest.fixture(scope="module")
def client():
    loader = importlib.machinery.SourceFileLoader("conformance_client", str(CLIENT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module.main


def no_network(*_arguments, **_options):
    raise AssertionError("an offline verification opened a socket")


@pytest.mark.parametrize("by_digest", [False, True], ids=["file", "digest"])
def test_the_whole_bundle_suite(client, capsys, monkeypatch, record_property, by_digest):
    monkeypatch.setattr(socket.socket, "connect", no_network)
    cases = suite()
    assert len(cases) == CASES
    assert {case.name for case in cases if case.name.endswith("_fail")} == set(FAILS)
    wrong = {}
    for case in cases:
        code = client(words(case, by_digest=by_digest))
        out, err = capsys.readouterr()
        fault = FAILS.get(case.name)
        if fault is None:
            right = code == 0 and all(check["outcome"] != "failed" for check in json.loads(out)["checks"])
        elif " " in fault:
            right = code == 1 and fault in err
        else:
            right = code == 3 and [check["name"] for check in json.loads(out)["checks"] if check["outcome"] == "failed"] == [fault]
        if not right:
            wrong[case.name] = (code, out, err)
    by, bad = "digest" if by_digest else "file", len(FAILS) - len(wrong.keys() & FAILS.keys())
    good = len(cases) - len(FAILS) - len(wrong.keys() - FAILS.keys())
    told = f"{good + bad} of {len(cases)} cases, {good} verified, {bad} refused by the check that was expected"
    record_property("conformance", f"sigstore-conformance by {by}: {told}")
    assert wrong == {}


@pytest.mark.parametrize(("name", "code"), [("happy-path-v0.3", 0), ("set-invalid-signature_fail", 3), ("bundle-malformed-json_fail", 1)])
def test_the_client_is_a_program(name, code):
    suite()
    done = subprocess.run([sys.executable, str(CLIENT), *words(SUITE / name, by_digest=True)], capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
