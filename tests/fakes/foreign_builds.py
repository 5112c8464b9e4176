"""Provenance as foreign platforms write it, of the tiny world's artifact, and a component that expects it."""

from typing import Any

from gatekeeper.model.digest import digest_hex
from gatekeeper.model.evidence import Present
from gatekeeper.model.uris import GITHUB_WORKFLOW, PROVENANCE_V02, STATEMENT_V01
from gatekeeper.policy.case import Case
from gatekeeper.verify.builder import parse_builder_root
from gatekeeper.verify.provenance import verify_provenance
from tests.fakes.cases import CA, good_case
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, RECEIVED, REPOSITORY, RUN

IMAGE = {"uri": "https://images.example/build", "digest": {"sha256": "5" * 64}}
OLDER_TYPE = "https://builders.example/generic@v1"


def workflow_statement() -> dict[str, Any]:
    """SLSA v1 of a GitHub workflow, with every member that one can have."""
    predicate = {
        "buildDefinition": {
            "buildType": GITHUB_WORKFLOW,
            "externalParameters": {
                "workflow": {"repository": REPOSITORY, "ref": "refs/heads/main", "path": ".github/workflows/build.yml"},
                "inputs": {},
            },
            "internalParameters": {
                "github": {"event_name": "push", "repository_id": "17", "repository_owner_id": "5", "runner_environment": "github-hosted"}
            },
            "resolvedDependencies": [{"uri": f"git+{REPOSITORY}@refs/heads/main", "digest": {"gitCommit": COMMIT}}, {"name": "image", **IMAGE}],
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": {"runner": "2"}, "builderDependencies": [{"uri": "pkg:runner"}]},
            "metadata": {"invocationId": RUN, "startedOn": "2026-11-21T09:59:00Z", "finishedOn": "2026-11-21T10:00:30Z"},
            "byproducts": [{"name": "summary"}],
        },
    }
    return _statement("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1", predicate)


def older_statement() -> dict[str, Any]:
    """SLSA v0.2 in a statement v0.1."""
    source = {"uri": f"git+{REPOSITORY}@refs/heads/main", "digest": {"sha1": COMMIT}}
    predicate = {
        "builder": {"id": BUILDER_ID},
        "buildType": OLDER_TYPE,
        "invocation": {
            "configSource": {**source, "entryPoint": "build.yml"},
            "parameters": {"release": True},
            "environment": {"github_event_name": "push", "github_repository_id": "17", "github_runner_environment": "github-hosted", "arch": "X64"},
        },
        "buildConfig": {"steps": ["make"]},
        "metadata": {
            "buildInvocationID": RUN,
            "buildStartedOn": "2026-11-21T09:59:00Z",
            "buildFinishedOn": "2026-11-21T10:00:30Z",
            "completeness": {"parameters": True},
            "reproducible": False,
        },
        "materials": [source, IMAGE],
    }
    return _statement(STATEMENT_V01, PROVENANCE_V02, predicate)


def component(build_type: str, **expected: str) -> dict[str, str]:
    """The component's file as `good_case` takes it; each keyword is a line of its expectations, empty: left out."""
    lines = "".join(f"{name} = {value}\n" for name, value in expected.items() if value)
    head = 'project = "hello"\nmode = "enforce"\n[targets]\nproduction = ["host-1"]\ntest = ["host-0"]\n'
    return {"components__hello": f'{head}[expectations]\nbuilder = "{BUILDER_ID}"\nbuild_type = "{build_type}"\n{lines}'}


_COMMON = {
    "repository_id": '"17"',
    "triggers": '["push"]',
    "runners": '["github-hosted"]',
    "dependencies": f'[{{ uri = "{IMAGE["uri"]}", digest = {{ sha256 = "{"5" * 64}" }} }}]',
}
WORKFLOW = {**_COMMON, "parameters": '{ workflow = { path = ".github/workflows/build.yml" } }'}
OLDER = {
    **_COMMON,
    "parameters": '{ entryPoint = "build.yml", parameters = { release = true } }',
    "legacy": f'["{STATEMENT_V01}", "{PROVENANCE_V02}"]',
}


def workflow_component(**changes: str) -> dict[str, str]:
    """A component that expects `workflow_statement`."""
    return component(GITHUB_WORKFLOW, **{**WORKFLOW, **changes})


def older_component(**changes: str) -> dict[str, str]:
    """A component that expects `older_statement`."""
    return component(OLDER_TYPE, **{**OLDER, **changes})


def case_of(payload: bytes, files: dict[str, str] | None = None) -> Case:
    """The good case with this provenance, signed by the run that built; raises `MalformedStatement`."""
    roots = (parse_builder_root(BUILDER_ID, CA.pem()),)
    checked = verify_provenance(CA.run().sign(payload), roots, received_at=RECEIVED, artifact=ARTIFACT)
    return good_case(files=files, provenance=Present((checked,)))


def _statement(kind: str, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    subject = [{"name": "hello", "digest": {"sha256": digest_hex(ARTIFACT)}}]
    return {"_type": kind, "subject": subject, "predicateType": predicate_type, "predicate": predicate}
