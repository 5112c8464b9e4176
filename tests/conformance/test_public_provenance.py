"""The provenance among sigstore-conformance's bundles, which are good bundles: `pingee verify provenance` believes none of it.

Whoever signed it is not the builder that it names: text that was copied from a build elsewhere and signed by a test's own workflow. There are
no bundles of slsa-verifier's in the corpora. Provenance that is verified: tests/unit/test_identity_mutations.py and test_cli_verify.py.
"""

import json
import os
from pathlib import Path

import pytest

from clients.cli.main import main

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
SUITE = CORPORA / "sigstore-conformance" / "bundle-verify"
SIGNER = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
COPIED = "https://github.com/loosebazooka/aa-test"
HOSTED = "https://github.com/actions/runner/github-hosted"
SIGSTORE = "https://github.com/sigstore/sigstore-conformance"
REGENERATED = "https://github.com/sigstore-conformance/rekor2-dsse-hashedrekord-regen"


@pytest.mark.parametrize(
    ("name", "builder", "source", "check"),
    [
        ("happy-path-intoto-in-dsse-v3", f"{COPIED}/.github/workflows/provenance.yaml@refs/heads/main", COPIED, "identity"),
        ("happy-path-intoto-in-dsse-v3", SIGNER, COPIED, "builder"),
        ("intoto-with-custom-trust-root", HOSTED, SIGSTORE, "identity"),
        ("intoto-with-custom-trust-root", SIGNER, SIGSTORE, "builder"),
        ("rekor2-dsse-happy-path", REGENERATED, SIGSTORE, "identity"),
        ("rekor2-dsse-happy-path", SIGNER, SIGSTORE, "predicate"),  # it names no source at all
        ("happy-path-v0.3", SIGNER, SIGSTORE, "content"),
        ("dsse-mismatch-sig_fail", SIGNER, COPIED, "entry"),
        ("rekor2-dsse-invalid-sig_fail", SIGNER, COPIED, "signature"),
    ],
)
def test_good_bundles_of_copied_provenance_are_refused_for_their_builder(capsys, name, builder, source, check):
    if not SUITE.is_dir():
        message = "PUBLIC BUNDLES MISSING: sigstore-conformance is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    case = SUITE / name
    artifact, root = case / "artifact", case / "trusted_root.json"
    words = ["verify", "provenance", str(artifact if artifact.exists() else SUITE / "a.txt"), "--bundle", str(case / "bundle.sigstore.json")]
    words += ["--source-uri", source, "--source-ref", "refs/heads/main", "--builder-id", builder, "--issuer", ISSUER, "-o", "json"]
    assert main(words + (["--trusted-root", str(root)] if root.exists() else [])) == 3
    said = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in said["checks"] if found["outcome"] == "failed"] == [check]
