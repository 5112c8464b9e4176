"""What the index keeps of an entry, on the golden files of every kind."""

import json
from pathlib import Path

import pytest

from gatekeeper.model.moment import render_moment
from gatekeeper.tlog.indexed import entry_fields

GOLDEN = {path.stem: path.read_bytes() for path in (Path(__file__).parents[1] / "assets" / "log").glob("*.json")}


@pytest.mark.parametrize("kind", sorted(GOLDEN))
def test_every_kind_has_its_kind_time_and_place(kind):
    members, fields = json.loads(GOLDEN[kind]), entry_fields(GOLDEN[kind])
    assert fields is not None
    assert (fields.kind, render_moment(fields.at)) == (kind, members["at"])
    assert (fields.environment, fields.component) == (members.get("environment"), members.get("component"))


def test_people_are_found_in_every_role_and_once():
    fields = entry_fields(GOLDEN["decision"])
    people = json.loads(GOLDEN["decision"])["people"]
    assert fields.people == tuple(sorted({person for role in people.values() for person in role}))
    assert len(fields.people) == 3
    assert entry_fields(GOLDEN["adopt"]).people == (json.loads(GOLDEN["adopt"])["who"],)


def test_an_outcome_names_its_decision_where_it_is_of_the_same_origin_and_no_slot():
    assert entry_fields(GOLDEN["outcome"]).of == 3
    for change in ({"origin": "another.example/log/2026"}, {"slot": 1}, {"index": -1}, {"index": True}):
        members = json.loads(GOLDEN["outcome"])
        members["of"] |= change
        assert entry_fields(json.dumps(members).encode()).of is None
    assert entry_fields(GOLDEN["decision"]).of is None


def test_an_entry_may_be_about_the_first_and_names_are_bounded():
    members = json.loads(GOLDEN["outcome"])
    members["of"] |= {"index": 0}
    members |= {"environment": "e" * 256, "component": "c" * 257}
    fields = entry_fields(json.dumps(members).encode())
    assert (fields.of, fields.environment, fields.component) == (0, "e" * 256, None)


def test_a_kind_that_nobody_knows_is_indexed_all_the_same():
    members = {"kind": "later", "at": "2026-11-21T10:04:05Z", "origin": "o/log/1", "environment": "test", "component": 3, "x": ["p:" + "a" * 32]}
    fields = entry_fields(json.dumps(members).encode())
    assert (fields.kind, fields.environment, fields.component, fields.people) == ("later", "test", None, ("p:" + "a" * 32,))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"kind":"x","at":"today","origin":"o"}', b"x" * 70_000])
def test_what_is_no_entry_is_left_out(body):
    assert entry_fields(body) is None
