"""Text from outside, made safe to look at."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with whatever is no letter, mark, number, sign or space escaped: nothing in it moves a cursor or turns a line around."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
