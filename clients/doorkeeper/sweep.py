"""Putting away what a crash left half-done: a layer that was being received, and whatever of ours has a name that begins with a dot."""

from __future__ import annotations

import shutil
from pathlib import Path

from .files import Place, Unreadable, sync_directory


def sweep(place: Place) -> None:
    """Called with the lock held, so that nobody is at work there. Raises `Unreadable` where something cannot be put away."""
    try:
        for layer in _entries(place.incoming):
            layer.unlink()
        for directory in (place.var, place.var / "current", place.var / "processes", place.forks, *_entries(place.var / "settings")):
            for draft in filter(_is_draft, _entries(directory)):
                draft.unlink()
        for component in (*_entries(place.var / "releases"), *_entries(place.var / "artifacts")):
            for draft in filter(_is_draft, _entries(component)):
                _put_away(draft)
    except OSError as error:
        raise Unreadable(f"what a crash left behind cannot be put away: {error.strerror}") from error


def _put_away(draft: Path) -> None:
    # `unpack` replaces a release by two renames; where the crash fell between them, the old one is the only one there is.
    release = draft.with_name(draft.name[1:].rpartition(".")[0])
    if draft.suffix == ".old" and not release.exists():
        draft.rename(release)
        sync_directory(release.parent)
    else:
        shutil.rmtree(draft)


def _is_draft(path: Path) -> bool:
    return path.name.startswith(".")


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []
