"""Class 5 of the attack matrix: twelve mutations of every text that says who or whence, each refused by that field's own reason (rows 37, 40, 41, 43, 97).

Where two sides are compared, each side is mutated: what was said, and what was expected.
"""

import json
from dataclasses import replace

import pytest

from gatekeeper.model.caller import CallerKind
from gatekeeper.model.decision import Result
from gatekeeper.model.evidence import Present
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.policy.decide import decide
from gatekeeper.verify.attestation import Artifact, Keyless, verify_attestation
from gatekeeper.verify.checks import Outcome
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.foreignprovenance import ExpectedProvenance
from gatekeeper.verify.platform import NotAdmitted
from gatekeeper.verify.sigstoreroot import parse_sigstore_root
from gatekeeper.verify.submission import verify_submission
from gatekeeper.verify.token import Issuer, Unauthenticated, parse_key_set, verify_token
from gatekeeper.verify.vote import verify_vote
from tests.fakes import cases, platforms, signing
from tests.fakes.identities import MUTATIONS, mutate
from tests.fakes.sigstore_instance import ARTIFACT, IDENTITY, ISSUER, NOW, Instance, statement

each = pytest.mark.parametrize("how", MUTATIONS)
INSTANCE = Instance()
ROOT = parse_sigstore_root(INSTANCE.pinned)
SOURCE, REF = "https://git.example/acme/hello", "refs/heads/main"
PREDICATES = {
    "https://slsa.dev/provenance/v1": lambda builder, source, ref: {
        "buildDefinition": {
            "buildType": "https://build.example/v1",
            "externalParameters": {"workflow": {"repository": source, "ref": ref}},
            "resolvedDependencies": [{"uri": f"git+{source}@{ref}"}],
        },
        "runDetails": {"builder": {"id": builder}},
    },
    "https://slsa.dev/provenance/v0.2": lambda builder, source, ref: {
        "builder": {"id": builder},
        "invocation": {"configSource": {"uri": f"git+{source}@{ref}"}},
        "materials": [{"uri": f"git+{source}@{ref}"}],
    },
}


def test_the_twelve_are_twelve():
    for text in (IDENTITY, ISSUER, SOURCE, REF, "subject-bob", "hello"):
        assert len({mutate(text, how) for how in MUTATIONS} - {text}) == 12


def report(said=IDENTITY, by=ISSUER, *, identity=IDENTITY, issuer=ISSUER, payload=None, demand=None):
    bundle = INSTANCE.bundle(payload, identity=said, issuer=by)
    return verify_attestation(json.dumps(bundle).encode(), Keyless(identity, issuer, ROOT), Artifact({"sha256": ARTIFACT}), at=NOW, demand=demand)


def failed(found) -> tuple[str, str]:
    assert isinstance(found.result, Refusal)
    (check,) = [check for check in found.checks if check.outcome is Outcome.FAILED]
    return check.name.value, found.result.reason


# a keyless certificate


def test_the_true_identity_and_issuer_are_verified():
    assert isinstance(report().result, Verified)


@each
def test_row_37_the_identity_of_a_certificate(how):
    assert failed(report(mutate(IDENTITY, how))) == ("identity", "unknown-builder")
    assert failed(report(identity=mutate(IDENTITY, how))) == ("identity", "unknown-builder")


@each
def test_row_38_the_issuer_that_vouched_for_it(how):
    assert failed(report(by=mutate(ISSUER, how))) == ("issuer", "unknown-builder")
    assert failed(report(issuer=mutate(ISSUER, how))) == ("issuer", "unknown-builder")


# provenance of a foreign builder


def traced(kind, builder=IDENTITY, source=SOURCE, ref=REF, *, expected=(IDENTITY, SOURCE, REF)):
    payload = statement(predicateType=kind, predicate=PREDICATES[kind](builder, source, ref))
    return report(payload=payload, demand=ExpectedProvenance(*expected).demand)


@pytest.mark.parametrize("kind", PREDICATES)
def test_true_provenance_is_verified(kind):
    assert isinstance(traced(kind).result, Verified)


@pytest.mark.parametrize("kind", PREDICATES)
@each
def test_row_40_the_builder_id_of_provenance(how, kind):
    assert failed(traced(kind, mutate(IDENTITY, how))) == ("builder", "unknown-builder")
    assert failed(traced(kind, expected=(mutate(IDENTITY, how), SOURCE, REF))) == ("builder", "unknown-builder")


