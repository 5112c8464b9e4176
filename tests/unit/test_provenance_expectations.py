"""What a component's policy expects of its provenance, through whole decisions: attack matrix rows 9, 40 to 49 and 51, each with its reason."""

import json
from dataclasses import replace

import pytest

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.intake import accept_statement
from gatekeeper.model.decision import Result, Verdict
from gatekeeper.model.evidence import Absent, Present
from gatekeeper.model.ping import State
from gatekeeper.model.uris import GITHUB_WORKFLOW, PIPELINE, PROVENANCE_V02, STATEMENT_V01
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.decide import decide
from gatekeeper.policy.load import PolicyError
from gatekeeper.verify.builder import parse_builder_root
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.manifest import verify_manifest
from gatekeeper.verify.provenance import verify_provenance
from tests.fakes import frames, signing
from tests.fakes.cases import CA, OTHER_BUILDER, OTHER_CA, good_case, policy, with_fact
from tests.fakes.foreign_builds import (
    IMAGE,
    OLDER_TYPE,
    case_of,
    component,
    older_component,
    older_statement,
    workflow_component,
    workflow_statement,
)
from tests.fakes.house import House, _verify_inline, anyio_backend  # noqa: F401
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, RECEIVED, REPOSITORY

pytestmark = pytest.mark.anyio

ROOTS = (parse_builder_root(BUILDER_ID, CA.pem()), parse_builder_root(OTHER_BUILDER, OTHER_CA.pem()))


def workflow(**changes):
    """The workflow's statement with members replaced by their place: `external__ref`."""
    document = json.loads(json.dumps(workflow_statement()))
    definition = document["predicate"]["buildDefinition"]
    parts = {
        "workflow": definition["externalParameters"]["workflow"],
        "external": definition["externalParameters"],
        "github": definition["internalParameters"]["github"],
        "source": definition["resolvedDependencies"][0],
        "definition": definition,
        "details": document["predicate"]["runDetails"],
        "predicate": document["predicate"],
    }
    for place, value in changes.items():
        part, _, name = place.partition("__")
        if value is None:
            del parts[part][name]
        else:
            parts[part][name] = value
    return json.dumps(document).encode()


def source(repository=REPOSITORY, ref="refs/heads/main"):
    """Changes that name another source everywhere, so that only the policy can tell."""
    return {"workflow__repository": repository, "workflow__ref": ref, "source__uri": f"git+{repository}@{ref}"}


def verdict(payload, files=None):
    """The decision's one reason, or None for an Allow."""
    case = case_of(payload, workflow_component() if files is None else files)
    decision = decide(case)
    if decision.verdict is Verdict.ALLOW:
        return None
    (row,) = [row for row in decision.rules if row.result is Result.FAIL]
    assert (row.rule, decision.verdict) == ("origin.provenance", Verdict.DENY)
    assert row.expected
    assert row.actual
    assert row.need
    return row.reason


def told(payload, files=None):
    """What the one row that fails says it expected and found."""
    decision = decide(case_of(payload, workflow_component() if files is None else files))
    (row,) = [row for row in decision.rules if row.result is Result.FAIL]
    return row.expected, row.actual


def test_what_was_expected_and_what_was_found_are_told_in_words():
    assert told(workflow(**source(ref="refs/heads/other"))) == ("ref refs/heads/main", "ref refs/heads/other")
    assert told(workflow(github__event_name=None)) == ("trigger push", "trigger not named")
    assert told(workflow(github__event_name="release")) == ("trigger push", "trigger release")
    assert told(workflow(), workflow_component(triggers="")) == ("trigger that is not named", "trigger push")
    assert told(workflow(github__repository_id=None)) == ("repository id 17", "repository id none")
    assert told(workflow(), workflow_component(repository_id="")) == ("repository id none", "repository id 17")


def test_a_platform_without_numbers_of_repositories_is_expected_to_name_none():
    assert verdict(workflow(github__repository_id=None), workflow_component(repository_id="")) is None


