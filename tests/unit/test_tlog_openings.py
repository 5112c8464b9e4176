"""The openings of a whole log: what is opened wrongly is named, and what nothing opened when its time had come."""

import dataclasses
from collections import Counter
from datetime import date

import pytest

from gatekeeper.model.moment import later, parse_moment
from gatekeeper.tlog.entry import Abridged, LiftEntry, OpenDecoysEntry, Reference, encode_entry
from gatekeeper.tlog.errors import OpeningFault
from gatekeeper.tlog.openings import MOST_NAMED, LogOpeningFault, OpeningsCheck
from gatekeeper.tlog.sealed import make_decoy
from tests.fakes.entries import (
    ALICE,
    BOB,
    HELD,
    HIDDEN,
    HORIZON,
    LEAF,
    ORIGIN,
    REASON,
    SAMPLES,
    SEED,
    SLOTS,
    TICK,
    D,
    common,
    decoy,
    fixed,
    leaf_of,
    opened,
    sealed_in,
)

BEFORE, DUE, OVERDUE = date(2027, 6, 1), date(2028, 1, 31), date(2028, 2, 1)
NEXT_YEAR = parse_moment("2028-01-01T00:00:00Z")
SLOT = Reference(ORIGIN, 0, 0)
# The log of most tests: entry 0 is the leaf of the golden files.
WHOLE = opened(SLOTS[0], SLOT, number=100)
HEAD_ONLY = opened(SLOTS[2], Reference(ORIGIN, 0, 2), number=101, whole=False)
DECOYS = OpenDecoysEntry(**common(102) | {"at": NEXT_YEAR}, of_origin=ORIGIN, day=TICK.date(), seed=SEED)
LIFT = LiftEntry(**common(103), who=(ALICE, BOB), embargo="e" * 32, opens=(SLOT,), reason=REASON)


def check(*entries, origins=(ORIGIN,), today=BEFORE, taken=(), source=None):
    """Read the entries as a log, or as logs of their origins, and check their openings."""
    judge, bodies, sizes = OpeningsCheck(origins, salt=fixed(77)), {}, Counter()
    for entry in entries:
        at = Reference(entry.origin, sizes[entry.origin])
        sizes[entry.origin] += 1
        bodies[at] = encode_entry(entry)
        judge.see(at.index, entry, bodies[at])
    asked = judge.check(today=today, taken=taken)
    try:
        wanted = next(asked)
        while True:
            wanted = asked.send((source or bodies.get)(wanted))
    except StopIteration as stop:
        return stop.value


def faults(*entries, **how):
    return [(found.fault, found.at.index) for found in check(*entries, **how).faults]


def test_a_log_whose_openings_are_right_is_sound():
    report = check(LEAF, WHOLE, HEAD_ONLY, DECOYS, LIFT, today=OVERDUE)
    assert report.sound
    assert (report.faults, report.unopened, report.overdue, report.elsewhere) == ((), (), 0, 0)


def test_the_log_of_all_golden_entries_leaves_one_slot_unopened():
    report = check(*SAMPLES, today=OVERDUE)
    assert report.faults == ()
    assert (report.unopened, report.overdue, report.sound) == ((Reference(ORIGIN, 19, 2),), 1, False)


def test_a_slot_is_overdue_31_days_after_the_horizon_and_not_before():
    assert (check(LEAF, today=BEFORE).overdue, check(LEAF, today=DUE).overdue) == (0, 0)
    report = check(LEAF, today=OVERDUE)
    assert (report.overdue, report.sound) == (4, False)
    assert report.unopened == tuple(Reference(ORIGIN, 0, slot) for slot in range(4))


def test_more_unopened_slots_are_counted_than_named():
    leaves = [leaf_of(*(decoy(slot, at=at) for slot in range(4)), number=n, at=at) for n, at in ((n, later(TICK, seconds=n)) for n in range(30))]
    report = check(*leaves, today=OVERDUE)
    assert (report.overdue, len(report.unopened)) == (120, MOST_NAMED)


