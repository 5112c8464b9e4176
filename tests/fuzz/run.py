"""Long runs of the fuzz targets: `make fuzz`, `make fuzz FUZZ=bundle SECONDS=600`. Ends with 1 at the first fault, whose bytes it prints.

  python -m tests.fuzz.run [NAME ...] [--seconds N] [--seed N]     N seconds for all of them together; a printed seed begins the same run again
  python -m tests.fuzz.run NAME --bytes BASE64                     one reading of these bytes
"""

from __future__ import annotations

import argparse
import base64
import secrets
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS, Fault, check

ROUND = 500
"""examples between two looks at the clock"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--bytes", help="base64")
    given_words = parser.parse_args(arguments)
    names = given_words.names or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no such target: {', '.join(unknown)}")
    if given_words.bytes is not None:
        print("taken" if check(names[0], base64.b64decode(given_words.bytes, validate=True)) else "refused")
        return 0
    first = secrets.randbits(32) if given_words.seed is None else given_words.seed
    print(f"seed {first}", flush=True)
    try:
        for name in names:
            fuzz(name, given_words.seconds / len(names), first)
    except Fault as fault:
        print(f"FAULT: {fault}", file=sys.stderr)
        return 1
    return 0


def fuzz(name: str, seconds: float, first: int) -> None:
    """Read changed bytes for so long, and at least one round; prints how many were taken."""
    target, outcomes, rounds, began = TARGETS[name], Counter(), 0, time.monotonic()
    strategy = target.change(list(target.seeds()))
    while rounds == 0 or time.monotonic() - began < seconds:

        @seed(first + rounds)
        @settings(
            max_examples=ROUND, database=None, deadline=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck), print_blob=False
        )
        @given(strategy)
        def readings(data: bytes) -> None:
            outcomes[check(name, data)] += 1

        readings()
        rounds += 1
    print(f"{name}: {outcomes.total()} readings, {outcomes[True]} taken, no fault", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
