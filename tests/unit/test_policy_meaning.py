"""One digest for what a part of the policy says: different values differ, whatever they are made of, and what has no meaning is an error."""

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

import pytest

from gatekeeper.policy.meaning import meaning_of


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Word(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


@dataclass(frozen=True)
class Pair:
    first: object
    second: object


@dataclass(frozen=True)
class Couple:
    first: object
    second: object


DIFFERENT = [
    None,
    True,
    1,
    0,
    "1",
    "",
    "red",
    "None",
    b"",
    b"1",
    Colour.RED,
    Colour.BLUE,
    Word.RED,
    Number.ONE,
    (),
    (None,),
    (1,),
    (1, 2),
    (2, 1),
    frozenset(),
    frozenset({1}),
    frozenset({1, 2}),
    {},
    {"a": 1},
    {"a": 2},
    {"b": 1},
    {1: "a"},
    Pair(1, 2),
    Pair(2, 1),
    Couple(1, 2),
    Pair(None, Pair(1, (b"x",))),
]


def test_no_two_of_these_mean_the_same():
    assert len({meaning_of(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert meaning_of(1, 2) != meaning_of((1, 2)) != meaning_of(1)


def test_order_counts_in_a_sequence_and_in_nothing_else():
    assert meaning_of({"a": 1, "b": 2}) == meaning_of({"b": 2, "a": 1})
    assert meaning_of({3, 1, 2}) == meaning_of(frozenset({2, 3, 1}))
    assert meaning_of([1, 2]) == meaning_of((1, 2))


@pytest.mark.parametrize("value", [1.5, object(), Pair, int, print, Pair(1, {2: 1.5}), (object(),)])
def test_what_has_no_meaning_here_is_an_error(value):
    with pytest.raises(TypeError, match="has no meaning here"):
        meaning_of(value)
