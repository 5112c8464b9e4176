"""Statements and predicates of builders: attack matrix rows 9-18, 22, 40-45, and twelve mutations of every identity field."""

import json
import re

import pytest

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.facts import ArtifactManifest, Provenance, TestResult, TestVerdict
from gatekeeper.model.uris import MANIFEST, PIPELINE, PROVENANCE_V02, PROVENANCE_V1, TEST_RESULT
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.manifest import verify_manifest
from gatekeeper.verify.provenance import verify_provenance
from gatekeeper.verify.submission import verify_submission
from gatekeeper.verify.testresult import verify_test_result
from tests.fakes import signing
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, PLAN, PROJECT, RECEIPT, RECEIVED, REPOSITORY, RUN, TREE, FakeCa

CA = FakeCa()
SIGNER = CA.run()
ROOTS = [CA.root()]
HEX = digest_hex(ARTIFACT)


def manifest(payload):
    return verify_manifest(SIGNER.sign(payload), ROOTS, received_at=RECEIVED)


def provenance(payload, artifact=ARTIFACT):
    return verify_provenance(SIGNER.sign(payload), ROOTS, received_at=RECEIVED, artifact=artifact)


def result(payload, artifact=ARTIFACT):
    return verify_test_result(SIGNER.sign(payload), ROOTS, received_at=RECEIVED, artifact=artifact)


def edited(payload, *path, value):
    """The statement with one member replaced; the last step of `path` may be new."""
    document = json.loads(payload)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return encode_canonical(document)


def removed(payload, *path):
    document = json.loads(payload)
    place = document
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return encode_canonical(document)


