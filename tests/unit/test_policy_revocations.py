"""`revocations.toml`: what it may say, every refusal of what it may not, and what its rows hit."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.intake import accept_statement, issue_certificate
from gatekeeper.deploy.query import provenance
from gatekeeper.deploy.vote import cast_vote
from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import RunIdentity, StandingIdentity
from gatekeeper.model.label import ANONYMOUS
from gatekeeper.model.moment import later
from gatekeeper.policy.load import PolicyError, parse_policy
from gatekeeper.policy.revocations import MAX_ROWS, Kind, Revocation, Revocations, key_line
from tests.fakes import signing
from tests.fakes.cases import PEOPLE, POLICY_COMMIT, policy_files
from tests.fakes.house import OLD_COMMIT, START, House, _verify_inline, anyio_backend  # noqa: F401
from tests.fakes.signing import BUILDER_ID, COMMIT, PROJECT, RECEIVED, RUN

URN = f"urn:pingee:run:{PROJECT}:{COMMIT}:{RUN}"
CERTIFICATE = digest_of(b"certificate")
SIGNER = RunIdentity(BUILDER_ID, PROJECT, COMMIT, RUN, CERTIFICATE, BUILDER_ID)
BOB = key_line(PEOPLE["bob"].public)
ALL = frozenset({"manifest", "provenance", "test-result"})


NO_RUNS = (
    URN.replace(COMMIT, COMMIT[:7]),
    URN.replace(COMMIT, ""),
    URN + ":more",
    URN.replace("urn:", "uri:"),
    URN.replace("pingee", "pinge"),
    URN.replace(":run:", ":vote:", 1),
    URN.removesuffix(RUN),
    URN.replace(f":{PROJECT}:", "::"),
    URN.replace(PROJECT, "my project"),
    URN + "\u00a0x",
)


def text(*rows):
    return "".join(f'[[revoked]]\n{row}\nreason = "why"\n' for row in rows)


def revocations(*rows):
    return parse_policy(policy_files(revocations=text(*rows)), commit=POLICY_COMMIT).revocations


def toml(moment):
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def house():
    return House()


def revoke(house, *rows):
    house.policy.files["revocations.toml"] = text(*rows).encode()
    house.policy.load()


# --- the file


def test_a_policy_without_the_file_or_with_an_empty_one_revokes_nothing():
    plain = parse_policy(policy_files(), commit=POLICY_COMMIT).revocations
    assert (plain.rows, plain.doubt(SIGNER, RECEIVED, project=PROJECT)) == ({}, None)
    for empty in ("", "# nobody\n", "revoked = []\n"):
        assert parse_policy(policy_files(revocations=empty), commit=POLICY_COMMIT).revocations.epoch == plain.epoch


@pytest.mark.parametrize(
    ("kind", "row"), [("builder", BUILDER_ID), ("certificate", CERTIFICATE), ("run", URN), ("key", CERTIFICATE)]
)
def test_a_row_hits_its_signer_from_its_time_on(kind, row):
    found = revocations(f'{kind} = "{row}"')
    assert found.doubt(SIGNER, RECEIVED, project=PROJECT).reason == "builder-revoked"
    assert found.doubt(SIGNER, RECEIVED, project=PROJECT).detail == f"{kind} {row} is revoked: why"
    since = revocations(f'{kind} = "{row}"\nfrom = {toml(RECEIVED)}')
    assert since.doubt(SIGNER, RECEIVED, project=PROJECT).detail == f"{kind} {row} is revoked since {toml(RECEIVED)}: why"
    assert since.doubt(SIGNER, later(RECEIVED, seconds=1), project=PROJECT) is not None
    assert since.doubt(SIGNER, later(RECEIVED, seconds=-1), project=PROJECT) is None
    other = RunIdentity("https://ci.demo/other", "other", "9" * 40, "run-9", digest_of(b"another"), "")
    assert found.doubt(other, RECEIVED, project=PROJECT) is None


@pytest.mark.parametrize("unnamed", ["commit", "run"])
def test_a_signer_that_names_no_commit_or_run_is_of_no_run_that_is_called_so(unnamed):
    signer = StandingIdentity(BUILDER_ID, CERTIFICATE, BUILDER_ID, project=PROJECT, commit=COMMIT, run=RUN)
    assert revocations(f'run = "{URN}"').doubt(signer, RECEIVED, project=PROJECT).reason == "builder-revoked"
    rows = {(Kind.RUN, name): Revocation(Kind.RUN, name, None, "why") for name in (URN, URN.replace(COMMIT if unnamed == "commit" else RUN, "None"))}
    assert Revocations(rows).doubt(replace(signer, **{unnamed: None}), RECEIVED, project=PROJECT) is None


def test_a_run_that_has_signed_nothing_is_known_by_its_builder_and_its_name():
    assert revocations(f'builder = "{BUILDER_ID}"').doubt_run(BUILDER_ID, "urn:pingee:run:x", RECEIVED) is not None
    assert revocations(f'run = "{URN}"').doubt_run("https://other.example/b", URN, RECEIVED) is not None
    assert revocations(f'run = "{URN}"').doubt_run(BUILDER_ID, URN + "1", RECEIVED) is None


def test_a_standing_signers_run_is_known_by_the_artifacts_project_where_it_names_none():
    signer = StandingIdentity(BUILDER_ID, CERTIFICATE, BUILDER_ID, commit=COMMIT, run=RUN)
    found = revocations(f'run = "{URN}"')
    assert found.doubt(signer, RECEIVED, project=PROJECT).reason == "builder-revoked"
    assert found.doubt(signer, RECEIVED, project="second") is None
    assert found.doubt(replace(signer, project="second"), RECEIVED, project=PROJECT) is None
    for unnamed in ({"run": None}, {"commit": None}):
        assert found.doubt(replace(signer, **unnamed), RECEIVED, project=PROJECT) is None


def test_a_persons_keys_stand_but_for_the_revoked_one():
    bob, carol = PEOPLE["bob"].public, PEOPLE["carol"].public
    found = revocations(f'key = "{BOB}"\nfrom = {toml(RECEIVED)}')
    assert found.standing_keys((bob, carol), RECEIVED) == (carol,)
    assert found.standing_keys((bob, carol), later(RECEIVED, seconds=-1)) == (bob, carol)


def test_the_epoch_is_of_what_is_revoked_and_since_when_and_of_nothing_else():
    rows = (f'builder = "{BUILDER_ID}"', f'run = "{URN}"')
    epoch = revocations(*rows).epoch
    assert revocations(*reversed(rows)).epoch == epoch
    assert parse_policy(policy_files(revocations=text(*rows).replace("why", "another")), commit=POLICY_COMMIT).revocations.epoch == epoch
    others = [rows[:1], (rows[0] + f"\nfrom = {toml(RECEIVED)}", rows[1]), (rows[0], f'run = "{URN}x"'), (f'certificate = "{CERTIFICATE}"',), (f'key = "{CERTIFICATE}"',)]
    assert len({epoch, *(revocations(*other).epoch for other in others)}) == 6


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[revoked]]\n" + 'reason = "why"\n', "/revoked/0: must have exactly one of builder, certificate, run, key"),
        (text(f'builder = "{BUILDER_ID}"\nrun = "{URN}"'), "/revoked/0: must have exactly one of"),
        (f'[[revoked]]\nbuilder = "{BUILDER_ID}"\n', "/revoked/0/reason: is missing"),
        (text('builder = "https://ci.demo/misspelt"'), "names the unknown builder https://ci.demo/misspelt"),
        (text(f'builder = "{BUILDER_ID.upper()}"'), "names the unknown builder"),
        (text('certificate = "0123"'), "/revoked/0/certificate: a digest is 'sha256:'"),
        (text(f'certificate = "{CERTIFICATE.upper()}"'), "/revoked/0/certificate: a digest is 'sha256:'"),
        (text('key = "PEM"'), "/revoked/0/key: a digest is 'sha256:'"),
        (text('key = "ed25519 AAAA"'), "names a key that nobody in people.toml has"),
        (text('run = "run-1"'), "/revoked/0/run: must be urn:pingee:run:PROJECT:COMMIT:RUN"),
        *((text(f'run = "{run}"'), "/revoked/0/run: must be urn:") for run in NO_RUNS),
        (text(f'run = "{URN}"', f'run = "{URN}"\nfrom = {toml(RECEIVED)}'), "/revoked/1/run: stands in two rows"),
        (text(f'run = "{URN}"\nfrom = "2026-11-21T10:00:00Z"'), "/revoked/0/from: must be a time such as"),
        (text(f'run = "{URN}"\nfrom = 2026-11-21T10:00:00'), "/revoked/0/from: must be a time such as"),
        (text(f'run = "{URN}"\nfrom = 2026-11-21T10:00:00+01:00'), "/revoked/0/from: must be a time such as"),
        (text(f'run = "{URN}"\nfrom = 2026-11-21T10:00:00.5Z'), "/revoked/0/from: must be a time such as"),
        (text(f'run = "{URN}"\nfrom = 2026-11-21'), "/revoked/0/from: must be a time such as"),
        (text(f'run = "{URN}"\nuntil = 2026-11-21T10:00:00Z'), "/revoked/0/until: is not a member"),
        ('[[revokd]]\nbuilder = "x"\n', "/revokd: is not a member"),
        ("revoked = 1\n", "/revoked: must be an array"),
        (text(*[f'run = "{URN}{number}"' for number in range(MAX_ROWS + 1)]), f"has more than {MAX_ROWS} items"),
        (text('run = "CHANGE-ME"'), "still CHANGE-ME"),
    ],
)
def test_what_is_not_strict_is_refused_with_its_place(content, words):
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_files(revocations=content), commit=POLICY_COMMIT)
    assert (caught.value.file, caught.value.code) == ("revocations.toml", "config-invalid")
    assert words in caught.value.detail


# --- what it does at the doors


def manifest(house):
    source = {"repository": signing.REPOSITORY, "commit": OLD_COMMIT, "tree": "2" * 40}
    return house.ca.run(commit=OLD_COMMIT).sign(signing.manifest_statement(source=source))


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["builder", "run", "certificate"])
async def test_the_intake_takes_nothing_from_a_revoked_signer(house, kind):
    bundle = manifest(house)
    await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    stored, logged = len(house.database.state.statements), len(house.log.tree.entries)
    certificate = house.log.entries(object)[0][1].certificate
    rows = {"builder": BUILDER_ID, "run": f"urn:pingee:run:{PROJECT}:{OLD_COMMIT}:{RUN}", "certificate": certificate}
    revoke(house, f'{kind} = "{rows[kind]}"\nfrom = {toml(START - timedelta(seconds=1))}')
    for again in (bundle, manifest(house)) if kind != "certificate" else (bundle,):
        with pytest.raises(CallRefused, match="why") as caught:
            await accept_statement(house.parts, house.run_caller(), again, kinds=ALL)
        assert caught.value.code == "builder-revoked"
    assert (len(house.database.state.statements), len(house.log.tree.entries)) == (stored, logged)
    revoke(house, f'{kind} = "{rows[kind]}"\nfrom = {toml(START + timedelta(hours=1))}')
    await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)


@pytest.mark.anyio
@pytest.mark.parametrize("row", [f'builder = "{BUILDER_ID}"', f'run = "urn:pingee:run:{PROJECT}:{OLD_COMMIT}:{RUN}"'])
async def test_a_revoked_builder_or_run_gets_no_certificate_and_its_token_is_not_spent(house, row):
    revoke(house, row)
    with pytest.raises(CallRefused) as caught:
        await issue_certificate(house.parts, house.run_caller(), "token", b"csr")
    assert caught.value.code == "builder-revoked"
    assert house.database.state.tokens == {}


@pytest.mark.anyio
async def test_a_vote_by_a_revoked_key_is_not_taken(house):
    key = key_line(house.reviewers["bob"].public)
    await house.bring(vote=False)
    revoke(house, f'key = "{key}"\nfrom = {toml(START)}')
    with pytest.raises(CallRefused) as caught:
        await cast_vote(house.parts, house.person("bob"), house.vote_bundle())
    assert caught.value.code == "votes-ineligible"
    assert house.database.state.votes == {}
    revoke(house, f'key = "{key}"\nfrom = {toml(START + timedelta(hours=1))}')
    await cast_vote(house.parts, house.person("bob"), house.vote_bundle())


@pytest.mark.anyio
async def test_the_chain_behind_an_artifact_says_what_is_revoked(house):
    artifact = await house.bring()
    assert {row["status"] for row in (await provenance(house.parts, artifact, ANONYMOUS))["statements"]} == {"verified"}
    revoke(house, f'builder = "{BUILDER_ID}"')
    assert {row["status"] for row in (await provenance(house.parts, artifact, ANONYMOUS))["statements"]} == {"refused: builder-revoked"}
