"""The next step of a ping that ended after it was allowed."""

from gatekeeper.deploy.explain import _AFTER
from gatekeeper.model.reason import REASONS, Effect


def test_every_next_step_belongs_to_a_reason_that_ends_an_allow():
    assert all(Effect.AFTER in REASONS[code].effects and REASONS[code].who != "none needed" for code in _AFTER)


def test_every_reason_that_ends_an_allow_badly_has_a_next_step():
    decided_anew = {"allow-expired", "fence-lost"}
    of_the_caller = {"superseded", "cancelled"}
    assert {code for code, reason in REASONS.items() if Effect.AFTER in reason.effects} == _AFTER.keys() | decided_anew | of_the_caller