@pytest.mark.parametrize("kind", PREDICATES)
@each
def test_row_41_the_source_repository_of_provenance(how, kind):
    # With the ref of another, "@refs/heads/main" says a second time what the source is: `source`, or the ref is compared as a part of it.
    assert failed(traced(kind, source=mutate(SOURCE, how))) == ("source", "provenance-project")
    assert failed(traced(kind, expected=(IDENTITY, mutate(SOURCE, how), REF))) == ("source", "provenance-project")


@pytest.mark.parametrize("kind", PREDICATES)
@each
def test_row_43_the_ref_of_provenance(how, kind):
    said = failed(traced(kind, ref=mutate(REF, how)))
    # An "@" of its own inside the ref moves the place where source and ref are told apart: then it is another source, or two.
    assert said == (("ref", "provenance-project") if "@" not in mutate(REF, how) else ("source", said[1]))
    assert said[1] in {"provenance-project", "provenance-inputs"}
    assert failed(traced(kind, expected=(IDENTITY, SOURCE, mutate(REF, how)))) == ("ref", "provenance-project")


# a builder of ours: its certificate and what it signs

CA = signing.FakeCa()


def submitted(payload, **certificate):
    return verify_submission(CA.run(**certificate).sign(payload), [CA.root()], received_at=signing.RECEIVED)


def refused(checked) -> str:
    assert isinstance(checked, Refusal)
    return checked.reason


@each
def test_row_40_the_builder_id_that_a_statement_names(how):
    wrong = mutate(signing.BUILDER_ID, how)
    assert refused(submitted(signing.manifest_statement(builder={"id": wrong}))) == "unknown-builder"
    provenance = signing.provenance_predicate()
    provenance["runDetails"]["builder"]["id"] = wrong
    assert refused(submitted(signing.statement(signing.PROVENANCE_V1, provenance))) == "unknown-builder"


@each
def test_row_40_the_builder_id_in_a_certificate(how):
    wrong = mutate(signing.BUILDER_ID, how)
    if wrong.isascii():  # a URI in a certificate is: what is not stands in no certificate
        assert refused(submitted(signing.manifest_statement(), builder_id=wrong)) == "unknown-builder"
    case = cases.with_item(cases.good_case(), "manifest", cases.with_signer(cases.good_case().evidence.manifest, builder_id=wrong))
    assert reason_of(case, "origin.signature") == "unknown-builder"


@each
def test_the_project_that_a_statement_names(how):
    wrong = mutate(signing.PROJECT, how)
    statement_of_it = signing.manifest_statement(project=wrong)
    if wrong.isascii() and wrong.isalnum() and wrong.islower():
        assert refused(submitted(statement_of_it)) == "provenance-project"
    else:
        with pytest.raises(MalformedStatement, match="/project: is not a name"):
            submitted(statement_of_it)


@each
def test_the_run_that_a_statement_names(how):
    assert refused(submitted(signing.manifest_statement(run=mutate(signing.RUN, how)))) == "provenance-commit"


# the policy: what was verified against what was reviewed


def reason_of(case, rule: str) -> str:
    (found,) = [found for found in decide(case).rules if found.rule == rule]
    assert found.result is Result.FAIL
    return found.reason


@each
def test_row_41_the_source_repository_that_the_policy_names(how):
    good, wrong = cases.good_case(), mutate(signing.REPOSITORY, how)
    lie = cases.with_fact(good.evidence.provenance, repository=wrong)
    assert reason_of(cases.with_item(good, "provenance", lie), "origin.provenance") == "provenance-project"
    source = replace(good.evidence.manifest.value.value.source, repository=wrong)
    lie = cases.with_fact(good.evidence.manifest, source=source)
    assert reason_of(cases.with_item(good, "manifest", lie), "origin.provenance") == "provenance-project"


@each
def test_row_41_the_ref_and_repository_that_a_provenance_resolved(how):
    for kind in ("repository", "ref"):
        predicate = signing.provenance_predicate()
        parameters = predicate["buildDefinition"]["externalParameters"]
        parameters[kind] = mutate(parameters[kind], how)
        assert refused(submitted(signing.statement(signing.PROVENANCE_V1, predicate))) == "provenance-inputs"


@each
def test_the_project_in_a_certificate(how):
    good = cases.good_case()
    stranger = cases.with_signer(good.evidence.manifest, project=mutate(signing.PROJECT, how))
    assert reason_of(cases.with_item(good, "manifest", stranger), "origin.signature") == "provenance-project"


