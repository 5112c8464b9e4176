"""What Zuul's REST API says of one build: `GET /api/tenant/TENANT/build/UUID`, read for the token that names the build.

Zuul's tokens name a build and no commit. What the build is for stands flat in the answer of older versions, and under `ref` in that of newer ones.
A secret's token names the project that *owns* the secret, and a job may run for another one: so the build's own project is compared as well.
A commit is known where a ref was updated (`newrev`: a branch moved, a tag was set). A change under review is merged with others by Zuul, into
commits that nobody else ever sees; such a build names none, and nothing can be bound to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import quote

from gatekeeper.model.caller import RunCaller
from gatekeeper.model.fields import Fields
from gatekeeper.model.issuer import Platform
from gatekeeper.model.strictjson import parse_foreign_object

from .platform import NotAdmitted, demand_commit_or_leave

MAX_BUILD: Final = 256 * 1024
_REFS: Final = ("refs/heads/", "refs/tags/")


def build_url(caller: RunCaller, platform: Platform) -> str:
    """Where the token's build is looked up."""
    tenant, _, _ = caller.project_id.partition("/")
    return f"{platform.builds_url}/api/tenant/{quote(tenant, safe='')}/build/{quote(caller.run, safe='')}"


def read_build(answer: bytes, caller: RunCaller, platform: Platform) -> RunCaller:
    """The caller with the commit and ref of its build.

    Raises `NotAdmitted` for a build that is not the token's, is over, or names no commit where the policy takes none without;
    `MalformedJson` and `FieldError` for an answer of another form.
    """
    build = Fields(parse_foreign_object(answer, max_bytes=MAX_BUILD))
    of = build.nested("ref") if isinstance(build.raw("ref"), dict) else build
    tenant, _, canonical = caller.project_id.partition("/")
    if build.text("uuid") != caller.run:
        raise build.error("uuid", "is another build's than was asked for")
    if f"{tenant}/{build.text('pipeline')}/{build.text('job_name')}" != caller.recipe:
        raise NotAdmitted("the token's build runs another job, or in another pipeline, than its token says")
    if of.text("project", max_length=1024) != canonical.partition("/")[2]:
        raise NotAdmitted("the token's build is for another project than the one whose secret the token is")
    if build.has("result"):
        raise NotAdmitted("the token's build is over")
    commit, ref = _commit(of)
    demand_commit_or_leave(commit, platform)
    return replace(caller, commit=commit, ref=ref)


def _commit(of: Fields) -> tuple[str, str]:
    if of.has("change") or not of.has("newrev"):
        return "", ""
    commit, ref = of.commit("newrev"), of.text("ref", max_length=300)
    if not commit.strip("0"):
        raise NotAdmitted("the token's build is for a ref that was deleted")
    if not ref.startswith(_REFS):
        raise of.error("ref", "is no branch and no tag")
    return commit, ref

