"""The intake and the decision for a builder of each kind of signer: what a run brings in is deployed, what is not its own is neither logged nor stored."""

import json
from dataclasses import replace

import pytest

from gatekeeper.deploy import intake
from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.candidate import candidate_of
from gatekeeper.deploy.facts import Facts
from gatekeeper.deploy.gather import gather
from gatekeeper.deploy.intake import accept_blob, accept_statement
from gatekeeper.deploy.query import build_log, provenance
from gatekeeper.model.decision import Result
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later
from gatekeeper.model.ping import State
from gatekeeper.policy.case import Case
from gatekeeper.policy.rules.origin import provenance as traces
from gatekeeper.policy.rules.origin import signature
from gatekeeper.tlog.entry import Intake
from tests.fakes import frames, signing
from tests.fakes.foreign_builds import workflow_component, workflow_statement
from tests.fakes.foreign_signers import SPIFFE_ID, FakeAuthority, FakeKey, FakeWorkload
from tests.fakes.house import NEW_COMMIT, OLD_COMMIT, House, _verify_inline, anyio_backend, anyone  # noqa: F401
from tests.fakes.sigstore_instance import IDENTITY, ISSUER, Instance

pytestmark = pytest.mark.anyio

ALL = frozenset({"manifest", "provenance", "test-result"})
MADE = frames.make_artifact("1")
TREE = digest_of(OLD_COMMIT.encode())[7:47]
SIGSTORE, DOMAIN, KEY = Instance(), FakeAuthority("spire.demo"), FakeKey()
SIGN = {"spiffe": FakeWorkload(DOMAIN).sign, "sigstore": SIGSTORE.sign, "key": KEY.sign}
FILES = {"spiffe": {"s.json": DOMAIN.spiffe_bundle()}, "sigstore": {"s.json": SIGSTORE.pinned}, "key": {"s.pem": KEY.pem}}
NAMES = {"spiffe": f'identity = "{SPIFFE_ID}"\n', "sigstore": f'identity = "{IDENTITY}"\nissuer_url = "{ISSUER}"\n', "key": ""}
STANDING = tuple(SIGN)
SECOND_PROJECT = f'repository = "{signing.REPOSITORY}-2"\ndefault_branch = "main"\napproved = []\nreview = "attestations"\n'


def house_of(kind, *, projects='"hello"'):
    house = House()
    files = house.policy.files
    entry = f'[builders."{signing.BUILDER_ID}"]\nissuer = "ci"\nsigner = "{kind}:s"\n{NAMES[kind]}projects = [{projects}]\n'
    files |= FILES[kind] | {"builders.toml": entry.encode(), "projects/second.toml": SECOND_PROJECT.encode()}
    house.policy.load()
    house.review.add(OLD_COMMIT, TREE)
    return house


def manifest(sign, *, commit=OLD_COMMIT, repository=signing.REPOSITORY, names=None, **changes):
    source = {"repository": repository, "commit": commit, "tree": TREE}
    return sign(signing.manifest_statement(artifact=MADE.digest, source=source, **changes), **(names or {}))


def result(sign, **names):
    return sign(signing.result_statement(artifact=MADE.digest), **names)


def traced(sign, **changes):
    return sign(signing.provenance_statement(**{"artifact": MADE.digest, "commit": OLD_COMMIT, "tree": TREE} | changes))


async def chunks(data):
    yield data


async def refused(house, code, words, bundle, *, caller=None):
    before = len(house.log.tree.entries), len(house.database.state.statements)
    with pytest.raises(CallRefused) as caught:
        await accept_statement(house.parts, caller or house.run_caller(), bundle, kinds=ALL)
    assert caught.value.code == code, caught.value
    assert words in str(caught.value)
    assert (len(house.log.tree.entries), len(house.database.state.statements)) == before


@pytest.mark.parametrize("kind", STANDING)
async def test_what_each_kind_of_signer_signed_is_taken_in_and_deployed(kind):
    house, sign = house_of(kind), SIGN[kind]
    bundles = [manifest(sign), traced(sign), result(sign)]
    for bundle in bundles:
        await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    for blob in (MADE.manifest, MADE.config, MADE.layer, b"log"):
        await accept_blob(house.parts, house.run_caller(), MADE.digest, digest_of(blob), chunks(blob), max_bytes=10**6)
    assert [entry.manifest for _, entry in house.log.entries(Intake)] == [digest_of(bundle) for bundle in bundles]
    shown = await provenance(house.parts, MADE.digest, anyone())
    assert [statement["status"] for statement in shown["statements"]] == ["verified"] * 3
    assert await build_log(house.parts, MADE.digest, anyone()) == b"log"
    await house.vote()
    house.clock.ahead(86400)  # certificates are long expired: the intake entry's time counts
    ended = await house.to_the_end(await house.ping(MADE.digest))
    assert ended.state is State.DEPLOYED, (ended.reasons, ended.rules)


