"""How provenance names a source, ``[git+]REPOSITORY[@REF]`` (SPDX download location; SLSA v1.0, provenance), and a run of that source."""

from __future__ import annotations

import re
from typing import Final

_GITHUB_RUN: Final = re.compile(r"/actions/runs/([1-9][0-9]{0,19})/attempts/([1-9][0-9]{0,9})", re.ASCII)
_GITLAB_JOB: Final = re.compile(r"/-/jobs/([1-9][0-9]{0,19})", re.ASCII)


def split_source(uri: str) -> tuple[str, str | None]:
    """A source without one leading ``git+``, and the ref after its last ``@``. Nothing is normalised: two spellings are two sources.

    An ``@`` before the path begins is no ref's: it ends the user's name in ``ssh://git@host/path``, which is ASCII (RFC 3986, 3.2.1).
    """
    bare = uri.removeprefix("git+")
    source, _, ref = bare.rpartition("@")
    before = source.rpartition("://")[2]
    return (bare, None) if "/" not in before and before.isascii() else (source, ref)


def run_of(repository: str, invocation: str) -> str:
    """An invocation as the platform's tokens name the run (`gatekeeper.verify.platform`), where it is a URI of GitHub's or GitLab's form.

    Below that very repository alone; anything else stays as it is.
    """
    if repository and invocation.startswith(repository):
        rest = invocation[len(repository) :]
        if github := _GITHUB_RUN.fullmatch(rest):
            return f"{github[1]}-{github[2]}"
        if gitlab := _GITLAB_JOB.fullmatch(rest):
            return gitlab[1]
    return invocation
