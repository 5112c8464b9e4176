"""Secrecy as information flow (design, section 6).

A label is a set of compartments; the empty set is public. Who reads is a `Viewer` with clearances; a record is seen if and only if its
label is a subset of them. What is derived from labelled things carries the union of their labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NewType

Compartment = NewType("Compartment", str)
Label = frozenset[Compartment]

PUBLIC: Label = frozenset()

_COMPARTMENT = re.compile(r"(?:embargo|project):[a-z0-9][a-z0-9._-]{0,62}")


class MalformedLabel(ValueError):
    """A compartment is not ``embargo:<id>`` or ``project:<id>``."""


def parse_label(names: Iterable[str]) -> Label:
    """Read stored compartments; an unknown form is an error, never public."""
    compartments = frozenset(Compartment(name) for name in names)
    for name in compartments:
        if _COMPARTMENT.fullmatch(name) is None:
            raise MalformedLabel("a compartment is 'embargo:<id>' or 'project:<id>'")
    return compartments


def join(labels: Iterable[Label]) -> Label:
    """The label of what is derived from things so labelled: the union."""
    return frozenset().union(*labels)


@dataclass(frozen=True)
class Viewer:
    """Who reads. There is no query without one."""

    who: str
    """A person's or run's subject for our own records; empty for the anonymous Viewer."""
    clearances: Label = field(default=PUBLIC)

    def may_read(self, label: Label) -> bool:
        """Whether a record with this label exists for this Viewer."""
        return label <= self.clearances


ANONYMOUS = Viewer(who="")
