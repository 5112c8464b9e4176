"""The very bytes of artifacts that were healthy here, kept so that they can be started again when nobody can send them.

A release directory is the workload's to write into, so it is no evidence of what was deployed. Manifest, config and layer are kept beside it and
hashed again, from the digest that people signed, before anything of them is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from gatekeeper.model.digest import Digest, digest_hex, digest_of

from .artifact import MAX_CONFIG, MAX_MANIFEST, MalformedArtifact, Run, parse_config, parse_manifest
from .files import Place, Unreadable, make_private, read_bounded, sync_directory, write_durably
from .state import ComponentMemory, Release

_CHUNK = 1 << 20


def keep_artifact(place: Place, component: str, manifest: bytes, config: bytes, layer: Path) -> None:
    """Keep checked bytes; `layer` is moved. Raises `OSError`; what was kept of the same digest is replaced."""
    destination = place.kept(component, digest_hex(digest_of(manifest)))
    make_private(destination.parent)
    fresh = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        write_durably(fresh / "manifest.json", manifest)
        write_durably(fresh / "config.json", config)
        descriptor = os.open(layer, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        layer.rename(fresh / "layer.tar")
        sync_directory(fresh)
        shutil.rmtree(destination, ignore_errors=True)
        fresh.rename(destination)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync_directory(destination.parent)


def is_kept(place: Place, component: str, artifact: Digest) -> bool:
    """Whether there is something under that digest; what it is worth `open_kept` says."""
    return place.kept(component, digest_hex(artifact)).is_dir()


def open_kept(place: Place, component: str, artifact: Digest) -> tuple[Run, Path]:
    """How the artifact runs, and its layer's file, every byte hashed. Raises `Unreadable` where they are not those of the digest."""
    folder = place.kept(component, digest_hex(artifact))
    manifest = read_bounded(folder / "manifest.json", MAX_MANIFEST)
    config, layer = read_bounded(folder / "config.json", MAX_CONFIG), folder / "layer.tar"
    if digest_of(manifest) != artifact:
        raise Unreadable("the kept manifest is not the artifact's")
    try:
        contents, run = parse_manifest(manifest), parse_config(config)
    except MalformedArtifact as error:
        raise Unreadable(f"the kept artifact: {error}") from error
    if digest_of(config) != contents.config.digest or _hash(layer) != contents.layer.digest or run.component != component:
        raise Unreadable("the kept config or layer is not the one that the manifest names")
    return run, layer


def forget_all_but(place: Place, component: str, memory: ComponentMemory, adopted: Release | None) -> None:
    """Let old bytes go; what is kept on purpose, or runs, stays: releases, artifacts, and the settings they ran with."""
    stay = [(kept.artifact, kept.receipt) for kept in memory.kept]
    stay += [(release.artifact, release.receipt) for release in (memory.healthy, adopted) if release is not None]
    artifacts, receipts = {digest_hex(artifact) for artifact, _ in stay}, {digest_hex(receipt) for _, receipt in stay}
    for folder in (place.release(component, "x").parent, place.kept(component, "x").parent):
        for directory in _children(folder):
            if directory.name not in artifacts:
                shutil.rmtree(directory, ignore_errors=True)
    for file in _children(place.settings(component, "x").parent):
        if file.name not in receipts:
            file.unlink(missing_ok=True)


def _children(directory: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(directory)] if directory.is_dir() else []


def _hash(path: Path) -> Digest:
    hashed = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror}") from error
    return Digest(f"sha256:{hashed.hexdigest()}")
