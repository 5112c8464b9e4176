"""`pingee-doorkeeper adopt`: keep what runs here, put there by other means, so that it can be put back. The process is not touched.

An admin at the host runs it, who could put anything there without us; so it asks for no receipt, and gives none. The order, and what a crash at
each point means:

1. the directory is packed as an artifact of our own format, unpacked again within this target's bounds, and kept: nothing refers to it yet;
2. the process that runs it is put on record, and asked for its health; one that is not healthy is not adopted;
3. the record says so, then the state does: from here `status` tells the digest, and a failed first deploy puts these bytes back.

At the first switch the process on record is ended like any other; a component with a restart command is left to that command.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gatekeeper.model.digest import digest_hex, digest_of

from .apply import Doorkeeper
from .artifact import MalformedArtifact, parse_config
from .files import Unreadable, make_private, read_bounded, switch_link, write_durably
from .keep import keep_artifact
from .pack import NotPacked, encode_config, encode_manifest, pack_directory
from .settings import parse_settings
from .state import Memory, Release, save_memory
from .target import ComponentSlot
from .unpack import UnsafeArchive, unpack_layer
from .workload import MAX_SETTINGS, adopt_process, wait_healthy

_MAX_PID_FILE: Final = 64


class NotAdopted(Exception):
    """Nothing was adopted; the message says why, and what to do."""


@dataclass(frozen=True)
class Adoption:
    """What an admin says runs here."""

    component: str
    directory: Path
    argv: tuple[str, ...]
    health: str
    grace_s: int
    pid_file: Path | None
    settings: Path | None


def adopt(door: Doorkeeper, wanted: Adoption, memory: Memory) -> Release:
    """Keep it. Raises `NotAdopted`, and `Unreadable` for files of our own."""
    slot = _slot(door, wanted, memory)
    try:
        settings = b"" if wanted.settings is None else read_bounded(wanted.settings, MAX_SETTINGS)
        parse_settings(settings)
    except (Unreadable, ValueError) as error:
        raise NotAdopted(str(error)) from error
    release = _keep(door, slot, wanted, settings)
    try:
        _take_on(door, slot, wanted, release)
        door.record.append(door.now(), "adopted", {"component": slot.name, "artifact": release.artifact})
        save_memory(door.place, replace(memory, adopted=tuple(sorted({**dict(memory.adopted), slot.name: release}.items()))))
    except BaseException:
        door.place.process(slot.name).unlink(missing_ok=True)
        raise
    return release


def _slot(door: Doorkeeper, wanted: Adoption, memory: Memory) -> ComponentSlot:
    slot = door.pinned.target.component(wanted.component)
    if slot is None:
        raise NotAdopted(f"{wanted.component}: no such component in target.toml; add it there first")
    if memory.component(slot.name) is not None:
        raise NotAdopted(f"{slot.name} was deployed here by receipt; what ran is known, and nothing is left to adopt")
    if slot.name in dict(memory.adopted):
        raise NotAdopted(f"{slot.name} was adopted here before; see: pingee-doorkeeper status")
    if bool(slot.restart) == (wanted.pid_file is not None):
        need = "it has a restart command, which ends it: leave --pid-file out" if slot.restart else "name the process that runs it with --pid-file"
        raise NotAdopted(f"{slot.name}: {need}")
    return slot


def _keep(door: Doorkeeper, slot: ComponentSlot, wanted: Adoption, settings: bytes) -> Release:
    place, caps = door.place, door.pinned.target.caps
    layer = place.incoming / secrets.token_hex(16)
    make_private(layer.parent)
    try:
        packed = pack_directory(wanted.directory, layer, caps)
        config = encode_config(slot.name, argv=wanted.argv, health=wanted.health, grace_s=wanted.grace_s)
        run = parse_config(config)
        manifest = encode_manifest(config, packed)
        artifact = digest_of(manifest)
        unpack_layer(layer, place.release(slot.name, digest_hex(artifact)), caps, beat=door.beat("unpacking"))
        path = place.settings(slot.name, digest_hex(artifact))
        make_private(path.parent)
        write_durably(path, settings)
        keep_artifact(place, slot.name, manifest, config, layer)
    except (NotPacked, UnsafeArchive, MalformedArtifact) as error:
        raise NotAdopted(str(error)) from error
    except OSError as error:
        raise NotAdopted(f"{error.filename or wanted.directory}: {error.strerror}") from error
    finally:
        layer.unlink(missing_ok=True)
    return Release(artifact, artifact, None, run.argv, run.health, min(run.grace_s, caps.grace_s))


def _take_on(door: Doorkeeper, slot: ComponentSlot, wanted: Adoption, release: Release) -> None:
    if wanted.pid_file is None:
        # The unit goes on from where it runs; at its next restart, which the first deploy brings, it runs from the link.
        make_private(door.place.current(slot.name).parent)
        switch_link(door.place.current(slot.name), door.place.release(slot.name, digest_hex(release.artifact)))
        switch_link(door.place.current(slot.name).with_name(f"{slot.name}.env"), door.place.settings(slot.name, digest_hex(release.receipt)))
    else:
        problem = adopt_process(door.place, slot.name, _pid(wanted.pid_file), release.artifact)
        if problem is not None:
            raise NotAdopted(problem)
    problem = wait_healthy(door.place, slot, release, beat=door.beat("health"))
    if problem is not None:
        raise NotAdopted(f"what runs is not adopted unless it is healthy: {problem}")


def _pid(file: Path) -> int:
    try:
        text = read_bounded(file, _MAX_PID_FILE).decode("ascii").strip()
    except (Unreadable, ValueError) as error:
        raise NotAdopted(str(error)) from error
    if not text.isdecimal() or int(text) < 2:
        raise NotAdopted(f"{file.name}: holds no process id")
    return int(text)