def test_a_workflow_that_is_expected_is_allowed():
    assert verdict(workflow()) is None
    assert verdict(workflow(definition__buildType="https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1")) == "provenance-predicate"


# --- builder, build type


@pytest.mark.parametrize(
    "builder",
    [
        "https://ci.demo.evil/builder",
        "https://ci.demo@evil/builder",
        "https://ci.demo/builder/../evil",
        "https://ci.demo/build",
        "https://ci.demo/builder/",
        "https://ci.demo/Builder",
        "https://ci.demo/builder2",
    ],
)
def test_row_40_another_builder_id_is_refused(builder):
    said = {"id": builder}
    assert verdict(workflow(details__builder=said)) == "unknown-builder"
    assert verdict(signing.provenance_statement().replace(f'"id":"{BUILDER_ID}"'.encode(), f'"id":"{builder}"'.encode())) == "unknown-builder"


def test_row_40_another_builder_of_the_policy_is_not_the_components():
    payload = signing.provenance_statement().replace(BUILDER_ID.encode(), OTHER_BUILDER.encode())
    signed = OTHER_CA.run(builder_id=OTHER_BUILDER).sign(payload)
    checked = verify_provenance(signed, ROOTS, received_at=RECEIVED, artifact=ARTIFACT)
    decision = decide(good_case(provenance=Present((checked,))))
    assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("unknown-builder",))


def test_a_build_type_counts_only_for_the_component_that_names_it():
    assert verdict(workflow(), component(PIPELINE)) == "provenance-predicate"
    assert verdict(signing.provenance_statement(), workflow_component()) == "provenance-predicate"
    assert verdict(workflow(definition__buildType="https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1")) == "provenance-predicate"


def test_absent_expectations_are_what_our_own_builds_say_and_never_anything():
    assert verdict(signing.provenance_statement(), component(PIPELINE)) is None
    # A foreign build says more than ours: each thing that it says has to be named.
    left = [name for name in ("repository_id", "triggers", "runners", "parameters", "dependencies") if verdict(workflow(), workflow_component(**{name: ""}))]
    assert left == ["repository_id", "triggers", "runners", "parameters", "dependencies"]


# --- source


@pytest.mark.parametrize(
    "repository",
    [
        "https://git.d\u0435mo/hello",
        "https://xn--gt-hia.demo/hello",
        "https://git.demo/hel\u200blo",
        "https://git.demo\uff0fhello",
        "https://git.demo/hello/",
        "https://git.demo/hello.git",
        "https://git.demo/HELLO",
        "https://git.demo/hello2",
        "https://git.demo:443/hello",
        "git+https://git.demo/hello",
    ],
)
def test_row_41_another_repository_is_refused(repository):
    payload = workflow(workflow__repository="git+" + repository, workflow__ref="refs/heads/main", source__uri=f"git+{repository}@refs/heads/main")
    assert verdict(payload) == "provenance-project"
    assert verdict(signing.provenance_statement(repository=repository), component(PIPELINE)) == "provenance-project"


def test_row_41_two_normal_forms_are_two_repositories():
    files = workflow_component(repository='"https://git.demo/caf\u00e9"')
    case = case_of(workflow(**source("https://git.demo/cafe\u0301")), files)
    case = replace(case, evidence=replace(case.evidence, manifest=with_fact(case.evidence.manifest, source=signing_source("https://git.demo/caf\u00e9"))))
    assert decide(case).reasons == ("provenance-project",)


def signing_source(repository):
    found = good_case().evidence.manifest
    assert isinstance(found, Present)
    return replace(found.value.value.source, repository=repository)


