"""Our own type URIs (identifiers, never fetched) and the foreign ones we speak."""

from typing import Final

_OWN: Final = "https://pingee.internal"

PIPELINE_CONFIG: Final = ".pipeline/config.yaml"
"""The document that a build of our type follows, as its one parameter beside the source names it."""
MANIFEST: Final = f"{_OWN}/manifest/v1"
VOTE: Final = f"{_OWN}/vote/v1"
PIPELINE: Final = f"{_OWN}/pipeline/v1"
DECISION: Final = f"{_OWN}/decision/v1"
OVERRIDE: Final = f"{_OWN}/override/v1"
LOG_ORDER: Final = f"{_OWN}/log-order/v1"
ROLLBACK_BUNDLE: Final = f"{_OWN}/rollback-bundle/v1"

STATEMENT_V1: Final = "https://in-toto.io/Statement/v1"
STATEMENT_V01: Final = "https://in-toto.io/Statement/v0.1"
IN_TOTO_PAYLOAD: Final = "application/vnd.in-toto+json"
PROVENANCE_V1: Final = "https://slsa.dev/provenance/v1"
PROVENANCE_V02: Final = "https://slsa.dev/provenance/v0.2"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
VSA_V1: Final = "https://slsa.dev/verification_summary/v1"
GITHUB_WORKFLOW: Final = "https://actions.github.io/buildtypes/workflow/v1"
SLSA_GITHUB_WORKFLOW: Final = "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1"
BUNDLE_V03: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
ARTIFACT_TYPE: Final = "application/vnd.pingee.artifact.v1"
ARTIFACT_CONFIG: Final = "application/vnd.pingee.artifact.config.v1+json"


def verifier_id(instance: str) -> str:
    """The SLSA VSA ``verifier.id`` of one gatekeeper instance."""
    return f"{_OWN}/{instance}"


def resource_uri(instance: str, environment: str, component: str) -> str:
    """The SLSA VSA ``resourceUri`` of an environment's component."""
    return f"pingee://{instance}/{environment}/{component}"
