"""A good case for `decide`, from real files and real signatures, and ways to spoil one thing of it at a time.

The policy is parsed from TOML, every statement is signed and verified as in the gatekeeper. `sealed` makes a verified value without a
signature, for what an honest signer would never sign; only tests may do that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from gatekeeper.model.decision import Candidate, Mode, Purpose
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Evidence, Present
from gatekeeper.model.facts import Received, Revision, Running, Source, StoredArtifact, Vote
from gatekeeper.model.label import PUBLIC
from gatekeeper.model.moment import Moment, later
from gatekeeper.model.seal import seal
from gatekeeper.model.uris import PIPELINE
from gatekeeper.model.verified import Checked, Verified
from gatekeeper.policy.case import Case, Gathered
from gatekeeper.policy.document import Policy
from gatekeeper.policy.load import parse_configuration, parse_policy
from gatekeeper.verify.builder import parse_builder_root
from gatekeeper.verify.manifest import verify_manifest
from gatekeeper.verify.provenance import verify_provenance
from gatekeeper.verify.testresult import verify_test_result
from gatekeeper.verify.vote import verify_vote
from tests.fakes import signing
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, PROJECT, RECEIVED, REPOSITORY, TREE, FakeCa, FakeReviewer, b64url

T = TypeVar("T")

AT = later(RECEIVED, seconds=60)
POLICY_COMMIT = "c" * 40
CHANGE = "I" + COMMIT
OTHER_BUILDER = "https://other.demo/builder"
STAGES = ("commit", "acceptance")
CA, OTHER_CA = FakeCa(), FakeCa(name="other-ca", subject="Another builder CA")
PEOPLE = {name: FakeReviewer() for name in ("alice", "bob", "carol", "dave")}


def key_line(reviewer: FakeReviewer) -> str:
    """A public key as people.toml has it."""
    text = b64url(reviewer.public).replace("-", "+").replace("_", "/")
    return "ed25519 " + text + "=" * (-len(text) % 4)


def person(name: str, *, groups: str = '"reviewers"', accounts: str | None = None) -> str:
    """One entry of people.toml."""
    account = f'accounts = {{ ci = "{name}" }}' if accounts is None else accounts
    return f"""
[people.{name}]
issuer = "people"
subject = "subject-{name}"
emails = ["{name}@demo.example"]
keys = ["{key_line(PEOPLE[name])}"]
groups = [{groups}]
{account}
"""


def policy_files(**changes: str) -> dict[str, bytes]:
    """Files of a policy that loads. A change names a file with `__` for `/` and no suffix: `environments__production="..."`."""
    texts = {
        "policy": 'instance = "production"\nanonymous = "public"\n',
        "people": person("alice") + person("bob") + person("carol") + person("dave", groups='"developers"'),
        "roles": '[[role]]\nrole = "D"\ngroup = "developers"\nscope = "*/*"\n[[role]]\nrole = "O"\ngroup = "operators"\nscope = "production/hello"\n',
        "issuers": (
            '[issuers.ci]\nurl = "https://ci.demo"\nkind = "run"\njwks = "ci.jwks.json"\nalgorithms = ["ES256"]\n'
            '[issuers.people]\nurl = "https://vault.demo"\nkind = "person"\njwks = "people.jwks.json"\nalgorithms = ["ES256"]\n'
        ),
        "builders": (
            f'[builders."{BUILDER_ID}"]\nsigner = "x509:builder-ca"\nissuer = "ci"\nprojects = ["{PROJECT}"]\n'
            f'[builders."{OTHER_BUILDER}"]\nsigner = "x509:other-ca"\nissuer = "ci"\nprojects = ["{PROJECT}"]\n'
        ),
        "projects__hello": f'repository = "{REPOSITORY}"\ndefault_branch = "main"\nreview = "attestations"\napproved = ["test", "production"]\n',
        "components__hello": (
            'project = "hello"\nmode = "enforce"\n[targets]\nproduction = ["host-1"]\ntest = ["host-0"]\n'
            f'[expectations]\nbuilder = "{BUILDER_ID}"\nbuild_type = "{PIPELINE}"\n'
        ),
        "environments__test": 'class = "test"\nstages = []\nmerge = "none"\n',
        "environments__production": production_text(),
    } | changes
    files = {name.replace("__", "/") + ".toml": text.encode() for name, text in texts.items()}
    keys = {"ci.jwks.json": b'{"keys":[]}', "people.jwks.json": b'{"keys":[] }', "builder-ca.pem": CA.pem(), "other-ca.pem": OTHER_CA.pem()}
    return files | keys


def production_text(*, count: int = 1, extra: str = "") -> str:
    """environments/production.toml."""
    return (
        f'class = "production"\nstages = ["commit", "acceptance"]\nmerge = "none"\n{extra}\n'
        f'[votes]\nlabel = "Code-Review"\nvalue = 2\ncount = {count}\ngroups = ["reviewers"]\nveto = -2\n'
    )


def policy(**changes: str) -> Policy:
    """The parsed policy; see `policy_files`."""
    return parse_policy(policy_files(**changes), commit=POLICY_COMMIT)


def candidate(**changes: Any) -> Candidate:
    """What is asked: the artifact to production."""
    return replace(
        Candidate(
            instance="production",
            environment="production",
            component="hello",
            project=PROJECT,
            purpose=Purpose.DEPLOY,
            mode=Mode.ENFORCE,
            artifact=ARTIFACT,
            config=POLICY_COMMIT,
            targets=("host-1",),
            requester="ci|project:hello:run:run-1",
            bound_commit=COMMIT,
        ),
        **changes,
    )


def sealed(value: T) -> Verified[T]:
    """A verified value that nobody signed."""
    return seal(value, digest_of(repr(value).encode()))


def vote(voter: str, **changes: Any) -> Checked[Vote]:
    """A vote of +2 by this person's own key, with members replaced."""
    members = {"change": CHANGE, **changes}
    return verify_vote(PEOPLE[voter].vote(**members), {name: (key.public,) for name, key in PEOPLE.items()}, person=voter)


