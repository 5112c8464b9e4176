"""Two rooms, one format: what `builder.statement` writes is what `gatekeeper.verify` reads, member by member."""

import pytest

from builder import statement
from gatekeeper.model.facts import TestVerdict
from gatekeeper.model.moment import later
from gatekeeper.model.verified import Verified
from gatekeeper.verify.submission import verify_submission
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, ISSUED, PLAN, PROJECT, RECEIPT, RECEIVED, REPOSITORY, RUN, TREE, FakeCa

CA = FakeCa()
SUBJECT = statement.Subject("hello", ARTIFACT)
SOURCE = statement.Source(REPOSITORY, "refs/heads/main", COMMIT, TREE)
WHOSE = statement.Run(PROJECT, BUILDER_ID, RUN, PLAN)


def verify(payload):
    checked = verify_submission(CA.run().sign(payload), [CA.root()], received_at=RECEIVED, artifact=ARTIFACT)
    assert isinstance(checked, Verified)
    return checked.value


def test_manifest():
    outputs = [statement.Output("out/greeter", 3, ARTIFACT), statement.Output("a", 0, ARTIFACT)]
    manifest = verify(statement.manifest_statement(SUBJECT, SOURCE, WHOSE, outputs))
    assert [output.path for output in manifest.outputs] == ["a", "out/greeter"]
    assert (manifest.plan, manifest.source.tree) == (PLAN, TREE)


def test_provenance():
    made = statement.provenance_statement(SUBJECT, SOURCE, WHOSE, started=ISSUED, finished=later(ISSUED, seconds=5), log=PLAN)
    provenance = verify(made)
    assert (provenance.started, provenance.log, provenance.tree) == (ISSUED, PLAN, TREE)


@pytest.mark.parametrize("deployment", [None, statement.Deployment("https://test.demo/hello", RECEIPT)], ids=["commit", "acceptance"])
def test_results(deployment):
    stage = statement.StageName.ACCEPTANCE if deployment else statement.StageName.COMMIT
    found = statement.StageResult(stage, statement.Verdict.FAILED, ("make",), ("make\ttest\nagain",))
    result = verify(statement.test_result_statement(SUBJECT, PLAN, found, deployment))
    assert (result.stage, result.verdict, result.passed) == (stage.value, TestVerdict.FAILED, ("make",))
    assert result.receipt == (deployment.receipt if deployment else None)