def test_the_name_that_the_builder_has_for_the_repository_may_be_another_than_the_projects():
    repository = "https://platform.example/hello"
    case = case_of(workflow(**source(repository)), workflow_component(repository=f'"{repository}"'))
    assert decide(case).reasons == ("provenance-project",)  # the manifest names the project's own
    case = replace(case, evidence=replace(case.evidence, manifest=with_fact(case.evidence.manifest, source=signing_source(repository))))
    assert decide(case).verdict is Verdict.ALLOW


def test_row_42_a_fork_is_another_repository():
    assert verdict(workflow(**source("https://git.demo/evil/hello"))) == "provenance-project"


@pytest.mark.parametrize("number", ["18", "017", "17 ", "1", None])
def test_row_42_a_recreated_repository_has_the_name_and_another_number(number):
    assert verdict(workflow(github__repository_id=number)) == "provenance-project"


def test_row_42_a_number_that_the_policy_does_not_know_is_refused():
    assert verdict(workflow(), workflow_component(repository_id="")) == "provenance-project"


@pytest.mark.parametrize("ref", ["refs/tags/main", "refs/heads/main2", "refs/heads/mai", "refs/heads/Main", "main", "refs/heads/main/"])
def test_row_43_another_ref_is_refused(ref):
    assert verdict(workflow(**source(ref=ref))) == "provenance-project"
    assert verdict(signing.provenance_statement(ref=ref), component(PIPELINE)) == "provenance-project"


@pytest.mark.parametrize("ref", ["refs/tags/v13.0.30", "refs/heads/v13.0", "refs/tags/v13", "v13.0", "refs/heads/main"])
def test_row_43_a_tag_is_that_tag_alone(ref):
    files = workflow_component(refs='["refs/tags/v13.0"]')
    assert verdict(workflow(**source(ref="refs/tags/v13.0")), files) is None
    assert verdict(workflow(**source(ref=ref)), files) == "provenance-project"


def test_row_43_a_source_resolved_at_another_ref_than_the_workflow_names_is_refused():
    assert verdict(workflow(source__uri=f"git+{REPOSITORY}@refs/tags/main")) == "provenance-inputs"


# --- inputs


@pytest.mark.parametrize(
    "changes",
    [
        {"external__inputs": {"debug": "1"}},
        {"external__inputs": [1]},
        {"external__vars": {"MIRROR": "https://evil.example"}},
        {"external__unheard": "x"},
        {"external__unheard": False},
        {"workflow__path": ".github/workflows/other.yml"},
        {"workflow__path": None},
        {"workflow__path": ["x"]},
        {"workflow__extra": 1},
    ],
    ids=str,
)
def test_row_44_inputs_that_nobody_reviewed_are_refused(changes):
    assert verdict(workflow(**changes)) == "provenance-inputs"


@pytest.mark.parametrize("value", ['"1"', "1", "true"])
def test_row_44_an_input_that_is_named_is_compared_with_its_value_and_type(value):
    files = workflow_component(parameters=f'{{ workflow.path = ".github/workflows/build.yml", inputs.debug = {value} }}')
    allowed = [given for given in ("1", 1, True, "true", "01") if verdict(workflow(external__inputs={"debug": given}), files) is None]
    assert [json.dumps(given) for given in allowed] == [value]
    assert verdict(workflow(), files) == "provenance-inputs"  # and it may not be left out


def test_row_44_a_member_with_a_slash_in_its_name_is_no_nested_one():
    payload = workflow(**{"workflow__path": None, "external__workflow/path": ".github/workflows/build.yml"})
    assert verdict(payload) == "provenance-inputs"


def test_row_44_our_own_build_follows_the_document_that_is_expected():
    other = signing.provenance_statement().replace(b".pipeline/config.yaml", b".pipeline/mine.yaml")
    assert verdict(other, component(PIPELINE)) == "provenance-inputs"
    assert verdict(other, component(PIPELINE, parameters='{ config = ".pipeline/mine.yaml" }')) is None


