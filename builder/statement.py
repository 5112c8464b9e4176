"""What the worker says about one run, as in-toto Statement v1 bytes (RFC 8785).

Everything here is the worker's own knowledge: the commit it fetched, the plan it made, the bytes it read after the sandbox was dead,
the exit status it saw. Nothing is taken from what the build printed or wrote about itself.
Shapes: SLSA provenance v1, in-toto test-result v0.1, and our artifact manifest (`gatekeeper.model.uris.MANIFEST`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique

from gatekeeper.model import uris
from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.moment import Moment, render_moment

CONFIG_PATH = uris.PIPELINE_CONFIG
_MAX_TEST_NAME = 1024


@unique
class StageName(Enum):
    """The stages a repository declares."""

    COMMIT = "commit"
    ACCEPTANCE = "acceptance"


@unique
class Verdict(Enum):
    """The `result` of in-toto test-result v0.1 that a worker can reach; WARNED is nobody's word here."""

    PASSED = "PASSED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Source:
    """The commit that was built. `repository` is its public name, without credentials; ids are full lowercase hexadecimal."""

    repository: str
    ref: str
    commit: str
    tree: str


@dataclass(frozen=True)
class Run:
    """Whose run this is: project, builder and run stand in the certificate too. The run id is the CI platform's."""

    project: str
    builder: str
    run: str
    plan: Digest


@dataclass(frozen=True)
class Output:
    """One file of the artifact: relative path, size in bytes, digest of its bytes."""

    path: str
    size: int
    digest: Digest


@dataclass(frozen=True)
class Subject:
    """The artifact spoken about: its component's name and the digest of its OCI manifest."""

    component: str
    artifact: Digest


@dataclass(frozen=True)
class StageResult:
    """How one stage ended: the commands that passed and failed, in their order, as the plan has them."""

    stage: StageName
    verdict: Verdict
    passed: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Deployment:
    """What an acceptance stage ran against: the page of the test deployment and its receipt."""

    url: str
    receipt: Digest


def manifest_statement(subject: Subject, source: Source, run: Run, outputs: Sequence[Output]) -> bytes:
    """The artifact manifest: what this run produced, from what, by which plan."""
    listed: list[Json] = [
        {"path": output.path, "size": output.size, "sha256": output.digest} for output in sorted(outputs, key=lambda output: output.path)
    ]
    return _statement(
        subject,
        uris.MANIFEST,
        {
            "project": run.project,
            "component": subject.component,
            "plan": run.plan,
            "source": {"repository": source.repository, "commit": source.commit, "tree": source.tree},
            "outputs": listed,
            "builder": {"id": run.builder},
            "run": run.run,
        },
    )


def provenance_statement(
    subject: Subject, source: Source, run: Run, *, started: Moment, finished: Moment, log: Digest, config: str = CONFIG_PATH
) -> bytes:
    """SLSA provenance v1 of the artifact; `log` is the digest of the raw build log, `config` the file that the build followed."""
    return _statement(
        subject,
        uris.PROVENANCE_V1,
        {
            "buildDefinition": {
                "buildType": uris.PIPELINE,
                "externalParameters": {"repository": source.repository, "ref": source.ref, "commit": source.commit, "config": config},
                "resolvedDependencies": [
                    {"uri": f"git+{source.repository}@{source.ref}", "digest": {"gitCommit": source.commit, "gitTree": source.tree}}
                ],
            },
            "runDetails": {
                "builder": {"id": run.builder},
                "metadata": {"invocationId": run.run, "startedOn": render_moment(started), "finishedOn": render_moment(finished)},
                "byproducts": [{"name": "log", "digest": {"sha256": digest_hex(log)}}],
            },
        },
    )


def test_result_statement(subject: Subject, plan: Digest, result: StageResult, deployment: Deployment | None) -> bytes:
    """in-toto test-result v0.1 of one stage; an acceptance result names the deployment it was reached against, a commit result none."""
    if (deployment is not None) != (result.stage is StageName.ACCEPTANCE):
        raise ValueError("an acceptance result, and no other, names a deployment")
    configuration: dict[str, Json] = {"name": result.stage.value, "digest": {"sha256": digest_hex(plan)}}
    predicate: dict[str, Json] = {
        "result": result.verdict.value,
        "configuration": [configuration],
        "passedTests": [_test_name(command) for command in result.passed],
        "warnedTests": [],
        "failedTests": [_test_name(command) for command in result.failed],
    }
    if deployment is not None:
        configuration["annotations"] = {"pingee.internal/receipt": deployment.receipt}
        predicate["url"] = deployment.url
    return _statement(subject, uris.TEST_RESULT, predicate)


def _test_name(command: str) -> str:
    """A command as the name of a test: on one line, at most 1024 characters; the plan's digest binds the whole of it."""
    line = command.strip().replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= _MAX_TEST_NAME else line[: _MAX_TEST_NAME - 1] + "…"


def _statement(subject: Subject, predicate_type: str, predicate: Json) -> bytes:
    return encode_canonical(
        {
            "_type": uris.STATEMENT_V1,
            "subject": [{"name": subject.component, "digest": {"sha256": digest_hex(subject.artifact)}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )
