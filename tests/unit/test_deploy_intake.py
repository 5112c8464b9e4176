"""The intake: what is not signed by the caller's own run, under a trusted builder, is neither logged nor stored."""

from dataclasses import replace

import pytest

from gatekeeper.deploy import intake
from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.intake import accept_blob, accept_statement, issue_certificate
from gatekeeper.deploy.signers import signer_of
from gatekeeper.model.digest import digest_of
from gatekeeper.model.verified import Verified
from gatekeeper.tlog.entry import Intake
from gatekeeper.verify.manifest import verify_manifest
from gatekeeper.verify.token import LEEWAY
from tests.fakes import frames, signing
from tests.fakes.house import NEW_COMMIT, OLD_COMMIT, POLICY_COMMIT, House, _verify_inline, anyio_backend  # noqa: F401
from tests.fakes.platforms import BUILDERS, SHA, changed, own_issuer, verify
from tests.fakes.vault_requests import csr

pytestmark = pytest.mark.anyio

ALL = frozenset({"manifest", "provenance", "test-result"})
MADE = frames.make_artifact("1")


@pytest.fixture
def house():
    return House()


def manifest(house, signer=None, *, commit=OLD_COMMIT, **changes):
    source = {"repository": signing.REPOSITORY, "commit": commit, "tree": "2" * 40}
    return (signer or house.ca.run(commit=commit)).sign(signing.manifest_statement(artifact=MADE.digest, source=source, **changes))


async def chunks(data):
    yield data


async def refused(house, code, call):
    before = len(house.log.tree.entries)
    with pytest.raises(CallRefused) as caught:
        await call
    assert caught.value.code == code, caught.value
    assert len(house.log.tree.entries) == before


async def test_a_statement_is_logged_once_and_its_blobs_come_in_rounds(house):
    bundle = manifest(house)
    first = await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    assert [m.digest for m in first.missing] == [MADE.digest]
    for blob in (MADE.manifest, MADE.config, MADE.layer):
        await accept_blob(house.parts, house.run_caller(), MADE.digest, digest_of(blob), chunks(blob), max_bytes=10**6)
        last = await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
        assert last.log_index == first.log_index
    assert last.missing == ()
    assert [digest for digest, *_ in house.artifacts.listed] == [MADE.digest]
    ((_, entry),) = house.log.entries(Intake)
    (row,) = house.database.state.statements.values()
    assert (entry.manifest, entry.at) == (digest_of(bundle), row.received_at)
    assert house.database.state.artifacts[MADE.digest].uploader == "ci|alice"


async def test_the_log_names_the_moment_and_the_policy_that_a_statement_was_verified_under(house, monkeypatch):
    bundle, verified = manifest(house), intake.verify_submission
    at = house.parts.now()

    def slowly(*args, **names):
        checked = verified(*args, **names)
        house.clock.ahead(3600)
        house.policy.commit = "8" * 40
        house.policy.load()
        return checked

    monkeypatch.setattr(intake, "verify_submission", slowly)
    await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    ((_, entry),) = house.log.entries(Intake)
    assert (entry.at, entry.config) == (at, POLICY_COMMIT)
    (row,) = house.database.state.statements.values()
    again = verify_manifest(row.bundle, signer_of(house.policy.current(), signing.BUILDER_ID), received_at=row.received_at)
    assert isinstance(again, Verified), again  # its certificate, of ten minutes, ended while it was verified


@pytest.mark.parametrize("say", [signing.result_statement, signing.provenance_statement, signing.manifest_statement])
async def test_a_run_of_another_project_or_commit_says_nothing_about_an_artifact(house, say):
    house.policy.files["builders.toml"] = house.policy.files["builders.toml"].replace(b'"hello"', b'"hello", "second"')
    house.policy.files["projects/second.toml"] = house.policy.files["projects/hello.toml"]
    house.policy.load()
    await accept_statement(house.parts, house.run_caller(), manifest(house), kinds=ALL)
    for names, code in (({"project": "second"}, "provenance-project"), ({"commit": NEW_COMMIT}, "provenance-commit")):
        run = {"project": signing.PROJECT, "commit": OLD_COMMIT} | names
        if say is signing.manifest_statement:
            source = {"repository": signing.REPOSITORY, "commit": run["commit"], "tree": "2" * 40}
            bundle = house.ca.run(**run).sign(say(artifact=MADE.digest, project=run["project"], source=source))
        else:
            bundle = house.ca.run(**run).sign(say(artifact=MADE.digest, **({"commit": run["commit"]} if say is signing.provenance_statement else {})))
        await refused(house, code, accept_statement(house.parts, house.run_caller(**run), bundle, kinds=ALL))
    assert len(house.database.state.statements) == 1


async def test_a_blob_that_no_statement_names_is_not_stored(house):
    await accept_statement(house.parts, house.run_caller(), manifest(house), kinds=ALL)
    for caller, blob, code in (
        (house.run_caller(), b"junk", "not-found"),
        (house.run_caller(commit=NEW_COMMIT), MADE.manifest, "unknown-manifest"),
        (house.run_caller(project="other"), MADE.manifest, "unknown-manifest"),
        (house.person(), MADE.manifest, "not-authorised"),
    ):
        await refused(house, code, accept_blob(house.parts, caller, MADE.digest, digest_of(blob), chunks(blob), max_bytes=10**6))
    assert house.artifacts.blobs == {}


async def test_what_does_not_agree_with_the_callers_token_is_refused(house):
    for caller, bundle, code in (
        (house.person(), manifest(house), "not-authorised"),
        (house.run_caller(commit=NEW_COMMIT), manifest(house), "provenance-commit"),
        (house.run_caller(run="run-2"), manifest(house), "provenance-commit"),
        (house.run_caller(builder="https://ci.demo/other"), manifest(house), "unknown-builder"),
        (house.run_caller(project="other"), manifest(house), "provenance-project"),
        (house.run_caller(), manifest(house, signing.FakeCa().run()), "bad-signature"),
    ):
        with pytest.raises(CallRefused) as caught:
            await accept_statement(house.parts, caller, bundle, kinds=ALL)
        assert caught.value.code == code or (code == "bad-signature" and caught.value.code in {"unknown-builder", "bad-signature"})
    assert house.log.tree.entries == []
    assert house.database.state.statements == {}


async def test_an_unknown_builder_and_a_result_without_manifest_are_refused(house):
    result = house.ca.run().sign(signing.result_statement(artifact=MADE.digest))
    await refused(house, "unknown-manifest", accept_statement(house.parts, house.run_caller(), result, kinds=ALL))
    house.policy.files["builders.toml"] = house.policy.files["builders.toml"].replace(b'projects = ["hello"]', b"projects = []")
    house.policy.load()
    await refused(house, "unknown-builder", accept_statement(house.parts, house.run_caller(), manifest(house), kinds=ALL))
    certificate = issue_certificate(house.parts, house.run_caller(), "token", b"csr")
    await refused(house, "unknown-builder", certificate)


async def test_a_token_gives_one_certificate_even_where_the_relay_failed(house):
    house.relay.down = True
    with pytest.raises(Exception, match="vault-down"):
        await issue_certificate(house.parts, house.run_caller(), "token", b"csr")
    await refused(house, "unauthenticated", issue_certificate(house.parts, house.run_caller(), "token", b"csr"))


async def test_an_issuer_that_left_the_policy_since_the_token_was_read_gets_no_certificate(house):
    await refused(house, "unauthenticated", issue_certificate(house.parts, replace(house.run_caller(), issuer="gone"), "token", csr()))
    assert house.database.state.tokens == {}


async def test_two_spellings_of_one_token_id_are_one_token(house):
    house.relay.runs["token"] = (signing.BUILDER_ID, f"urn:pingee:run:{signing.PROJECT}:{OLD_COMMIT}:{signing.RUN}")
    await issue_certificate(house.parts, house.run_caller(jti="jti-Ab"), "token", csr())
    for jti in ("jti-Ab", "JTI-aB"):
        await refused(house, "unauthenticated", issue_certificate(house.parts, house.run_caller(jti=jti), "token", csr()))


async def test_a_spent_token_is_remembered_for_as_long_as_it_is_taken(house):
    house.relay.runs["token"] = (signing.BUILDER_ID, f"urn:pingee:run:{signing.PROJECT}:{OLD_COMMIT}:{signing.RUN}")
    caller = house.run_caller()
    await issue_certificate(house.parts, caller, "token", csr())
    house.clock.ahead((caller.expires - house.clock()).total_seconds() + LEEWAY - 1)  # expired, and within the leeway of its check
    await refused(house, "unauthenticated", issue_certificate(house.parts, caller, "token", csr()))


