import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from builder import signing, statement
from builder.fault import BuildFault
from builder.identity import claimed_run, read_token
from builder.statement import Deployment, Output, Run, Source, StageName, StageResult, Subject, Verdict
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.moment import parse_moment

PLAN, ARTIFACT, LOG = digest_of(b"plan"), digest_of(b"artifact"), digest_of(b"log")
SUBJECT = Subject("hello", ARTIFACT)
SOURCE = Source("https://git.demo/hello", "refs/heads/main", "a" * 40, "b" * 40)
RUN = Run("hello", "https://ci.demo/builder", "17", PLAN)


def bare(digest: Digest):
    return digest.removeprefix("sha256:")


def test_the_manifest_lists_sorted_outputs_of_one_run():
    made = json.loads(statement.manifest_statement(SUBJECT, SOURCE, RUN, [Output("b", 2, LOG), Output("a", 1, PLAN)]))
    assert made["subject"] == [{"name": "hello", "digest": {"sha256": bare(ARTIFACT)}}]
    assert made["predicateType"] == "https://pingee.internal/manifest/v1"
    assert made["predicate"] == {
        "project": "hello",
        "component": "hello",
        "plan": PLAN,
        "source": {"repository": "https://git.demo/hello", "commit": "a" * 40, "tree": "b" * 40},
        "outputs": [{"path": "a", "size": 1, "sha256": PLAN}, {"path": "b", "size": 2, "sha256": LOG}],
        "builder": {"id": "https://ci.demo/builder"},
        "run": "17",
    }


def test_provenance_names_inputs_run_and_log():
    started, finished = parse_moment("2026-11-21T10:00:00Z"), parse_moment("2026-11-21T10:00:05Z")
    made = json.loads(statement.provenance_statement(SUBJECT, SOURCE, RUN, started=started, finished=finished, log=LOG))["predicate"]
    assert made["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "git+https://git.demo/hello@refs/heads/main", "digest": {"gitCommit": "a" * 40, "gitTree": "b" * 40}}
    ]
    assert made["buildDefinition"]["externalParameters"]["config"] == ".pipeline/config.yaml"
    assert made["runDetails"] == {
        "builder": {"id": "https://ci.demo/builder"},
        "metadata": {"invocationId": "17", "startedOn": "2026-11-21T10:00:00Z", "finishedOn": "2026-11-21T10:00:05Z"},
        "byproducts": [{"name": "log", "digest": {"sha256": bare(LOG)}}],
    }


def test_a_result_records_the_commands_on_one_line_each():
    result = StageResult(StageName.COMMIT, Verdict.FAILED, ("make\ttest",), ("a\nb\n", "x" * 2000))
    made = json.loads(statement.test_result_statement(SUBJECT, PLAN, result, None))["predicate"]
    assert made["result"] == "FAILED"
    assert made["passedTests"] == ["make\\ttest"]
    assert made["failedTests"] == ["a\\nb", "x" * 1023 + "…"]
    assert made["configuration"] == [{"name": "commit", "digest": {"sha256": bare(PLAN)}}]


def test_an_acceptance_result_and_no_other_names_its_deployment():
    deployment = Deployment("https://test.demo/d/1", LOG)
    passed = StageResult(StageName.ACCEPTANCE, Verdict.PASSED, ("t",), ())
    made = json.loads(statement.test_result_statement(SUBJECT, PLAN, passed, deployment))["predicate"]
    assert made["url"] == "https://test.demo/d/1"
    assert made["configuration"][0]["annotations"] == {"pingee.internal/receipt": LOG}
    with pytest.raises(ValueError, match="names a deployment"):
        statement.test_result_statement(SUBJECT, PLAN, passed, None)
    with pytest.raises(ValueError, match="names a deployment"):
        statement.test_result_statement(SUBJECT, PLAN, StageResult(StageName.COMMIT, Verdict.PASSED, (), ()), deployment)


def test_a_key_is_never_shown():
    key = signing.ephemeral_key()
    assert isinstance(key.curve, ec.SECP256R1)
    assert "key" not in repr(signing.Signer(key, b"", None)).replace("Signer", "")


def test_an_answer_that_is_no_certificate_is_refused():
    with pytest.raises(BuildFault, match="certificate-refused"):
        signing.make_signer(signing.ephemeral_key(), "hello", project="hello", commit="a" * 40, run="17")


def token(**claims):
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256"}, claims)]
    return ".".join([base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts] + ["c2ln"])


def test_the_runs_own_claims_are_read():
    run = claimed_run(token(project="hello", commit="a" * 40, run="17", actor="alice", ref="refs/heads/main"))
    assert (run.project, run.commit, run.run, run.ref) == ("hello", "a" * 40, "17", "refs/heads/main")
    for claims in ({}, {"project": "hello", "commit": "main", "run": "1"}, {"project": 1, "commit": "a" * 40, "run": "1"}):
        with pytest.raises(BuildFault, match="token-unreadable"):
            claimed_run(token(**claims))


def test_a_token_file_that_others_may_read_is_refused_and_never_quoted(tmp_path):
    path = tmp_path / "token"
    secret = token(project="hello", commit="a" * 40, run="17")
    path.write_text(secret + "\n")
    path.chmod(0o600)
    assert read_token(path) == secret
    path.chmod(0o640)
    with pytest.raises(BuildFault, match="chmod 600") as refused:
        read_token(path)
    assert secret not in str(refused.value)
    path.chmod(0o600)
    path.write_text("not a token")
    with pytest.raises(BuildFault, match="holds no JSON web token"):
        read_token(path)
