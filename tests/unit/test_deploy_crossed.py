"""What was begun before the log was opened anew: drafts and Allows of a closed origin end there, and nothing of them stands in the open one as its own."""

from dataclasses import replace

import pytest

from gatekeeper.deploy import reconcile
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.origins import FirstOrigin
from gatekeeper.tlog.entry import OutcomeEntry, parse_entry
from gatekeeper.tlog.members import Reference
from tests.fakes.frames import ORIGIN
from tests.fakes.house import House, HouseLog, _verify_inline, anyio_backend  # noqa: F401
from tests.fakes.origins import OriginLog

pytestmark = pytest.mark.anyio

NEXT = ORIGIN + "b"


class OneClosed(FirstOrigin):
    def is_closed(self, origin):
        return origin == ORIGIN


class CutLog(HouseLog):
    """A log that is away for one kind of entry."""

    away = None

    async def append(self, body, *, entry_id, kind):
        if kind == self.away:
            raise Unavailable("log-unavailable", "away")
        return await super().append(body, entry_id=entry_id, kind=kind)


async def cut(kind):
    """A house whose log went away at the first entry of this kind, the ping as it stands there, and parts over the next origin."""
    house = House()
    log = CutLog()
    log.tree, log.away = house.log.tree, kind
    ping = await house.ping(await house.bring())
    with pytest.raises(Unavailable):
        await house.step(ping, replace(house.parts, log=log))
    house.log.by_id = log.by_id
    return house, await house.read(ping), reopened(house)


def reopened(house):
    log = HouseLog()
    log.tree = OriginLog(NEXT, house.log.tree.key)
    return replace(house.parts, origin=NEXT, log=log, origins=OneClosed())


def logged(parts):
    return [parse_entry(body) for body in parts.log.tree.entries]


async def test_a_drafted_decision_is_forgotten_and_made_anew():
    house, ping, parts = await cut("decision")
    assert ping.draft is not None
    found = await house.step(ping, parts)
    assert (found.draft, found.fence, found.state) == (None, None, ping.state)
    assert house.holder() is None
    assert logged(parts) == []
    await house.step(ping, parts)
    assert [(entry.KIND.value, entry.origin) for entry in logged(parts)][:1] == [("decision", NEXT)]


async def test_a_drafted_outcome_stands_in_the_open_origin_and_names_its_decision_in_the_closed_one():
    house, ping, parts = await cut("outcome")
    found = await house.step(ping, parts)
    assert found.state is State.DEPLOYED
    (entry,) = logged(parts)
    assert isinstance(entry, OutcomeEntry)
    assert (entry.origin, entry.of, entry.state) == (NEXT, Reference(ORIGIN, ping.log_index), "deployed")
    assert (found.draft, found.fence, house.holder(), house.used_credentials()) == (None, None, None, [])


async def test_an_allow_under_which_nothing_was_sent_is_decided_anew(monkeypatch):
    house, ping, parts = await allowed(monkeypatch)
    found = await house.step(ping, parts)
    assert (found.state, found.reasons) == (State.PENDING, ("allow-expired",))
    (entry,) = logged(parts)
    assert (entry.origin, entry.of, entry.state) == (NEXT, Reference(ORIGIN, ping.log_index), "allow-expired")
    assert house.holder() is None
    assert house.target.accepted == []


async def test_an_allow_under_which_bytes_may_have_been_sent_is_failed(monkeypatch):
    house, ping, parts = await allowed(monkeypatch)
    for state in (State.LEASED, State.APPLYING):
        ping = await house.parts.pings.move(ping, replace(ping, state=state))
    found = await house.step(ping, parts)
    assert (found.state, found.reasons) == (State.FAILED, ("apply-interrupted",))
    assert "look at what the target runs" in found.detail
    assert [entry.of for entry in logged(parts)] == [Reference(ORIGIN, ping.log_index)]
    assert house.holder() is None


async def allowed(monkeypatch):
    async def away(*_):
        raise Unavailable("vault-unavailable", "away")

    house = House()
    ping = await house.ping(await house.bring())
    with monkeypatch.context() as patched:
        patched.setattr(reconcile, "carry_out", away)
        with pytest.raises(Unavailable):
            await house.step(ping)
    found = await house.read(ping)
    assert found.state is State.ALLOWED
    return house, found, reopened(house)