@pytest.mark.parametrize("kind", STANDING)
async def test_a_signer_that_the_policy_has_since_replaced_counts_no_more(kind):
    house, sign = house_of(kind), SIGN[kind]
    for bundle in (manifest(sign), traced(sign), result(sign)):
        await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    for blob in (MADE.manifest, MADE.config, MADE.layer):
        await accept_blob(house.parts, house.run_caller(), MADE.digest, digest_of(blob), chunks(blob), max_bytes=10**6)
    await house.vote()
    house.policy.files["builders.toml"] = f'[builders."{signing.BUILDER_ID}"]\nissuer = "ci"\nsigner = "x509:builder-ca"\nprojects = ["hello"]\n'.encode()
    house.policy.load()
    ended = await house.to_the_end(await house.ping(MADE.digest))
    assert ended.state is not State.DEPLOYED
    assert set(ended.reasons) == {"unknown-builder"}


@pytest.mark.parametrize("kind", STANDING)
async def test_a_revoked_run_of_a_standing_signer_brings_nothing_in_and_its_statements_count_no_more(kind):
    house, sign = house_of(kind), SIGN[kind]
    for bundle in (manifest(sign), traced(sign)):
        await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    run = f"urn:pingee:run:{signing.PROJECT}:{OLD_COMMIT}:{signing.RUN}"
    house.policy.files["revocations.toml"] = f'[[revoked]]\nrun = "{run}"\nreason = "broken into"\n'.encode()
    house.policy.load()
    await refused(house, "builder-revoked", "broken into", result(sign))  # it names no run itself: the token does
    candidate = candidate_of(await house.ping(MADE.digest), house.policy.current())
    found = await gather(house.parts, candidate, house.policy.current(), anyone())
    assert found.manifest.value.reason == "builder-revoked"
    assert [checked.reason for checked in found.provenance.value] == ["builder-revoked"]
    shown = await provenance(house.parts, MADE.digest, anyone())
    assert [statement["status"] for statement in shown["statements"]] == ["refused: builder-revoked"] * 2
    await accept_statement(house.parts, house.run_caller(run="run-2"), result(sign), kinds=ALL)


@pytest.mark.parametrize("kind", STANDING)
async def test_the_statement_must_say_what_the_token_says(kind):
    house, sign = house_of(kind), SIGN[kind]
    await refused(house, "provenance-commit", "different commits", manifest(sign, commit=NEW_COMMIT))
    await refused(house, "provenance-commit", "different commits", manifest(sign, run="run-2"))
    await refused(house, "provenance-project", "different projects", manifest(sign, project="second"))
    await refused(house, "provenance-project", "another repository", manifest(sign, repository=signing.REPOSITORY + "-2"))
    await refused(house, "unknown-builder", "another builder", manifest(sign, builder={"id": "https://ci.demo/other"}))
    await accept_statement(house.parts, house.run_caller(), manifest(sign), kinds=ALL)
    await refused(house, "provenance-commit", "different commits", traced(sign, commit=NEW_COMMIT))
    await refused(house, "provenance-project", "another repository", traced(sign, repository=signing.REPOSITORY + "-2"))


@pytest.mark.parametrize("kind", STANDING)
async def test_a_result_comes_from_a_run_of_the_artifacts_own_project_and_commit(kind):
    house, sign = house_of(kind, projects='"hello", "second"'), SIGN[kind]
    await refused(house, "unknown-manifest", "no such", result(sign))
    await accept_statement(house.parts, house.run_caller(), manifest(sign), kinds=ALL)
    await refused(house, "provenance-project", "another project's", result(sign), caller=house.run_caller(project="second"))
    await refused(house, "provenance-commit", "another commit", result(sign), caller=house.run_caller(commit=NEW_COMMIT))
    await accept_statement(house.parts, house.run_caller(run="run-2"), result(sign), kinds=ALL)


@pytest.mark.parametrize("kind", STANDING)
async def test_a_builder_outside_its_projects_is_refused(kind):
    house = house_of(kind, projects="")
    await refused(house, "unknown-builder", "for this project", manifest(SIGN[kind]))


@pytest.mark.parametrize("kind", STANDING)
async def test_the_tokens_builder_alone_says_who_must_have_signed(kind):
    house = house_of(kind)
    own = '[builders."https://ci.demo/own"]\nissuer = "ci"\nsigner = "x509:builder-ca"\nprojects = ["hello"]\n'
    house.policy.files["builders.toml"] += own.encode()
    house.policy.load()
    bundle = manifest(SIGN[kind])
    await refused(house, "unknown-builder", "", bundle, caller=house.run_caller(builder="https://ci.demo/own"))
    await refused(house, "unknown-builder", "", bundle, caller=house.run_caller(builder="https://ci.demo/none"))
    await refused(house, "unknown-builder", "", manifest(house.ca.run(commit=OLD_COMMIT).sign))
    for other in STANDING:
        if other != kind:
            await refused(house, "unknown-builder", "", manifest(SIGN[other]))


async def test_an_svid_and_a_keyless_signature_are_judged_by_the_intakes_time():
    house = house_of("spiffe")
    house.clock.ahead(3600)
    await refused(house, "certificate-expired", "validity", manifest(SIGN["spiffe"]))
    house = house_of("sigstore")
    await refused(house, "certificate-expired", "in the future", manifest(SIGN["sigstore"], names={"at": later(signing.ISSUED, seconds=300)}))


async def test_a_keyless_certificates_source_is_the_tokens():
    house = house_of("sigstore")
    source = {"repository": signing.REPOSITORY, "commit": OLD_COMMIT, "invocation": signing.RUN}
    await accept_statement(house.parts, house.run_caller(), manifest(SIGSTORE.sign, names={"source": source}), kinds=ALL)
    for change, code in (
        ({"repository": signing.REPOSITORY + "-2"}, "provenance-project"),
        ({"commit": NEW_COMMIT}, "provenance-commit"),
        ({"invocation": "run-2"}, "provenance-commit"),
    ):
        await refused(house, code, "", result(SIGSTORE.sign, source=source | change))
    await accept_statement(house.parts, house.run_caller(), result(SIGSTORE.sign, source=source), kinds=ALL)


async def test_naming_blobs_keeps_the_event_loop_free(monkeypatch):
    house, sign, where = house_of(STANDING[0]), SIGN[STANDING[0]], []
    for bundle in (manifest(sign), traced(sign)):
        await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    in_thread, believe = Facts.in_thread, intake.believe

    async def noted(facts, function):
        where.append("thread")
        return await in_thread(facts, function)

    monkeypatch.setattr(Facts, "in_thread", noted)
    monkeypatch.setattr(intake, "believe", lambda *args: (where.append("verify"), believe(*args))[1])
    await accept_blob(house.parts, house.run_caller(), MADE.digest, digest_of(b"log"), chunks(b"log"), max_bytes=10**6)
    assert where == ["thread", "verify"], "a provenance takes milliseconds, and an artifact may have two hundred"


async def test_the_provenance_that_github_itself_writes_is_bound_to_its_run_by_its_invocation():
    house, repository = house_of("sigstore"), signing.REPOSITORY
    house.policy.files["components/hello.toml"] = workflow_component()["components__hello"].replace('test = ["host-0"]\n', "").encode()
    house.policy.load()
    caller = house.run_caller(run="17-2")
    source = {"repository": repository, "commit": OLD_COMMIT, "invocation": f"{repository}/actions/runs/17/attempts/2"}
    await accept_statement(house.parts, replace(caller, project_id="17"), manifest(SIGSTORE.sign, run="17-2", names={"source": source}), kinds=ALL)

    def workflow(invocation):
        statement = workflow_statement()
        statement["subject"][0]["digest"]["sha256"] = MADE.digest[7:]
        statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"] = OLD_COMMIT
        statement["predicate"]["runDetails"]["metadata"]["invocationId"] = invocation
        return SIGSTORE.sign(json.dumps(statement).encode(), source=source)

    for other in (f"{repository}/actions/runs/17/attempts/1", f"{repository}-2/actions/runs/17/attempts/2", f"{repository}/actions/runs/17"):
        await refused(house, "provenance-commit", "another run", workflow(other), caller=replace(caller, project_id="17"))
    taken = await accept_statement(house.parts, replace(caller, project_id="17"), workflow(source["invocation"]), kinds=ALL)
    assert (taken.artifact, taken.kind) == (MADE.digest, "provenance")


@pytest.mark.parametrize("kind", STANDING)
async def test_a_repository_that_the_builder_spells_otherwise_is_the_one_that_the_component_expects(kind):
    house, sign, spelt = house_of(kind), SIGN[kind], "https://platform.example/group/hello"
    house.policy.files["components/hello.toml"] += f'repository = "{spelt}"\n'.encode()
    house.policy.load()
    await refused(house, "provenance-project", "another repository", manifest(sign))
    for bundle in (manifest(sign, repository=spelt), traced(sign, repository=spelt), result(sign)):
        await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    candidate = candidate_of(await house.ping(MADE.digest), house.policy.current())
    found = await gather(house.parts, candidate, house.policy.current(), anyone())
    case = Case(candidate, found, house.policy.current(), house.parts.now())
    assert [rule(case).result for rule in (signature, traces)] == [Result.PASS] * 2
    house.policy.files["components/hello.toml"] = house.policy.files["components/hello.toml"].replace(b"group/hello", b"group/other")
    house.policy.load()
    rows = [rule(replace(case, policy=house.policy.current())) for rule in (signature, traces)]
    assert [(row.reason, row.expected) for row in rows] == [("provenance-project", "a signature for repository https://platform.example/group/other")] * 2
