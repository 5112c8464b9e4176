"""What every row has: a label; and what every reader has: clearances."""

from __future__ import annotations

from gatekeeper.model.label import Label, Viewer, parse_label

from .bridge import Row


def read_label(row: Row) -> Label:
    """The label of a row; raises `MalformedLabel` for a compartment of unknown form."""
    return parse_label(row["label"])


def stored_label(label: Label) -> list[str]:
    """As the `label` column has it."""
    return sorted(label)


def clearances(viewer: Viewer) -> list[str]:
    """What a query's label filter compares with."""
    return sorted(viewer.clearances)
