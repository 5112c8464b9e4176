"""What is printed. stdout carries data and nothing else; stderr carries talk (interfaces, 1.3)."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence

# Separators between lines and paragraphs; Cc, Cf (bidi among them), Cs, Co and Cn are what begins with C.
_LINES = frozenset({"Zl", "Zp"})


def safe(text: object) -> str:
    """Text from outside with control, bidi and format characters escaped: a branch name must not move the cursor."""
    shown = "" if text is None else str(text)
    return "".join(c.encode("unicode_escape").decode() if _moves(c) else c for c in shown)


def print_json(document: object) -> None:
    """One JSON document on stdout. What would move a cursor stands in its strings as a JSON escape: the same document, safe to look at."""
    text = json.dumps(document, ensure_ascii=not _encoding().lower().startswith("utf"), indent=2, sort_keys=True)
    sys.stdout.write("".join(json.dumps(c)[1:-1] if c != "\n" and _moves(c) else c for c in text) + "\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns on stdout; every cell escaped."""
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(headings)]
    for row in ([*headings], *cells):
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Names and values on stdout, one a line."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        _print(f"{safe(name).ljust(width)}  {safe(value)}")


def say(sentence: str) -> None:
    """Talk, on stderr: one line, escaped, since a server's words may be in it."""
    print(safe(sentence), file=sys.stderr)


def _print(line: str) -> None:
    encoding = _encoding()
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"


def _moves(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in _LINES


def origin_word(commit: str | None) -> str:
    """How a table tells what the bytes come from: the commit's beginning, or that no build of ours made them."""
    return "adopted, not built by CI" if commit is None else commit[:12]