def members(document, path=()):
    """Every member of every object, as a path."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*path, key)
            yield from members(value, (*path, key))
    if isinstance(document, list):
        for number, value in enumerate(document):
            yield from members(value, (*path, number))


def objects(document, path=()):
    """Every object, as a path."""
    if isinstance(document, dict):
        yield path
    for key, value in document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ():
        yield from objects(value, (*path, key))


GOOD = {
    "manifest": (manifest, signing.manifest_statement(), ArtifactManifest),
    "provenance": (provenance, signing.provenance_statement(), Provenance),
    "commit": (result, signing.result_statement(), TestResult),
    "acceptance": (result, signing.result_statement("acceptance"), TestResult),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_statements(kind):
    verify, payload, fact = GOOD[kind]
    checked = verify(payload)
    assert isinstance(checked, Verified)
    assert isinstance(checked.value, fact)
    assert (checked.value.artifact, checked.value.signer.project) == (ARTIFACT, PROJECT)


def test_facts_are_what_the_statements_say():
    made = manifest(GOOD["manifest"][1]).value
    assert (made.component, made.plan, made.source.repository, made.source.tree, made.run) == ("hello", PLAN, REPOSITORY, TREE, RUN)
    assert [(one.path, one.size, one.sha256) for one in made.outputs] == [("out/greeter", 3, digest_of(b"abc"))]
    built = provenance(GOOD["provenance"][1]).value
    assert (built.build_type, built.repository, built.ref, built.tree) == (PIPELINE, REPOSITORY, "refs/heads/main", TREE)
    assert (built.parameters, built.log, built.commit) == ((("config", '".pipeline/config.yaml"'),), digest_of(b"log"), COMMIT)
    assert (built.dependencies, built.trigger, built.runner, built.repository_id, built.legacy) == ((), "", "", "", frozenset())
    tested = result(GOOD["acceptance"][1]).value
    assert (tested.stage, tested.plan, tested.verdict, tested.receipt) == ("acceptance", PLAN, TestVerdict.PASSED, RECEIPT)
    assert (tested.passed, tested.failed, tested.url) == (("make test",), (), "https://test.demo/hello")


@pytest.mark.parametrize("kind", ["manifest", "provenance", "commit"])
def test_a_submission_is_what_its_signed_type_says(kind):
    checked = verify_submission(SIGNER.sign(GOOD[kind][1]), ROOTS, received_at=RECEIVED)
    assert type(checked.value) is GOOD[kind][2]


def test_a_submission_of_no_kind_of_ours():
    payload = edited(GOOD["manifest"][1], "predicateType", value="https://spdx.dev/Document/v2.3")
    assert verify_submission(SIGNER.sign(payload), ROOTS, received_at=RECEIVED).reason == "provenance-predicate"


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, (_, payload, _) in GOOD.items() for path in members(json.loads(payload))], ids=str
)
def test_no_member_may_be_missing(kind, path):
    verify, payload, _ = GOOD[kind]
    optional = {("subject", 0, "name"), ("predicate", "passedTests"), ("predicate", "runDetails", "byproducts")}
    try:
        checked = verify(removed(payload, *path))
    except MalformedStatement:
        checked = None
    assert isinstance(checked, Verified) == (path in optional)


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, (_, payload, _) in GOOD.items() for path in objects(json.loads(payload))], ids=str
)
def test_no_object_takes_a_member_that_nobody_reads(kind, path):
    verify, payload, _ = GOOD[kind]
    changed = edited(payload, *path, "unheard", value="x")
    if path[-1:] == ("externalParameters",):
        assert verify(changed).reason == "provenance-inputs"  # well formed, and more than was reviewed
    else:
        with pytest.raises(MalformedStatement, match="unheard"):
            verify(changed)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("statement_type", ["https://in-toto.io/Statement/v1evil", "https://in-toto.io/Statement/v0.2", "", None])
def test_other_statement_types(kind, statement_type):  # row 9
    verify, payload, _ = GOOD[kind]
    with pytest.raises(MalformedStatement, match="/_type"):
        verify(edited(payload, "_type", value=statement_type))


@pytest.mark.parametrize("kind", GOOD)
def test_the_older_statement_type_is_read_and_never_ours(kind):  # row 9
    verify, payload, _ = GOOD[kind]
    checked = verify(edited(payload, "_type", value="https://in-toto.io/Statement/v0.1"))
    if kind == "provenance":
        assert checked.value.legacy == {"https://in-toto.io/Statement/v0.1"}  # for the policy to name or refuse
    else:
        assert checked == Refusal("provenance-predicate", "the statement is in an older form: https://in-toto.io/Statement/v0.1")


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("change", [lambda t: t + "evil", lambda t: t[:-1], lambda t: t.upper(), lambda t: t + "/", lambda t: "https://evil/x"])
def test_other_predicate_types(kind, change):  # row 10
    verify, payload, _ = GOOD[kind]
    checked = verify(edited(payload, "predicateType", value=change(json.loads(payload)["predicateType"])))
    assert checked.reason == "provenance-predicate"


def test_a_good_statement_of_another_kind_is_not_taken():
    assert manifest(GOOD["provenance"][1]) == Refusal("provenance-predicate", f"the predicate type must be {MANIFEST}")
    assert provenance(GOOD["commit"][1]) == Refusal("provenance-predicate", f"the predicate type must be {PROVENANCE_V1} or {PROVENANCE_V02}")
    assert result(GOOD["manifest"][1]) == Refusal("provenance-predicate", f"the predicate type must be {TEST_RESULT}")


@pytest.mark.parametrize("kind", GOOD)
def test_no_subject(kind):  # row 11
    verify, payload, _ = GOOD[kind]
    with pytest.raises(MalformedStatement, match="/subject: names nothing"):
        verify(edited(payload, "subject", value=[]))


@pytest.mark.parametrize("kind", ["provenance", "commit"])
def test_subject_is_another_artifact(kind):  # row 12
    verify, payload, _ = GOOD[kind]
    assert verify(payload, artifact=digest_of(b"another")) == Refusal("digest-mismatch", "the statement is about another artifact")


@pytest.mark.parametrize("digest", [{"sha1": "1" * 40}, {"md5": "1" * 32}, {"sha1": "1" * 40, "md5": "1" * 32}, {}])
@pytest.mark.parametrize("kind", GOOD)
def test_weak_digests_alone(kind, digest):  # row 13
    verify, payload, _ = GOOD[kind]
    with pytest.raises(MalformedStatement, match="/subject/0/digest: must hold sha256"):
        verify(edited(payload, "subject", 0, "digest", value=digest))


@pytest.mark.parametrize("other", [{"sha512": "0" * 128}, {"sha1": "1" * 40}, {"gitCommit": COMMIT}])
@pytest.mark.parametrize("kind", GOOD)
def test_a_second_digest_that_nobody_can_compare(kind, other):  # row 14
    verify, payload, _ = GOOD[kind]
    assert verify(edited(payload, "subject", 0, "digest", value={"sha256": HEX} | other)).reason == "digest-mismatch"


@pytest.mark.parametrize(
    "digest",
    [
        {"sha256": "0" * 128},
        {"sha256": HEX.upper()},
        {"sha256": HEX[:-1]},
        {"sha256": "0x" + HEX[2:]},
        {"sha256": HEX + "\n"},
        {"sha256": 1},
        {"SHA256": HEX},
        {"sha256": HEX, "x": HEX},
        {"sha256": HEX, "sha512": "0"},
        {"sha256": "sha256:" + HEX},
    ],
)
@pytest.mark.parametrize("kind", GOOD)
def test_digests_of_another_form(kind, digest):  # row 15
    verify, payload, _ = GOOD[kind]
    with pytest.raises(MalformedStatement, match="/subject/0/digest"):
        verify(edited(payload, "subject", 0, "digest", value=digest))


@pytest.mark.parametrize("kind", GOOD)
def test_many_subjects_right_one_last(kind):  # row 17
    verify, payload, _ = GOOD[kind]
    subjects = [{"digest": {"sha256": digest_hex(digest_of(bytes([n // 256, n % 256])))}} for n in range(999)] + [{"digest": {"sha256": HEX}}]
    checked = verify(edited(payload, "subject", value=subjects))
    assert checked == Refusal("digest-mismatch", "the statement names 1000 subjects; it must name exactly one")
    with pytest.raises(MalformedStatement, match="/subject: has more than 1000 items"):
        verify(edited(payload, "subject", value=[*subjects, subjects[0]]))


@pytest.mark.parametrize("key", [b'"subject"', b'"sha256"', b'"predicateType"', b'"id"'])
def test_duplicate_keys(key):  # row 18
    payload = GOOD["manifest"][1]
    at = payload.index(key)
    with pytest.raises(MalformedStatement, match="stands twice"):
        manifest(payload[:at] + key + b':"x",' + payload[at:])


@pytest.mark.parametrize("size", [True, "3", None, -1, 2**53])
def test_numbers_are_numbers(size):  # row 22
    payload = json.dumps(json.loads(GOOD["manifest"][1])).replace('"size": 3', f'"size": {json.dumps(size)}').encode()
    with pytest.raises(MalformedStatement):
        manifest(payload)


def test_floats_are_not_integers():  # row 22
    with pytest.raises(MalformedStatement, match="fraction"):
        manifest(GOOD["manifest"][1].replace(b'"size":3', b'"size":3.0'))


NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


def mutations(text):
    """Twelve ways to look like an identity without being it (row 40-42, incident class 5)."""
    return {
        "suffix": text + "x",
        "prefix": "x" + text,
        "cut": text[:-1],
        "case": text.swapcase() if text.swapcase() != text else text + "A",
        "trailing slash": text + "/",
        "trailing dot": text + ".",
        "space": text + " ",
        "escape": text[:-1] + f"%{ord(text[-1]):02x}",
        "homoglyph": text.replace("e", "\u0435").replace("1", "\u0661").replace("2", "\u0662"),
        "zero width": text[:1] + "\u200b" + text[1:],
        "fullwidth": text[:-1] + chr(ord(text[-1]) + 0xFEE0),
        "traversal": text + "/../" + text,
    }


IDENTITIES = {
    "manifest builder": ("manifest", ("predicate", "builder", "id"), BUILDER_ID, "unknown-builder"),
    "manifest project": ("manifest", ("predicate", "project"), PROJECT, "provenance-project"),
    "manifest run": ("manifest", ("predicate", "run"), RUN, "provenance-commit"),
    "manifest commit": ("manifest", ("predicate", "source", "commit"), COMMIT, "provenance-commit"),
    "provenance builder": ("provenance", ("predicate", "runDetails", "builder", "id"), BUILDER_ID, "unknown-builder"),
    "provenance run": ("provenance", ("predicate", "runDetails", "metadata", "invocationId"), RUN, "provenance-commit"),
    "provenance build type": ("provenance", ("predicate", "buildDefinition", "buildType"), PIPELINE, "provenance-predicate"),
    "provenance repository": (
        "provenance",
        ("predicate", "buildDefinition", "externalParameters", "repository"),
        REPOSITORY,
        "provenance-inputs",
    ),
    "provenance ref": ("provenance", ("predicate", "buildDefinition", "externalParameters", "ref"), "refs/heads/main", "provenance-inputs"),
}


@pytest.mark.parametrize("mutation", mutations("text"))
@pytest.mark.parametrize("identity", IDENTITIES)
def test_twelve_mutations_of_every_identity(identity, mutation):
    kind, path, text, reason = IDENTITIES[identity]
    verify, payload, _ = GOOD[kind]
    mutated = mutations(text)[mutation]
    assert mutated != text
    changed = edited(payload, *path, value=mutated)
    # a commit and a name have one spelling only; what is not of it never reaches the comparison
    if path[-1] == "commit" or (path[-1] == "project" and NAME.fullmatch(mutated) is None):
        with pytest.raises(MalformedStatement, match="/".join(path[1:])):
            verify(changed)
    else:
        assert verify(changed).reason == reason


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ({"project": "other"}, "provenance-project"),
        ({"commit": "3" * 40}, "provenance-commit"),
        ({"run": "run-2"}, "provenance-commit"),
        ({"builder_id": BUILDER_ID + "2"}, "unknown-builder"),
    ],
    ids=str,
)
def test_a_certificate_of_another_run_signs_our_manifest(certificate, reason):  # row 143's end here
    data = CA.run(**certificate).sign(GOOD["manifest"][1])
    assert verify_manifest(data, ROOTS, received_at=RECEIVED).reason == reason


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [({"commit": "3" * 40}, "provenance-commit"), ({"run": "run-2"}, "provenance-commit"), ({"builder_id": BUILDER_ID + "2"}, "unknown-builder")],
    ids=str,
)
def test_a_certificate_of_another_run_signs_our_provenance(certificate, reason):
    data = CA.run(**certificate).sign(GOOD["provenance"][1])
    assert verify_provenance(data, ROOTS, received_at=RECEIVED, artifact=ARTIFACT).reason == reason


def test_unexpected_external_parameters():  # row 44
    payload = edited(GOOD["provenance"][1], "predicate", "buildDefinition", "externalParameters", "inputs", value={"debug": "1"})
    assert provenance(payload).reason == "provenance-inputs"


def test_dependency_resolved_to_another_commit():  # row 45
    payload = edited(GOOD["provenance"][1], "predicate", "buildDefinition", "resolvedDependencies", 0, "digest", "gitCommit", value="3" * 40)
    assert provenance(payload) == Refusal("provenance-commit", "the source was resolved to another commit than the parameters name")


@pytest.mark.parametrize("count", [0, 2])
def test_dependencies_are_exactly_the_source(count):
    path = ("predicate", "buildDefinition", "resolvedDependencies")
    one = signing.provenance_predicate()["buildDefinition"]["resolvedDependencies"]
    assert provenance(edited(GOOD["provenance"][1], *path, value=one * count)).reason == "provenance-inputs"


@pytest.mark.parametrize("digest", [{"gitCommit": COMMIT}, {"gitCommit": COMMIT, "gitTree": TREE, "sha256": HEX}])
def test_the_source_has_a_commit_and_a_tree(digest):
    payload = edited(GOOD["provenance"][1], "predicate", "buildDefinition", "resolvedDependencies", 0, "digest", value=digest)
    assert provenance(payload).reason == "provenance-inputs"


def test_a_build_does_not_end_before_it_starts():
    payload = edited(GOOD["provenance"][1], "predicate", "runDetails", "metadata", "finishedOn", value="2026-11-21T09:58:59Z")
    with pytest.raises(MalformedStatement, match="lies before startedOn"):
        provenance(payload)
    at_once = edited(GOOD["provenance"][1], "predicate", "runDetails", "metadata", "finishedOn", value="2026-11-21T09:59:00Z")
    assert isinstance(provenance(at_once), Verified)


@pytest.mark.parametrize("byproducts", [[], [{"name": "log", "digest": {"sha256": HEX}}] * 2, [{"name": "core", "digest": {"sha256": HEX}}]])
def test_the_only_byproduct_is_the_log(byproducts):
    with pytest.raises(MalformedStatement, match="/byproducts"):
        provenance(edited(GOOD["provenance"][1], "predicate", "runDetails", "byproducts", value=byproducts))


def output(path):
    return {"path": path, "size": 1, "sha256": ARTIFACT}


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb", "", "x" * 1025])
def test_output_paths_stay_inside(path):
    with pytest.raises(MalformedStatement, match="/predicate/outputs/0/path"):
        manifest(signing.manifest_statement(outputs=[output(path)]))


@pytest.mark.parametrize("paths", [[], ["b", "a"], ["a", "a"]], ids=str)
def test_outputs_are_sorted_and_each_once(paths):
    with pytest.raises(MalformedStatement, match="/predicate/outputs: "):
        manifest(signing.manifest_statement(outputs=[output(path) for path in paths]))


@pytest.mark.parametrize("value", ["passed", "OK", "", None, True])
def test_results_are_one_of_three(value):
    with pytest.raises(MalformedStatement, match="/result: must be one of PASSED, WARNED, FAILED"):
        result(signing.result_statement(result=value))


@pytest.mark.parametrize("value", ["WARNED", "FAILED"])
def test_a_result_that_is_not_good_is_still_a_fact(value):
    checked = result(signing.result_statement(result=value, failedTests=["a"]))
    assert (checked.value.verdict, checked.value.failed) == (TestVerdict(value), ("a",))


def test_passed_beside_failed_tests_contradicts_itself():
    with pytest.raises(MalformedStatement, match="PASSED beside failed tests"):
        result(signing.result_statement(failedTests=["a"]))


@pytest.mark.parametrize("count", [0, 2])
def test_one_configuration(count):
    one = signing.result_predicate()["configuration"]
    with pytest.raises(MalformedStatement, match="/configuration: must be exactly one"):
        result(signing.result_statement(configuration=one * count))


@pytest.mark.parametrize("path", [("url",), ("configuration", 0, "annotations")], ids=str)
def test_acceptance_names_what_it_ran_against(path):
    with pytest.raises(MalformedStatement, match="acceptance names what it ran against"):
        result(removed(GOOD["acceptance"][1], "predicate", *path))


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil", "ftp://x"])
def test_urls_are_of_the_web(url):
    with pytest.raises(MalformedStatement, match="/url: must be an https or http URL"):
        result(signing.result_statement("acceptance", url=url))
