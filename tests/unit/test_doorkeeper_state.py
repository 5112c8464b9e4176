"""`state.json`, object by object: what it says is read back, and whatever else stands in it is refused by its place."""

import json
from dataclasses import replace

import pytest

from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.state import (
    NOTHING,
    ClosedOrigin,
    ComponentMemory,
    KeptRelease,
    Memory,
    Outcome,
    Release,
    Remembered,
    SpentOrder,
    encode_memory,
    load_memory,
    parse_memory,
)
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError

D, OTHER = digest_of(b"d"), digest_of(b"other")
RELEASE = Release(D, OTHER, "c" * 40, ("a", "{port}"), "/healthz", 5)
COMPONENT = ComponentMemory(
    3, None, D, Outcome.HEALTHY, "", "c", 4, "2026-11-21T10:00:00Z", RELEASE, (KeptRelease(D, OTHER, None),), OTHER, "o.test/log"
)
ORDER = SpentOrder(
    D, "hello", D, ("olga", "omar"), "2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z", Outcome.HEALTHY, "", OTHER, b"{}", reported=False
)
MEMORY = Memory(
    Remembered("o.test/log", 4, b"r" * 32, b"note\n"),
    (("hello", COMPONENT),),
    (("hello", RELEASE),),
    (ORDER,),
    (b"history",),
    (ClosedOrigin("o.test/old", b"note\n", b""), ClosedOrigin("o.test/older", b"note\n", b"last\n")),
)
OBJECTS = (
    "",
    "/checkpoint",
    "/components/hello",
    "/components/hello/healthy",
    "/components/hello/kept/0",
    "/adopted/hello",
    "/orders/0",
    "/closed/0",
)


def changed(pointer, key, value):
    document = json.loads(encode_memory(MEMORY))
    place = document
    for part in pointer.split("/")[1:]:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[key] = value
    return json.dumps(document).encode()


def test_all_of_it_is_read_back():
    assert parse_memory(encode_memory(MEMORY)) == MEMORY


@pytest.mark.parametrize("pointer", OBJECTS)
def test_a_member_that_nobody_wrote_is_refused_wherever_it_stands(pointer):
    with pytest.raises(FieldError, match=f"^{pointer}/x: "):
        parse_memory(changed(pointer, "x", 1))


@pytest.mark.parametrize(
    ("pointer", "key", "value", "message"),
    [
        ("", "v", 2, "/v: "),
        ("", "keys", ["!"], "/keys: is not base64"),
        ("/checkpoint", "root", "AAAA", "/checkpoint/root: is not 32 bytes"),
        ("/checkpoint", "note", "!", "/checkpoint/note: is not base64"),
    ],
)
def test_a_member_of_another_form_is_refused(pointer, key, value, message):
    with pytest.raises(FieldError, match=f"^{message}"):
        parse_memory(changed(pointer, key, value))


def test_a_file_that_is_no_memory_is_told_by_its_name(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    place.state.write_bytes(changed("", "x", 1))
    with pytest.raises(Unreadable, match=r"^state\.json: /x: "):
        load_memory(place)


def test_an_index_is_of_the_origin_that_the_component_names_or_of_the_one_remembered():
    unnamed = replace(COMPONENT, origin=None)
    assert MEMORY.origin_of(replace(COMPONENT, origin="o.test/old")) == "o.test/old"
    assert MEMORY.origin_of(unnamed) == "o.test/log"
    assert NOTHING.origin_of(unnamed) is None


def test_an_order_is_found_and_replaced_by_its_own_digest():
    other = replace(ORDER, order=OTHER)
    both = MEMORY.with_order(other)
    assert both.orders == (ORDER, other)
    assert (both.order(D), both.order(OTHER), both.order(digest_of(b"none"))) == (ORDER, other, None)
    done = replace(other, reported=True)
    assert both.with_order(done).orders == (ORDER, done)


def test_what_would_be_put_back_is_what_was_healthy_and_what_was_adopted_before_any_receipt():
    assert MEMORY.healthy("hello") == RELEASE
    assert replace(MEMORY, components=()).healthy("hello") == RELEASE
    assert MEMORY.with_component("hello", replace(COMPONENT, healthy=None)).healthy("hello") is None
    assert MEMORY.healthy("other") is None
