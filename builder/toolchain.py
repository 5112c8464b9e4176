"""The programs of a declared type, found on this builder and shown inside as the first directory of PATH: `go` is the version asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from .fault import BuildFault
from .languages import Wanted
from .runner import Surroundings
from .sandbox import PATH, Bind

INSIDE: Final = "/run/toolchain"


def find_programs(wanted: Wanted, is_program: Callable[[str], bool]) -> dict[str, str]:
    """Where each program of the type is; raises `BuildFault` `toolchain-missing` for the first that is nowhere."""
    found = {}
    for program, places in wanted.places().items():
        place = next(filter(is_program, places), None)
        if place is None:
            named = wanted.name if wanted.version is None else f"{wanted.name}-{wanted.version}"
            raise BuildFault("toolchain-missing", f"type {named} needs {' or '.join(places)}, which this builder does not have")
        found[program] = place
    return found


def shown(wanted: Wanted, programs: Mapping[str, str], keep: Path) -> Surroundings:
    """What of this machine the type's programs need beside /usr, all read-only.

    Programs that PATH would not find by itself are links in a directory of the worker's; they lead into /usr.
    """
    settings = [Bind(path, str(path)) for pattern in wanted.language.settings for path in sorted(Path("/").glob(pattern.removeprefix("/")))]
    links = {program: place for program, place in programs.items() if place != f"/usr/bin/{program}"}
    if not links:
        return Surroundings(binds=settings)
    directory = keep / "toolchain"
    directory.mkdir(mode=0o755)
    for program, place in links.items():
        (directory / program).symlink_to(place)
    return Surroundings(environment={"PATH": f"{INSIDE}:{PATH}"}, binds=(*settings, Bind(directory, INSIDE)))