def test_what_an_opening_refuses_is_named_with_its_place():
    assert faults(LEAF, dataclasses.replace(WHOLE, rp=fixed(9))) == [(OpeningFault.PRIVATE_DIFFERS, 1)]
    report = check(LEAF, dataclasses.replace(WHOLE, rp=fixed(9)), today=OVERDUE)
    assert report.overdue == 4
    early = opened(SLOTS[0], Reference(ORIGIN, 1, 0), number=100)
    assert faults(early, LEAF) == [(OpeningFault.NOT_LATER, 0)]


def test_an_opening_of_what_is_no_sealed_leaf_is_named():
    assert faults(SAMPLES[1], WHOLE) == [(LogOpeningFault.NO_LEAF, 1)]
    assert faults(LEAF, opened(SLOTS[0], Reference(ORIGIN, 7, 0), number=100)) == [(LogOpeningFault.NO_LEAF, 1)]
    assert faults(SAMPLES[1], LEAF, WHOLE) == [(LogOpeningFault.NO_LEAF, 2)]
    assert not check(SAMPLES[1], LEAF, WHOLE).sound


def test_a_slot_may_be_opened_by_its_head_first_and_whole_later():
    first = opened(SLOTS[0], SLOT, number=99, whole=False)
    assert faults(LEAF, first, WHOLE, LIFT) == []
    assert faults(LEAF, WHOLE, dataclasses.replace(WHOLE, entry_id="9" * 32)) == []


def test_a_decision_in_two_slots_is_named():
    twin = sealed_in(HIDDEN, 5)
    leaf = leaf_of(SLOTS[0], twin, *SLOTS[2:])
    second = opened(twin, Reference(ORIGIN, 0, 1), number=104)
    assert faults(leaf, WHOLE, second) == [(LogOpeningFault.ENTRY_ID_TAKEN, 2)]


def test_a_sealed_decision_with_the_entry_id_of_a_public_one_is_named():
    assert faults(LEAF, WHOLE, taken={HIDDEN.entry_id}) == [(LogOpeningFault.ENTRY_ID_TAKEN, 1)]
    assert faults(LEAF, WHOLE, taken={HELD.entry_id}) == []


def test_a_seed_before_the_horizon_is_named():
    for day, expected in (("2027-12-31T23:59:59Z", [(LogOpeningFault.SEED_EARLY, 1)]), ("2028-01-01T00:00:00Z", [])):
        assert faults(LEAF, dataclasses.replace(DECOYS, at=parse_moment(day))) == expected


def test_a_seed_that_opens_nothing_is_named():
    for wrong in ({"seed": fixed(3)}, {"day": date(2026, 11, 22)}):
        assert faults(LEAF, dataclasses.replace(DECOYS, **wrong)) == [(LogOpeningFault.SEED_OPENS_NOTHING, 1)]
    assert faults(SAMPLES[1], DECOYS) == [(LogOpeningFault.SEED_OPENS_NOTHING, 1)]


def test_a_seed_that_opens_a_slot_of_one_leaf_of_its_day_need_not_open_one_of_each():
    at = later(TICK, seconds=2)
    others = leaf_of(*(make_decoy(fixed(3), origin=ORIGIN, at=at, slot=slot) for slot in range(4)), number=51, at=at)
    assert faults(LEAF, others, DECOYS) == []
    assert faults(others, LEAF_AGAIN, DECOYS) == []


def test_a_second_seed_for_one_day_is_named():
    again = dataclasses.replace(DECOYS, entry_id="9" * 32)
    assert faults(LEAF, DECOYS, again) == []
    assert faults(LEAF, DECOYS, dataclasses.replace(again, seed=fixed(3))) == [(LogOpeningFault.SEED_SECOND, 2)]


