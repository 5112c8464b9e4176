"""How provenance names a source: ``[git+]REPOSITORY[@REF]`` (SPDX download location; SLSA v1.0, provenance)."""

from __future__ import annotations


def split_source(uri: str) -> tuple[str, str | None]:
    """A source without one leading ``git+``, and the ref after its last ``@``. Nothing is normalised: two spellings are two sources."""
    bare = uri.removeprefix("git+")
    source, at, ref = bare.rpartition("@")
    return (source, ref) if at else (bare, None)