@pytest.mark.parametrize("change", [{"run": "*"}, {"run": ""}, {"run": "a:b"}, {"actor": ""}, {"actor": "a|b"}, {"actor": "a\nb"}])
async def test_names_that_have_no_place_in_a_certificate_are_refused(house, change):
    await refused(house, "unauthenticated", issue_certificate(house.parts, house.run_caller(**change), "token", b"csr"))
    assert house.database.state.tokens == {}


GITLAB = """[issuers.gitlab]
kind = "gitlab"
url = "https://gitlab.example.com"
jwks_url = "https://gitlab.example.com/oauth/discovery/keys"
algorithms = ["RS256"]
triggers = ["push"]
[issuers.gitlab.projects]
"20" = "hello"
[issuers.gitlab.builders]
"gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main" = "https://builders.example/gitlab"
"""


def with_gitlab(house):
    house.policy.files["issuers.toml"] += GITLAB.encode()
    house.policy.files["builders.toml"] += (
        b'[builders."https://builders.example/gitlab"]\nsigner = "x509:builder-ca"\nissuer = "gitlab"\nprojects = ["hello"]\n'
    )
    house.policy.load()
    return verify(changed("gitlab"), own_issuer("gitlab"))


async def test_a_gitlab_runs_statements_are_bound_to_its_project_commit_and_job(house):
    caller = with_gitlab(house)
    own = {"project": "hello", "commit": SHA, "run": "302", "builder_id": BUILDERS["gitlab"]}

    def bundle(**changed_names):
        names = own | changed_names
        return manifest(house, house.ca.run(**names), commit=names["commit"], builder={"id": names["builder_id"]}, run=names["run"], project=names["project"])

    for names, code in (
        ({"commit": OLD_COMMIT}, "provenance-commit"),
        ({"run": "303"}, "provenance-commit"),
        ({"builder_id": signing.BUILDER_ID}, "provenance-commit"),
        ({"project": "other"}, "provenance-project"),
    ):
        await refused(house, code, accept_statement(house.parts, caller, bundle(**names), kinds=ALL))
    assert (await accept_statement(house.parts, caller, bundle(), kinds=ALL)).artifact == MADE.digest


async def test_a_platforms_run_is_relayed_to_its_own_login(house):
    asked = []

    class Relay:
        async def issue(self, **names):
            asked.append((names["builder_id"], names["run_urn"], names["platform"]))
            return (b"pem",)

    parts = replace(house.parts, relay=Relay())
    await issue_certificate(parts, with_gitlab(house), "token", csr())
    await issue_certificate(parts, house.run_caller(), "token", csr())
    assert asked == [
        (BUILDERS["gitlab"], f"urn:pingee:run:hello:{SHA}:302", "gitlab"),
        (signing.BUILDER_ID, f"urn:pingee:run:hello:{OLD_COMMIT}:run-1", ""),
    ]


@pytest.mark.parametrize("kind", ["kubernetes", "zuul", "spiffe"])
async def test_a_token_without_a_commit_brings_nothing_in(house, kind):
    caller = verify(changed(kind), own_issuer(kind))
    await refused(house, "not-authorised", issue_certificate(house.parts, caller, "token", csr()))
    await refused(house, "not-authorised", accept_statement(house.parts, replace(caller, run="run-1", builder_id=signing.BUILDER_ID), manifest(house), kinds=ALL))
    await accept_statement(house.parts, house.run_caller(), manifest(house), kinds=ALL)
    await refused(house, "unknown-manifest", accept_blob(house.parts, caller, MADE.digest, MADE.digest, chunks(MADE.manifest), max_bytes=10**6))


async def test_a_commit_that_was_looked_up_makes_no_certificate(house):
    caller = with_gitlab(house)
    house.policy.files["issuers.toml"] = house.policy.files["issuers.toml"].replace(b'"gitlab"\nurl', b'"zuul"\nurl')
    house.policy.load()
    await refused(house, "not-authorised", issue_certificate(house.parts, caller, "token", csr()))
    assert house.database.state.tokens == {}
