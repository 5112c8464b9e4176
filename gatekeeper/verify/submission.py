"""A builder statement of whichever kind it is: for the intake, which is handed bundles and must say what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gatekeeper.model.digest import Digest
from gatekeeper.model.facts import ArtifactManifest, Provenance, TestResult
from gatekeeper.model.moment import Moment
from gatekeeper.model.uris import MANIFEST, TEST_RESULT
from gatekeeper.model.verified import Checked

from .claims import Claim, verify_claim
from .manifest import read_manifest
from .provenance import PROVENANCE_READERS
from .signers import SignerRule
from .testresult import read_test_result

BuilderFact: TypeAlias = ArtifactManifest | Provenance | TestResult

_READERS: dict[str, Callable[[Claim], BuilderFact]] = {
    MANIFEST: read_manifest,
    **PROVENANCE_READERS,
    TEST_RESULT: read_test_result,
}


def verify_submission(
    data: bytes, rule: SignerRule, *, received_at: Moment, artifact: Digest | None = None
) -> Checked[BuilderFact]:
    """Verify by the signed predicate type; any other type is ``provenance-predicate``. Raises `MalformedBundle` or `MalformedStatement`."""
    return verify_claim(data, rule, received_at=received_at, artifact=artifact, readers=_READERS)
