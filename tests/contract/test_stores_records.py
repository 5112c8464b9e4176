"""What every StatementStore, DeploymentStore and PeopleStore promises."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import ANONYMOUS, Viewer
from gatekeeper.ports.pings import IdempotencyConflict
from gatekeeper.ports.records import AdoptionRecord, PersonRecord
from tests.fakes.records import ARTIFACT, NOW, SECRET, artifact, deployment, receipt, statement, vote

pytestmark = pytest.mark.anyio
CLEARED = Viewer("alice", SECRET)
LATER = NOW + timedelta(seconds=1)


async def test_an_artifact_s_first_facts_stand_and_complete_only_turns_true(database):
    await database.statements.add_artifact(artifact())
    await database.statements.add_artifact(artifact(project="stolen", complete=True))
    assert await database.statements.artifact(ARTIFACT, ANONYMOUS) == artifact(complete=True)
    await database.statements.add_artifact(artifact(complete=False))
    assert (await database.statements.artifact(ARTIFACT, ANONYMOUS)).complete


async def test_artifacts_are_listed_newest_first_by_commit_and_project(database):
    records = [artifact(artifact=digest_of(bytes([nr])), received_at=NOW + timedelta(seconds=nr)) for nr in range(3)]
    for record in records:
        await database.statements.add_artifact(record)
    await database.statements.add_artifact(artifact(artifact=digest_of(b"x"), commit="f" * 40, project="else"))
    found = await database.statements.artifacts(commit="a" * 40, project="web", viewer=ANONYMOUS, limit=2)
    assert list(found) == [records[2], records[1]]
    assert len(await database.statements.artifacts(commit=None, project=None, viewer=ANONYMOUS)) == 4


async def test_statements_keep_their_bytes_and_come_oldest_first(database):
    late, early = statement(b"\x00late", received_at=LATER), statement(b"early", kind="provenance", stage=None)
    for record in (late, early, late):
        await database.statements.add_statement(record)
    assert list(await database.statements.statements(ARTIFACT, ANONYMOUS)) == [early, late]


async def test_votes_of_any_revision_come_oldest_first(database):
    late, early = vote(b"2", revision="b" * 40, received_at=LATER, value=-2), vote(b"1")
    for record in (late, early, early, vote(b"3", change="I2"), vote(b"4", project="else")):
        await database.statements.add_vote(record)
    assert list(await database.statements.votes("web", "I1", ANONYMOUS)) == [early, late]


async def test_labelled_records_do_not_exist_for_others(database):
    store = database.statements
    await store.add_artifact(artifact(label=SECRET))
    await store.add_statement(statement(label=SECRET))
    await store.add_vote(vote(label=SECRET))
    await database.deployments.add_receipt(receipt(label=SECRET))
    await database.deployments.add_deployment(deployment("1" * 32, label=SECRET))

    async def seen(viewer):
        return [
            await store.artifact(ARTIFACT, viewer),
            *await store.artifacts(commit=None, project=None, viewer=viewer),
            *await store.statements(ARTIFACT, viewer),
            *await store.votes("web", "I1", viewer),
            await database.deployments.receipt(receipt().id, viewer),
            *await database.deployments.running(viewer),
            *await database.deployments.history("production", "shop", viewer),
        ]

    assert await seen(ANONYMOUS) == [None, None]
    assert [record.label for record in await seen(CLEARED)] == [SECRET] * 7


async def test_a_hidden_newer_deployment_does_not_hide_the_older_one(database):
    await database.deployments.add_deployment(deployment("1" * 32))
    await database.deployments.add_deployment(deployment("2" * 32, label=SECRET, at=LATER))
    assert [record.ping_id for record in await database.deployments.running(ANONYMOUS)] == ["1" * 32]
    assert [record.ping_id for record in await database.deployments.running(CLEARED)] == ["2" * 32]


async def test_the_allows_of_a_ping_are_counted(database):
    await database.deployments.add_receipt(receipt())
    await database.deployments.add_receipt(receipt(b"{2}"))
    await database.deployments.add_receipt(receipt(b"{3}", ping_id="f" * 32))
    assert [await database.deployments.allows(ping) for ping in ("1" * 32, "f" * 32, "e" * 32)] == [2, 1, 0]


async def test_a_receipt_is_stored_once(database):
    await database.deployments.add_receipt(receipt())
    await database.deployments.add_receipt(replace(receipt(), ping_id="f" * 32))
    assert await database.deployments.receipt(receipt().id, ANONYMOUS) == receipt()
    assert await database.deployments.receipt(digest_of(b"unknown"), ANONYMOUS) is None


async def test_what_runs_is_the_newest_deployed_of_each_place(database):
    records = [
        deployment("1" * 32),
        deployment("2" * 32, outcome_index=6),
        deployment("3" * 32, at=LATER, state="failed"),
        deployment("4" * 32, environment="test", component="api"),
    ]
    for record in (*records, replace(records[0], state="failed")):
        await database.deployments.add_deployment(record)
    assert list(await database.deployments.running(ANONYMOUS)) == [records[1], records[3]]
    assert list(await database.deployments.running(ANONYMOUS, environment="test")) == [records[3]]
    assert list(await database.deployments.running(ANONYMOUS, component="shop")) == [records[1]]
    assert list(await database.deployments.history("production", "shop", ANONYMOUS, limit=2)) == [records[2], records[1]]


async def test_a_person_has_one_pseudonym(database):
    first = PersonRecord("https://idp", "alice", "p:" + "1" * 32, "vault:v1:a")
    assert await database.people.add_person(first) == first
    assert await database.people.add_person(replace(first, pseudonym="p:" + "2" * 32)) == first
    assert await database.people.person("https://idp", "alice") == first
    assert await database.people.person("https://other", "alice") is None
    assert await database.people.person_by_pseudonym(first.pseudonym) == first
    assert await database.people.person_by_pseudonym("p:" + "2" * 32) is None


async def test_a_token_is_used_once_for_a_purpose(database, replicas):
    use = database.people.use_once
    assert await use("iss", "jti", "certificate", LATER)
    assert not await use("iss", "jti", "certificate", LATER)
    assert await use("iss", "jti", "intake", LATER)
    assert await use("iss", "other", "certificate", LATER)
    replicas.now = LATER
    assert not await use("iss", "jti", "certificate", LATER)
    replicas.now = LATER + timedelta(seconds=1)
    assert await use("iss", "jti", "certificate", LATER + timedelta(hours=1))


def adopting(adoption_id="a" * 32, **changes):
    values = {
        "id": adoption_id, "caller": "people|olga", "idempotency_key": adoption_id, "body": digest_of(b"body"), "project": "web",
        "environment": "production", "component": "shop", "artifact": ARTIFACT, "config": "c" * 40, "reason": "moved in", "at": NOW, "entry": b"\x00entry",
    }  # fmt: skip
    return AdoptionRecord(**values | changes)


async def test_a_place_is_adopted_once_and_the_first_stands(database):
    store = database.adoptions
    assert await store.adoption("production", "shop", ANONYMOUS) is None
    first = adopting()
    assert await store.add_adoption(first) == first
    assert await store.add_adoption(adopting("b" * 32, caller="people|otto", artifact=digest_of(b"other"))) == first, "the place is taken"
    assert await store.add_adoption(adopting("c" * 32, idempotency_key="a" * 32, at=LATER)) == first, "the call was made before"
    with pytest.raises(IdempotencyConflict):
        await store.add_adoption(adopting("d" * 32, idempotency_key="a" * 32, body=digest_of(b"another")))
    assert await store.adoption("production", "shop", ANONYMOUS) == first
    assert list(await store.adoptions_of(ARTIFACT, ANONYMOUS)) == [], "its entry is not durable yet"
    await store.mark_logged(first.id, 7, first.entry)
    await store.mark_logged(first.id, 8, b"another")
    logged = replace(first, log_index=7)
    assert await store.adoption("production", "shop", ANONYMOUS) == logged
    elsewhere = adopting("e" * 32, environment="test", at=LATER)
    await store.add_adoption(elsewhere)
    await store.mark_logged(elsewhere.id, 9, elsewhere.entry)
    assert list(await store.adoptions_of(ARTIFACT, ANONYMOUS)) == [logged, replace(elsewhere, log_index=9)]


async def test_an_adoption_under_a_label_does_not_exist_for_others(database):
    await database.adoptions.add_adoption(adopting(label=SECRET))
    await database.adoptions.mark_logged("a" * 32, 1, b"none")
    for viewer, count in ((ANONYMOUS, 0), (CLEARED, 1)):
        assert (await database.adoptions.adoption("production", "shop", viewer) is not None) == bool(count)
        assert len(await database.adoptions.adoptions_of(ARTIFACT, viewer)) == count


async def test_what_was_adopted_runs_without_commit_or_receipt(database):
    record = deployment("1" * 32, purpose="adopt", commit=None, receipt=None)
    await database.deployments.add_deployment(record)
    assert list(await database.deployments.running(ANONYMOUS)) == [record]
