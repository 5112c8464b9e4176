"""`make bench`: runs the benchmarks and prints a table, or with `-o json` one document. Exit 1 when a bar is missed."""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.bench.registry import Bench, Figure, load_benches


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    chosen = [one for one in load_benches() if any(name.startswith(options.only) for name in one.names)]
    if not chosen:
        known = " ".join(sorted(name for one in load_benches() for name in one.names))
        print(f"no benchmark is called {options.only}...; there are: {known}", file=sys.stderr)
        return 1
    figures = [figure for one in chosen for figure in measured(one) if figure.bench.startswith(options.only)]
    if options.output == "json":
        print(json.dumps([as_document(figure) for figure in figures], indent=1))
    else:
        print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}; ratio = value / bare cost of the same run")
        print("\n".join(as_table(figures)))
    return 0 if all(figure.ok for figure in figures) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", default="", metavar="PREFIX", help="benchmarks whose name begins so (make bench BENCH=PREFIX)")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table")
    return parser.parse_args(arguments)


def measured(one: Bench) -> list[Figure]:
    """Run it; a bench that gives other figures than it promised would make `bench:NAME` in requirements.toml a lie."""
    print(f"measuring {', '.join(one.names)}", file=sys.stderr)
    figures = one.measure()
    if sorted(figure.bench for figure in figures) != sorted(one.names):
        raise RuntimeError(f"promised {one.names}, gave {[figure.bench for figure in figures]}")
    return figures


def as_document(figure: Figure) -> dict[str, str | float | bool | None]:
    return {
        "bench": figure.bench,
        "value": figure.value,
        "unit": figure.unit,
        "baseline": figure.baseline,
        "ratio": figure.ratio,
        "bar": None if figure.bar is None else str(figure.bar),
        "ok": figure.ok,
    }


def as_table(figures: list[Figure]) -> list[str]:
    rows = [("bench", "value", "unit", "bare cost", "ratio", "bar", "")]
    for figure in figures:
        verdict = "" if figure.bar is None else "ok" if figure.ok else "MISSED"
        numbers = [_number(figure.value), figure.unit, _number(figure.baseline), _number(figure.ratio)]
        rows.append((figure.bench, *numbers, str(figure.bar or ""), verdict))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _number(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