def revision(**changes: Any) -> Revision:
    """What git says about the commit: dave wrote and committed it."""
    return replace(Revision(PROJECT, CHANGE, COMMIT, TREE, "dave@demo.example", "dave@demo.example", signing.ISSUED), **changes)


@cache
def _signed() -> Gathered:
    roots = (parse_builder_root(BUILDER_ID, CA.pem()), parse_builder_root(OTHER_BUILDER, OTHER_CA.pem()))
    run = CA.run()
    digest = digest_of(b"a bundle")
    when: dict[str, Moment] = {"received_at": RECEIVED}
    return Gathered(
        manifest=Present(verify_manifest(run.sign(signing.manifest_statement()), roots, **when), (digest,)),
        received=Present(Received(at=RECEIVED, index=1), (digest,)),
        provenance=Present((verify_provenance(run.sign(signing.provenance_statement()), roots, artifact=ARTIFACT, **when),), (digest,)),
        results={
            stage: Present((verify_test_result(run.sign(signing.result_statement(stage)), roots, artifact=ARTIFACT, **when),), (digest,))
            for stage in STAGES
        },
        stored=Present(StoredArtifact(ARTIFACT, "hello", Source(REPOSITORY, COMMIT, TREE), 3), (ARTIFACT,)),
        revision=Present(revision(), (digest_of(b"revision"),)),
        votes=Present((vote("bob"),), (digest_of(b"vote"),)),
        uploader=Present("ci|dave"),
        label=Present(PUBLIC),
        running=Present(Running(digest_of(b"before"), POLICY_COMMIT, "3" * 40, "ping-0", digest_of(b"receipt"), signing.ISSUED)),
        older=Present(value=False),
        configuration=Present(
            parse_configuration(b'[values]\nGREETING = "hello"\n', commit=POLICY_COMMIT, file="config/production/hello.toml"),
            (digest_of(b"configuration"),),
        ),
        deployed_before=Absent(),
        adopted=Absent(),
    )


def good_case(*, files: Mapping[str, str] | None = None, asked: Mapping[str, Any] | None = None, **evidence: Any) -> Case:
    """A case that is allowed. `files` changes policy files, `asked` the candidate, anything else one item of the evidence."""
    return Case(candidate=candidate(**(asked or {})), evidence=replace(_signed(), **evidence), policy=policy(**(files or {})), at=AT)


def rollback_case(**evidence: Any) -> Case:
    """A rollback that is allowed: nobody voted anew, the artifact is older and was deployed before."""
    found = {"older": Present(value=True), "votes": Absent(), "deployed_before": Present(value=True, digests=(digest_of(b"receipt"),)), **evidence}
    return good_case(asked={"purpose": Purpose.ROLLBACK, "bound_commit": None, "requester": "people|subject-olga"}, **found)


def with_fact(evidence: Evidence[Any], **changes: Any) -> Evidence[Any]:
    """The same item saying something else: its verified value (or each of several) with members replaced."""
    assert isinstance(evidence, Present)
    if isinstance(evidence.value, tuple):
        return replace(evidence, value=tuple(sealed(replace(checked.value, **changes)) for checked in evidence.value))
    return replace(evidence, value=sealed(replace(evidence.value.value, **changes)))


def with_signer(evidence: Evidence[Any], **changes: Any) -> Evidence[Any]:
    """The same item signed by somebody else."""
    assert isinstance(evidence, Present)
    first = evidence.value[0] if isinstance(evidence.value, tuple) else evidence.value
    return with_fact(evidence, signer=replace(first.value.signer, **changes))


def with_item(case: Case, name: str, item: Evidence[Any]) -> Case:
    """The case with one item, named as `Gathered.items` names it, replaced."""
    if name.startswith("tests."):
        results: dict[str, Any] = {**case.evidence.results, name.removeprefix("tests."): item}
        return replace(case, evidence=replace(case.evidence, results=results))
    changes: dict[str, Any] = {name: item}
    return replace(case, evidence=replace(case.evidence, **changes))
