"""What every ObservationStore promises."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import ANONYMOUS, Viewer
from gatekeeper.ports.observations import DriftKind, Observation, ObservedPlace, OverrideRecord
from gatekeeper.ports.records import ADOPTED
from tests.fakes.records import NOW, SECRET, deployment

pytestmark = pytest.mark.anyio
CLEARED = Viewer("alice", SECRET)
LATER = NOW + timedelta(seconds=1)
OLD, NEW, OTHER = (digest_of(word) for word in (b"old", b"new", b"other"))


def seen(**changes):
    values = {
        "environment": "production",
        "component": "shop",
        "target": "host-1",
        "kind": DriftKind.OVERRIDE,
        "running": OTHER,
        "config": "d" * 40,
        "order": digest_of(b"order"),
        "deployment": "2" * 32,
        "observed_at": LATER,
    }
    return Observation(**values | changes)


def order(**changes):
    values = {
        "order": digest_of(b"order"),
        "target": "host-1",
        "environment": "production",
        "component": "shop",
        "digest": OTHER,
        "signers": ("olga", "omar"),
        "reason": "it burns — überall",
        "incident": "INC-1",
        "salt": b"\0" * 32,
        "envelope": b"{}",
        "outcome": "healthy",
        "applied_at": NOW,
        "entry_id": "a" * 32,
        "entry": b"\xffentry",
        "log_index": None,
    }
    return OverrideRecord(**values | changes)


@pytest.fixture
async def deployed(database):
    """An older deploy that runs, and a newer one that failed."""
    database.old = deployment("1" * 32, receipt=OLD, decision_index=1, outcome_index=2)
    database.new = deployment("2" * 32, receipt=NEW, decision_index=3, outcome_index=4, state="failed", at=LATER)
    await database.deployments.add_deployment(database.old)
    await database.deployments.add_deployment(database.new)
    return database


async def test_places_have_their_newest_deployment_of_any_label_and_the_one_that_runs(deployed):
    store = deployed.observations
    assert list(await store.places()) == [ObservedPlace(deployed.new, deployed.old, None)]
    secret = deployment("3" * 32, component="vault", receipt=OTHER, label=SECRET, state="failed")
    await deployed.deployments.add_deployment(secret)
    await store.observe(seen(kind=None))
    assert list(await store.places()) == [ObservedPlace(deployed.new, deployed.old, LATER), ObservedPlace(secret, None, None)]


async def test_drift_is_the_newest_observation_of_a_place(deployed):
    store = deployed.observations
    assert list(await store.drift(ANONYMOUS)) == []
    await store.observe(seen(kind=DriftKind.STOPPED, running=None, config=None, order=None))
    assert list(await store.drift(ANONYMOUS)) == [seen(kind=DriftKind.STOPPED, running=None, config=None, order=None)]
    await store.observe(seen(observed_at=LATER + timedelta(seconds=1)))
    await store.observe(seen(kind=DriftKind.UNMANAGED, observed_at=NOW))  # asked before, arrived later
    assert list(await store.drift(ANONYMOUS)) == [seen(observed_at=LATER + timedelta(seconds=1))]
    assert list(await store.drift(ANONYMOUS, environment="production", component="shop")) != []
    assert list(await store.drift(ANONYMOUS, environment="test")) == []
    assert list(await store.drift(ANONYMOUS, component="api")) == []
    await store.observe(seen(kind=None, observed_at=LATER + timedelta(seconds=2)))
    assert list(await store.drift(ANONYMOUS)) == []


async def test_a_deployment_since_then_voids_an_observation(deployed):
    store = deployed.observations
    await store.observe(seen(deployment="1" * 32))
    assert list(await store.drift(ANONYMOUS)) == []
    await store.observe(seen())
    assert list(await store.drift(ANONYMOUS)) == [seen()]
    await deployed.deployments.add_deployment(deployment("4" * 32, receipt=OTHER, decision_index=5, outcome_index=6, state="failed"))
    assert list(await store.drift(ANONYMOUS)) == []


async def test_what_was_adopted_drifts_too_until_it_is_deployed_over(database):
    adopted = deployment("a" * 32, receipt=None, commit=None, purpose=ADOPTED, decision_index=1, outcome_index=1)
    await database.deployments.add_deployment(adopted)
    assert list(await database.observations.places()) == [ObservedPlace(adopted, adopted, None)]
    await database.observations.observe(seen(deployment=adopted.ping_id))
    assert list(await database.observations.drift(ANONYMOUS)) == [seen(deployment=adopted.ping_id)]
    await database.deployments.add_deployment(deployment("4" * 32, decision_index=5, outcome_index=6, state="failed", at=LATER))
    assert list(await database.observations.drift(ANONYMOUS)) == []


async def test_labelled_drift_does_not_exist_for_others(deployed):
    await deployed.observations.observe(seen(label=SECRET))
    assert list(await deployed.observations.drift(ANONYMOUS)) == []
    assert list(await deployed.observations.drift(CLEARED)) == [seen(label=SECRET)]


async def test_an_order_is_stored_once_for_each_target(database):
    store = database.observations
    assert await store.order("host-1", order().order) is None
    assert await store.add_order(order()) == order()
    assert await store.add_order(order(entry=b"other", salt=b"\1" * 32)) == order()
    assert await store.order("host-1", order().order) == order()
    assert await store.add_order(order(target="host-2", entry=b"other")) == order(target="host-2", entry=b"other")


async def test_what_stands_in_the_log_is_reported_to_its_target(database):
    store = database.observations
    records = [order(order=digest_of(bytes([n])), applied_at=NOW + timedelta(seconds=n)) for n in range(66)]
    for record in (*records, order(component="api"), order(target="host-2")):
        await store.add_order(record)
    assert list(await store.reported("host-1", "shop")) == []
    for index, record in enumerate(records):
        await store.order_logged("host-1", record.order, index)
    assert list(await store.reported("host-1", "shop")) == [record.order for record in reversed(records[2:])]
    assert list(await store.reported("host-1", "api")) == []
    assert list(await store.reported("host-2", "shop")) == []
    assert await store.order("host-1", records[0].order) == replace(records[0], log_index=0)
