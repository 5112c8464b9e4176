"""What foreign provenance leaves out, and what it says twice: read as empty, or refused in words of its own."""

import json

import pytest

from gatekeeper.model.parameters import MAX_PARAMETERS
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.builder import parse_builder_root
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.provenance import verify_provenance
from tests.fakes.cases import CA
from tests.fakes.foreign_builds import older_statement, workflow_statement
from tests.fakes.signing import ARTIFACT, BUILDER_ID, RECEIVED, REPOSITORY


def verify(statement):
    data = CA.run().sign(json.dumps(statement).encode())
    return verify_provenance(data, (parse_builder_root(BUILDER_ID, CA.pem()),), received_at=RECEIVED, artifact=ARTIFACT)


def test_a_platform_that_says_nothing_of_the_run_says_the_empty_text():
    newer, older = workflow_statement(), older_statement()
    del newer["predicate"]["buildDefinition"]["internalParameters"]
    del older["predicate"]["invocation"]["environment"]
    for statement in (newer, older):
        read = verify(statement)
        assert isinstance(read, Verified)
        assert (read.value.trigger, read.value.repository_id, read.value.runner) == ("", "", "")
    empty = workflow_statement()
    empty["predicate"]["buildDefinition"]["internalParameters"]["github"] = {}
    assert (verify(empty).value.trigger, verify(empty).value.repository_id, verify(empty).value.runner) == ("", "", "")
    bare = workflow_statement()
    bare["predicate"]["buildDefinition"]["internalParameters"] = {"runner": "x"}
    assert verify(bare).value.trigger == ""


def test_an_older_source_without_a_ref_has_the_empty_one():
    statement = older_statement()
    for source in (statement["predicate"]["invocation"]["configSource"], statement["predicate"]["materials"][0]):
        source["uri"] = f"git+{REPOSITORY}"
    assert verify(statement).value.ref == ""


@pytest.mark.parametrize("statement", [workflow_statement(), older_statement()], ids=["v1", "v0.2"])
def test_a_source_that_was_resolved_at_another_ref_is_told_as_that(statement):
    predicate = statement["predicate"]
    resolved = predicate["buildDefinition"]["resolvedDependencies"] if "buildDefinition" in predicate else predicate["materials"]
    resolved[0]["uri"] = f"git+{REPOSITORY}@refs/heads/other"
    assert verify(statement) == Refusal("provenance-inputs", "the source was resolved at another ref than the parameters name")
    resolved[0]["uri"] = f"git+{REPOSITORY}"
    assert isinstance(verify(statement), Verified)


def test_parameters_are_bounded():
    statement = workflow_statement()
    inputs = statement["predicate"]["buildDefinition"]["externalParameters"]["inputs"]
    inputs |= {f"input{number}": "x" for number in range(MAX_PARAMETERS - 1)}
    assert len(verify(statement).value.parameters) == MAX_PARAMETERS
    inputs["one more"] = "x"
    with pytest.raises(MalformedStatement, match=f"/externalParameters.*: more than {MAX_PARAMETERS} parameters"):
        verify(statement)