def test_a_seed_opens_only_the_leaves_of_its_day():
    late = parse_moment("2026-11-22T00:00:00Z")
    tomorrow = leaf_of(*(decoy(slot, at=late) for slot in range(4)), number=50, at=late)
    report = check(LEAF, tomorrow, LEAF_AGAIN, DECOYS, today=OVERDUE)
    assert {slot.index for slot in report.unopened} == {0, 1}
    assert report.overdue == 2 + 4


LEAF_AGAIN = leaf_of(*(decoy(slot, at=later(TICK, seconds=2)) for slot in range(4)), number=51, at=later(TICK, seconds=2))


@pytest.mark.parametrize(
    "entries",
    [(LEAF, LIFT), (LEAF, LIFT, WHOLE), (LEAF, opened(SLOTS[0], SLOT, number=99, whole=False), LIFT), (LEAF, WHOLE, dataclasses.replace(LIFT, opens=(Reference(ORIGIN, 0, 2),)))],
    ids=["never", "after the lift", "its head alone", "another slot"],
)
def test_a_lift_whose_slots_were_not_opened_whole_before_it_is_named(entries):
    at = next(number for number, entry in enumerate(entries) if isinstance(entry, LiftEntry))
    assert faults(*entries) == [(LogOpeningFault.LIFT_NOT_OPENED, at)]


def test_the_slots_of_an_abridged_lift_cannot_be_checked_and_are_not_held_against_it():
    assert faults(LEAF, dataclasses.replace(LIFT, opens=Abridged(300, D("slots")))) == []


def test_a_leaf_with_another_horizon_than_its_origin_s_is_named():
    moved = dataclasses.replace(LEAF_AGAIN, open_by=date(2028, 12, 31))
    assert LEAF.open_by == HORIZON
    assert faults(LEAF, moved) == [(LogOpeningFault.HORIZON_MOVED, 1)]


def test_an_opening_may_stand_in_a_later_origin_that_is_read_too():
    new = ORIGIN + "b"
    moved = [dataclasses.replace(entry, origin=new) for entry in (WHOLE, HEAD_ONLY, DECOYS, LIFT)]
    assert check(LEAF, *moved, origins=(ORIGIN, new), today=OVERDUE).sound
    assert [fault for fault, _ in faults(LEAF, *moved, origins=(new, ORIGIN))] == [
        OpeningFault.NOT_LATER,
        OpeningFault.NOT_LATER,
        LogOpeningFault.LIFT_NOT_OPENED,
    ]


def test_openings_of_an_origin_that_is_not_read_are_counted_as_cannot_tell():
    old = ORIGIN + "a"
    of_old = [dataclasses.replace(WHOLE, of=dataclasses.replace(SLOT, origin=old)), dataclasses.replace(DECOYS, of_origin=old)]
    report = check(*of_old, dataclasses.replace(LIFT, opens=(dataclasses.replace(SLOT, origin=old),)))
    assert (report.faults, report.elsewhere) == ((), 3)


def test_a_source_that_gives_other_bytes_the_second_time_is_named():
    entries = (LEAF, WHOLE)
    bodies = [encode_entry(entry) for entry in entries]
    lying = encode_entry(leaf_of(SLOTS[0], *(decoy(slot) for slot in (1, 2, 3))))
    assert faults(*entries, source=lambda at: lying if at.index == 0 else bodies[at.index]) == [(LogOpeningFault.READ_DIFFERS, 0)]
    assert faults(*entries, source=lambda at: None) == [(LogOpeningFault.READ_DIFFERS, 1)]
    found = [(LogOpeningFault.READ_DIFFERS, 0), (LogOpeningFault.SEED_OPENS_NOTHING, 1)]
    assert faults(LEAF, DECOYS, source=lambda at: None) == found


def test_no_more_faults_are_kept_than_are_named():
    bad = [dataclasses.replace(WHOLE, rp=fixed(9), entry_id=f"{n:032x}") for n in range(MOST_NAMED + 20)]
    assert len(check(LEAF, *bad).faults) == MOST_NAMED
