"""Named queries in .sql files: `-- name: x` starts one; `$name` is a parameter, bound by name and sent by position.

SQL lives in those files only, so nobody can build it from strings, and one test can hold all of it against the label rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent / "sql"

_HEAD = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)
_PARAMETER = re.compile(r"\$([a-z][a-z0-9_]*)")


@dataclass(frozen=True)
class Query:
    """One statement; `text` keeps its comments."""

    name: str
    text: str
    parameters: tuple[str, ...]

    @cached_property
    def sql(self) -> str:
        """The statement with positional parameters, as the server reads it."""
        return _PARAMETER.sub(lambda match: f"${self.parameters.index(match[1]) + 1}", self.text)

    def bind(self, values: Mapping[str, object]) -> tuple[object, ...]:
        """The values in order. Raises ValueError where names are missing or left over: that is a bug."""
        if set(values) != set(self.parameters):
            raise ValueError(f"query {self.name}: {sorted(set(values) ^ set(self.parameters))} do not match")
        return tuple(values[name] for name in self.parameters)


def load_queries(name: str) -> Mapping[str, Query]:
    """The queries of `sql/<name>.sql`."""
    parts = _HEAD.split((DIRECTORY / f"{name}.sql").read_text("utf-8"))
    queries = {}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        queries[title] = Query(title, text.strip(), tuple(dict.fromkeys(_PARAMETER.findall(text))))
    return queries
