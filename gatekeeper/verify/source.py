"""How provenance names a source: ``[git+]REPOSITORY[@REF]`` (SPDX download location; SLSA v1.0, provenance)."""

from __future__ import annotations


def split_source(uri: str) -> tuple[str, str | None]:
    """A source without one leading ``git+``, and the ref after its last ``@``. Nothing is normalised: two spellings are two sources.

    An ``@`` before the path begins is no ref's: it ends the user's name in ``ssh://git@host/path``, which is ASCII (RFC 3986, 3.2.1).
    """
    bare = uri.removeprefix("git+")
    source, _, ref = bare.rpartition("@")
    before = source.rpartition("://")[2]
    return (bare, None) if "/" not in before and before.isascii() else (source, ref)