@pytest.mark.parametrize("digest", [{"gitCommit": "3" * 40}, {"sha1": COMMIT}, {"gitCommit": COMMIT, "sha1": COMMIT}, {"sha256": "1" * 64}])
def test_row_45_the_source_is_resolved_to_the_reviewed_commit(digest):
    wanted = "provenance-commit" if digest.get("gitCommit") == "3" * 40 else "provenance-inputs"
    assert verdict(workflow(source__digest=digest)) == wanted


def test_row_45_a_commit_that_its_certificate_names_is_still_not_the_reviewed_one():
    roots = ROOTS[:1]
    payload = workflow(source__digest={"gitCommit": "3" * 40})
    checked = verify_provenance(CA.run(commit="3" * 40).sign(payload), roots, received_at=RECEIVED, artifact=ARTIFACT)
    assert decide(good_case(files=workflow_component(), provenance=Present((checked,)))).reasons == ("provenance-commit",)


@pytest.mark.parametrize("make", [workflow_statement, older_statement])
def test_row_45_the_run_that_signs_was_for_the_commit_that_it_names(make):
    signed = CA.run(commit="3" * 40).sign(json.dumps(make()).encode())
    checked = verify_provenance(signed, ROOTS, received_at=RECEIVED, artifact=ARTIFACT)
    assert checked == Refusal("provenance-commit", "the statement names another commit than its certificate")


