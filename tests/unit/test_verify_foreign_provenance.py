"""Foreign provenance against an expectation: nothing is matched but exactly (attack matrix, rows 10, 37, 40, 41, 43)."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Pinned, verify_attestation
from gatekeeper.verify.checks import Name, Outcome
from gatekeeper.verify.foreignprovenance import ExpectedProvenance, split_source
from gatekeeper.verify.managedkey import parse_managed_key
from tests.fakes.foreign_bundles import SHA256, pem, signed_statement

AT = moment(datetime(2026, 11, 21, 12, tzinfo=UTC))
KEY = ec.generate_private_key(ec.SECP256R1())
BUILDER = "https://ci.example/builder"
SOURCE = "https://git.example/hello"
REF = "refs/tags/v13.0"
V1, V02 = "https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"


def v1(builder=BUILDER, uri=f"git+{SOURCE}@{REF}", **parameters) -> dict:
    definition = {"buildType": "any", "externalParameters": parameters, "resolvedDependencies": [{"uri": uri}]}
    return {"predicateType": V1, "predicate": {"buildDefinition": definition, "runDetails": {"builder": {"id": builder}}}}


def v02(builder=BUILDER, uri=f"git+{SOURCE}@{REF}", material=None) -> dict:
    predicate = {"builder": {"id": builder}, "invocation": {"configSource": {"uri": uri}}, "materials": [{"uri": material or uri}]}
    return {"predicateType": V02, "predicate": predicate}


def verify(said: dict, *, builder=BUILDER, source=SOURCE, ref=REF):
    expected = ExpectedProvenance(builder, source, ref)
    signer = Pinned(parse_managed_key(pem(KEY)), None)
    return verify_attestation(signed_statement(KEY, **said), signer, Artifact({"sha256": SHA256}), at=AT, demand=expected.demand)


def failed(report) -> tuple[str, str]:
    assert isinstance(report.result, Refusal)
    (check,) = [check for check in report.checks if check.outcome is Outcome.FAILED]
    return check.name.value, report.result.reason


@pytest.mark.parametrize("made", [v1, v02])
def test_builder_source_and_ref_that_are_expected_are_verified(made):
    report = verify(made())
    assert isinstance(report.result, Verified)
    assert {check.name for check in report.checks} == set(Name) - {Name.VERIFIER, Name.RESOURCE, Name.RESULT, Name.LEVELS}


def test_without_a_ref_the_check_of_it_is_skipped_and_named():
    (check,) = [check for check in verify(v1(), ref=None).checks if check.name is Name.REF]
    assert (check.outcome, check.detail) == (Outcome.SKIPPED, f"no ref was expected; it is {REF}")
    (check,) = [check for check in verify(v1(uri=f"git+{SOURCE}"), ref=None).checks if check.name is Name.REF]
    assert (check.outcome, check.detail) == (Outcome.SKIPPED, "no ref was expected, and none is named")


def test_a_ref_that_is_expected_and_another_or_none_that_is_named():
    for uri, named in ((f"git+{SOURCE}", "no ref"), (f"git+{SOURCE}@refs/heads/main", "refs/heads/main")):
        assert verify(v1(uri=uri)).result == Refusal("provenance-project", f"built from {named}, not from {REF}")


MUTATED_BUILDERS = [
    "https://ci.example.evil/builder",
    "https://ci.example@evil/builder",
    "https://ci.example/builder/../evil",
    "https://ci.example/build",
    "https://ci.example/builder/",
    "https://ci.example/builder2",
    "https://ci.example/Builder",
    "HTTPS://ci.example/builder",
    "https://ci.example:443/builder",
    "https://ci.example./builder",
    "https://ci.ex%61mple/builder",
    "https://ci.ex\u0430mple/builder",
    " https://ci.example/builder",
]


@pytest.mark.parametrize("builder", MUTATED_BUILDERS)
@pytest.mark.parametrize("made", [v1, v02])
def test_row_40_another_builder_is_refused(made, builder):
    assert failed(verify(made(builder=builder))) == ("builder", "unknown-builder")


MUTATED_SOURCES = [
    "https://git.ex\u0430mple/hello",
    "https://xn--git-5cd.example/hello",
    "https://git.example/hel\u200blo",
    "https://git.example\uff0fhello",
    "https://git.example/hello/",
    "https://git.example/hello.git",
    "https://git.example/HELLO",
    "https://git.example/hello2",
    "https://git.example/hell",
    "https://git.example:443/hello",
    "https://user@git.example/hello",
    "http://git.example/hello",
    "git+https://git.example/hello",
]


@pytest.mark.parametrize("source", MUTATED_SOURCES)
@pytest.mark.parametrize("made", [v1, v02])
def test_row_41_another_source_is_refused(made, source):
    assert failed(verify(made(uri=f"git+{source}@{REF}"))) == ("source", "provenance-project")


def test_row_41_two_normal_forms_are_two_sources():
    composed, decomposed = "https://git.example/caf\u00e9", "https://git.example/cafe\u0301"
    assert failed(verify(v1(uri=f"git+{composed}@{REF}"), source=decomposed)) == ("source", "provenance-project")


@pytest.mark.parametrize("ref", ["refs/tags/v13.0.30", "refs/heads/v13.0", "v13.0", "refs/tags/v13", "refs/tags/V13.0", "refs/tags/v13.0/"])
@pytest.mark.parametrize("made", [v1, v02])
def test_row_43_another_ref_is_refused(made, ref):
    assert failed(verify(made(uri=f"git+{SOURCE}@{ref}"))) == ("ref", "provenance-project")


def test_row_43_a_source_without_a_ref_is_refused_where_one_is_expected():
    assert failed(verify(v1(uri=SOURCE))) == ("ref", "provenance-project")


@pytest.mark.parametrize("kind", [V1 + "evil", "https://slsa.dev/provenance/", "https://slsa.dev/provenance/v0.1", V1.upper(), "https://spdx.dev/Document"])
def test_row_10_another_predicate_type_is_refused(kind):
    assert failed(verify({**v1(), "predicateType": kind})) == ("predicate", "provenance-predicate")


@pytest.mark.parametrize(
    "said",
    [
        v1(repository="https://git.example/other", ref=REF),
        v1(repository=SOURCE, ref="refs/heads/main"),
        v1(repository=SOURCE),
        v1(workflow={"repository": "https://git.example/other", "ref": REF}),
        v02(material="git+https://git.example/other@refs/heads/main"),
    ],
)
def test_two_sources_in_one_provenance_are_refused(said):
    assert failed(verify(said)) == ("source", "provenance-inputs")


def test_parameters_that_name_the_same_source_are_verified():
    for parameters in ({"repository": SOURCE, "ref": REF}, {"workflow": {"repository": SOURCE, "ref": REF, "path": "ci.yml"}}):
        assert isinstance(verify(v1(**parameters)).result, Verified)


@pytest.mark.parametrize("kind", [V1, V02])
@pytest.mark.parametrize("predicate", [{}, {"buildDefinition": {"resolvedDependencies": []}, "runDetails": {"builder": {"id": BUILDER}}}])
def test_a_predicate_that_names_nothing_is_refused(kind, predicate):
    assert failed(verify({"predicateType": kind, "predicate": predicate})) == ("predicate", "provenance-predicate")


def test_no_source_is_an_empty_list_of_dependencies():
    said = v1()
    said["predicate"]["buildDefinition"]["resolvedDependencies"] = []
    assert failed(verify(said)) == ("predicate", "provenance-predicate")


@pytest.mark.parametrize("empty", [("", SOURCE, None), (BUILDER, "", None), (BUILDER, SOURCE, "")])
def test_an_empty_expectation_is_refused(empty):
    with pytest.raises(ValueError, match="expect nothing"):
        ExpectedProvenance(*empty)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("git+https://g/x@refs/heads/main", ("https://g/x", "refs/heads/main")),
        ("git+git+https://g/x@r", ("git+https://g/x", "r")),
        ("https://g/x", ("https://g/x", None)),
        ("git+https://g/x@a@b", ("https://g/x@a", "b")),
        ("git+ssh://git@g/x", ("ssh://git@g/x", None)),
        ("git+ssh://git@g/x@refs/heads/main", ("ssh://git@g/x", "refs/heads/main")),
        ("git+git@g:x", ("git@g:x", None)),
        ("git+git@g:x/y@refs/heads/main", ("git@g:x/y", "refs/heads/main")),
        ("pkg:generic/x@1.0", ("pkg:generic/x", "1.0")),
    ],
)
def test_one_prefix_and_the_last_ref_are_taken_off(uri, parts):
    assert split_source(uri) == parts