@each
def test_the_component_that_a_manifest_names(how):
    good = cases.good_case()
    other = cases.with_fact(good.evidence.manifest, component=mutate("hello", how))
    assert reason_of(cases.with_item(good, "manifest", other), "origin.signature") == "provenance-project"


# people


@each
def test_a_persons_subject_and_issuer(how):
    policy = cases.policy()
    issuer = policy.people["bob"].issuer
    assert policy.person_of(issuer, "subject-bob").name == "bob"
    assert policy.person_of(issuer, mutate("subject-bob", how)) is None
    assert policy.person_of(mutate(issuer, how), "subject-bob") is None
    assert policy.person_of_account("ci", mutate("bob", how)) is None


@each
def test_a_person_whose_key_is_asked_for(how):
    keys = {name: (key.public,) for name, key in cases.PEOPLE.items()}
    assert refused(verify_vote(cases.PEOPLE["bob"].vote(), keys, person=mutate("bob", how))) == "votes-ineligible"


@each
def test_a_voter_who_is_nearly_an_eligible_one(how):
    good = cases.good_case()
    vote = cases.sealed(replace(good.evidence.votes.value[0].value, voter=mutate("bob", how)))
    assert reason_of(cases.with_item(good, "votes", Present((vote,))), "votes.review") == "votes-ineligible"


# tokens

TOKEN_NOW, AUDIENCE = 1_795_255_260, "pingee:test"
CI = signing.FakeIssuer()
TABLE = [Issuer("ci", CI.url, CallerKind.RUN, frozenset({AUDIENCE}), parse_key_set(CI.jwks(), algorithms=["ES256"]))]


def token(table=TABLE, audience=AUDIENCE, **claims):
    return verify_token(CI.token(signing.run_claims(TOKEN_NOW, **claims)), table, audience=audience, now=TOKEN_NOW)


@each
def test_row_97_the_issuer_of_a_token(how):
    with pytest.raises(Unauthenticated, match="issuer is not trusted"):
        token(iss=mutate(CI.url, how))
    with pytest.raises(Unauthenticated, match="issuer is not trusted"):
        token([replace(TABLE[0], url=mutate(CI.url, how))])


@each
def test_row_97_the_audience_of_a_token(how):
    for wrong in (mutate(AUDIENCE, how), [mutate(AUDIENCE, how)], [AUDIENCE, mutate(AUDIENCE, how)]):
        with pytest.raises(Unauthenticated, match="not meant for this audience alone"):
            token(aud=wrong)
    with pytest.raises(Unauthenticated, match="not meant for this audience alone"):
        token(audience=mutate(AUDIENCE, how))
    with pytest.raises(Unauthenticated, match="issued to another party"):
        token(azp=mutate(AUDIENCE, how))


@each
def test_row_97_the_subject_of_a_token_is_the_callers_as_it_stands(how):
    assert token(sub=mutate("run:1/a-person", how)).subject == mutate("run:1/a-person", how)


@pytest.mark.parametrize("kind", ["kubernetes", "zuul", "spiffe"])
@each
def test_row_97_the_subject_of_a_platforms_token_is_looked_up_as_it_stands(how, kind):
    good = platforms.recorded(kind)["claims"]["sub"]
    secret = "/" + good.rpartition("/")[2] if kind == "zuul" else ""  # the name of a project's secret says nothing of the project
    wrong = mutate(good.removesuffix(secret), how) + secret
    with pytest.raises((Unauthenticated, NotAdmitted), match=r"/sub|no project|trust domain|issuer is not trusted|/iss"):
        platforms.verify(platforms.changed(kind, lambda claims: claims.update(sub=wrong)), platforms.own_issuer(kind))


@pytest.mark.parametrize(("kind", "claim"), [("gitlab", "ci_config_ref_uri"), ("github", "job_workflow_ref"), ("gitlab", "project_id"), ("github", "repository_id")])
@each
def test_row_42_the_definition_and_the_project_of_a_platforms_run(how, kind, claim):
    good = platforms.recorded(kind)["claims"][claim]
    wrong = mutate(good, how) if not good.isdecimal() else {"prefix": good[:-1] or "1", "substring": good[1:] or "1"}.get(how, good + mutate("a", how)[-1:])
    if wrong == good:
        wrong = good + "0"
    with pytest.raises((Unauthenticated, NotAdmitted), match=f"/{claim}|no project|no builder"):
        platforms.verify(platforms.changed(kind, lambda claims: claims.update({claim: wrong})), platforms.own_issuer(kind))