@pytest.mark.parametrize("count", [0, 2])
def test_row_45_the_source_is_there_once(count):
    one = workflow_statement()["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert verdict(workflow(definition__resolvedDependencies=[one] * count + [IMAGE])) == "provenance-inputs"


@pytest.mark.parametrize("trigger", ["pull_request", "pull_request_target", "workflow_dispatch", "Push", "push ", None])
def test_row_46_a_run_that_something_else_set_off_is_refused(trigger):
    assert verdict(workflow(github__event_name=trigger)) == "provenance-inputs"


def test_row_46_a_trigger_is_one_of_those_named():
    files = workflow_component(triggers='["schedule", "push"]')
    assert [verdict(workflow(github__event_name=name), files) for name in ("push", "schedule", "release")] == [None, None, "provenance-inputs"]


@pytest.mark.parametrize("runner", ["self-hosted", "github-hosted-2", "GitHub-hosted", None])
def test_row_47_another_kind_of_machine_is_refused(runner):
    assert verdict(workflow(github__runner_environment=runner)) == "provenance-inputs"


def test_row_47_a_machine_of_ones_own_counts_where_the_policy_names_it():
    files = workflow_component(runners='["self-hosted"]')
    assert verdict(workflow(github__runner_environment="self-hosted"), files) is None
    assert verdict(workflow(), files) == "provenance-inputs"


@pytest.mark.parametrize(
    "dependency",
    [
        {"uri": "git+https://git.demo/submodule@refs/heads/main", "digest": {"gitCommit": "4" * 40}},
        {"uri": "git+https://git.demo/config@refs/heads/main", "digest": {"gitCommit": "4" * 40}},
        {**IMAGE, "digest": {"sha256": "6" * 64}},
        {**IMAGE, "digest": {**IMAGE["digest"], "sha512": "5" * 128}},
        {"uri": IMAGE["uri"]},
        {"uri": IMAGE["uri"], "digest": {}},
        {"uri": IMAGE["uri"] + "/", "digest": IMAGE["digest"]},
    ],
    ids=str,
)
def test_row_48_what_went_in_beside_the_reviewed_source_is_refused(dependency):
    first = workflow_statement()["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert verdict(workflow(definition__resolvedDependencies=[first, dependency])) == "provenance-inputs"
    assert verdict(workflow(definition__resolvedDependencies=[first, IMAGE, dependency])) == "provenance-inputs"


def test_row_48_a_sub_module_counts_at_the_commit_that_the_policy_names():
    uri = "git+https://git.demo/submodule@refs/heads/main"
    files = workflow_component(dependencies=f'[{{ uri = "{uri}", digest = {{ gitCommit = "{"4" * 40}" }} }}]')
    first = workflow_statement()["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    reasons = [
        verdict(workflow(definition__resolvedDependencies=[first, {"uri": uri, "digest": {"gitCommit": commit}}]), files)
        for commit in ("4" * 40, "5" * 40)
    ]
    assert reasons == [None, "provenance-inputs"]


# --- older forms


def test_older_provenance_counts_where_the_policy_names_every_older_form_of_it():
    payload = json.dumps(older_statement()).encode()
    assert verdict(payload, older_component()) is None
    for legacy in ("", f'["{PROVENANCE_V02}"]', f'["{STATEMENT_V01}"]'):
        assert verdict(payload, older_component(legacy=legacy)) == "provenance-predicate"


def test_row_9_our_own_provenance_in_an_older_statement_counts_where_it_is_named():
    payload = json.dumps(json.loads(signing.provenance_statement()) | {"_type": STATEMENT_V01}).encode()
    assert verdict(payload, component(PIPELINE)) == "provenance-predicate"
    assert verdict(payload, component(PIPELINE, legacy=f'["{STATEMENT_V01}"]')) is None


def test_our_build_type_has_no_older_form():
    document = older_statement()
    document["predicate"]["buildType"] = PIPELINE
    assert verdict(json.dumps(document).encode(), component(PIPELINE, legacy=f'["{STATEMENT_V01}", "{PROVENANCE_V02}"]')) == "provenance-predicate"


_V1 = ((), ("buildDefinition",), ("runDetails",), ("runDetails", "metadata"), ("runDetails", "builder"), ("buildDefinition", "resolvedDependencies", 0))
_V02 = ((), ("invocation",), ("invocation", "configSource"), ("builder",), ("metadata",), ("materials", 1))


@pytest.mark.parametrize(("make", "path"), [*((workflow_statement, path) for path in _V1), *((older_statement, path) for path in _V02)], ids=lambda value: getattr(value, "__name__", None) or str(value))
def test_a_member_that_nobody_reads_is_malformed(make, path):
    document = json.loads(json.dumps(make()))
    place = document["predicate"]
    for step in path:
        place = place[step]
    place["unheard"] = "x"
    with pytest.raises(MalformedStatement, match="unheard"):
        case_of(json.dumps(document).encode())


# --- who may say what is expected


def test_row_49_expectations_in_the_repository_that_is_built_are_files_like_any_other():
    listed = [
        {"path": path, "size": 1, "sha256": signing.PLAN}
        for path in (".pipeline/config.yaml", "builders.toml", "components/hello.toml", "policy/components/hello.toml")
    ]
    bundle = CA.run().sign(signing.manifest_statement(outputs=listed))
    manifest = Present(verify_manifest(bundle, ROOTS, received_at=RECEIVED))
    assert decide(good_case(manifest=manifest)).verdict is Verdict.ALLOW
    case = case_of(workflow(github__event_name="pull_request"), workflow_component())
    changed = replace(case, evidence=replace(case.evidence, manifest=manifest))
    assert decide(changed).reasons == decide(case).reasons == ("provenance-inputs",)
    assert decide(changed).rules[3] == decide(case).rules[3]
    # nor can the build follow a document of its own choosing
    other = signing.provenance_statement().replace(b".pipeline/config.yaml", b"components/hello.toml")
    assert verdict(other, component(PIPELINE)) == "provenance-inputs"


async def test_row_51_a_provenance_that_is_gone_from_the_store_counts_as_our_stored_copy():
    house = House()
    artifact = await house.bring()
    house.artifacts.listed.clear()  # no registry has it any more
    assert (await house.step(await house.ping(artifact))).state is State.DEPLOYED


async def test_row_51_without_a_stored_copy_it_is_missing_and_a_changed_copy_is_not_believed():
    for spoil, reason in ((lambda row: None, "provenance-missing"), (lambda row: replace(row, bundle=row.bundle + b" "), "bad-signature")):
        house = House()
        artifact = await house.bring()
        rows = house.database.state.statements
        for key, row in list(rows.items()):
            if row.kind == "provenance":
                rows.pop(key)
                if (other := spoil(row)) is not None:
                    rows[key] = other
        ping = await house.step(await house.ping(artifact))
        assert (ping.state, ping.reasons) == (State.DENIED, (reason,))


def test_row_51_no_provenance_at_all_is_missing():
    for none in (Absent(), Present(())):
        assert decide(good_case(provenance=none)).reasons == ("provenance-missing",)


async def test_row_42_the_tokens_number_is_the_one_that_the_component_names():
    house = House()
    made = frames.make_artifact("1")
    files = dict(house.policy.files)
    files["components/hello.toml"] += b'repository_id = "17"\n'
    house.policy.files = files
    house.policy.load()
    caller = house.run_caller()
    tree = {"repository": REPOSITORY, "commit": caller.commit, "tree": "2" * 40}
    bundle = house.ca.run(commit=caller.commit).sign(signing.manifest_statement(artifact=made.digest, source=tree))
    kinds = frozenset({"manifest"})
    for number in ("", "18"):
        with pytest.raises(CallRefused) as refused:
            await accept_statement(house.parts, replace(caller, project_id=number), bundle, kinds=kinds)
        assert refused.value.code == "provenance-project"
    assert (await accept_statement(house.parts, replace(caller, project_id="17"), bundle, kinds=kinds)).artifact == made.digest


# --- loading


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("refs = []", "/expectations/refs: names nothing"),
        ('refs = ["main"]', "/expectations/refs: must be whole refs"),
        ('refs = ["refs/heads/*"]', "/expectations/refs: must be whole refs"),
        ('refs = ["refs/heads/"]', "/expectations/refs: must be whole refs"),
        ('triggers = ["push", "pull_request"]', "may not name pull_request"),
        ('triggers = ["merge_request_event"]', "may not name merge_request_event"),
        ("triggers = []", "/expectations/triggers: names nothing"),
        ("runners = []", "/expectations/runners: names nothing"),
        ('legacy = ["https://slsa.dev/provenance/v0.1"]', "/expectations/legacy: may name"),
        ("parameters = {}", "/expectations/parameters: names nothing"),
        ("parameters = { x = 1.5 }", "/expectations/parameters: a float is not JSON"),
        ("parameters = { x = 2026-01-01 }", "/expectations/parameters: a date is not JSON"),
        ('dependencies = [{ uri = "x", digest = {} }]', "names nothing: what was not resolved"),
        ('dependencies = [{ uri = "x" }]', "/digest: is missing"),
        ('dependencies = [{ uri = "x", digest = { sha256 = "y" }, any = true }]', "/any: is not a member"),
        ('repository = ""', "must have 1 to"),
        ("repository_id = 17", "/expectations/repository_id: must be a string"),
        ("anything = true", "/expectations/anything: is not a member"),
    ],
)
def test_expectations_that_would_let_anything_pass_do_not_load(line, words):
    files = component(PIPELINE)
    files["components__hello"] += line + "\n"
    with pytest.raises(PolicyError) as refused:
        policy(**files)
    assert refused.value.file == "components/hello.toml"
    assert words in refused.value.detail


def test_what_is_named_is_loaded():
    found = policy(**workflow_component()).components["hello"]
    assert (found.build_type, found.expectations.repository_id, found.expectations.triggers) == (GITHUB_WORKFLOW, "17", {"push"})
    assert found.expectations.parameters == (("workflow/path", '".github/workflows/build.yml"'),)
    assert policy(**component(OLDER_TYPE)).components["hello"].expectations.parameters == ()
    assert policy(**component(PIPELINE)).components["hello"].expectations.parameters == (("config", '".pipeline/config.yaml"'),)
