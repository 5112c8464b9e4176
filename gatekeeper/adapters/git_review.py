"""The embedded review system: what a project's own git says about a commit (`formats.md` 4). Votes come from elsewhere, signed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Generic, TypeVar

from gatekeeper.model.digest import is_commit
from gatekeeper.model.evidence import Absent, Evidence, Present, Unreadable
from gatekeeper.model.facts import Revision
from gatekeeper.model.moment import moment
from gatekeeper.ports.errors import PortError, Unavailable

from .git import GitRunner, Mirror

REFSPECS: Final = ("+refs/heads/*:refs/heads/*", "+refs/changes/*:refs/changes/*")
INTERVAL_S: Final = 1.0
REMEMBERED: Final = 4096
_CAUSE: Final = "vcs-unavailable"

T = TypeVar("T")

_CHANGE_ID: Final = re.compile(r"Change-Id:[ \t]*(I[0-9a-f]{40})[ \t]*")
_PERSON: Final = re.compile(rb"[^<>\n]*<([^<>\n]*)> ([0-9]{1,12}) [+-][0-9]{4}")
_FAR: Final = 253402300799  # 9999-12-31T23:59:59Z


class GitReview:
    """`ports.review.Review` over mirrors of the projects' repositories. `clock` gives seconds that only grow.

    Known is what a branch or a change of the repository reaches, not what an older fetch once brought: a commit that was pushed away is
    Absent. Absent is said only after a fetch that began after the question.
    """

    def __init__(self, git: GitRunner, *, clock: Callable[[], float], interval_s: float = INTERVAL_S) -> None:
        self._git = git
        self._clock = clock
        self._interval_s = interval_s
        self._mirrors: dict[str, Mirror] = {}
        self._commits: _Remembered[bytes] = _Remembered()
        self._ancestry: _Remembered[bool] = _Remembered()

    async def revision(self, project: str, repository: str, commit: str) -> Evidence[Revision]:
        """See `Review.revision`. A text that is no full object id is Absent."""
        if not is_commit(commit):
            return Absent()
        try:
            mirror = self._mirror(repository)
            if not await _reaches(mirror, commit):
                await mirror.fetch(unless=partial(_reaches, mirror, commit))
                if not await _reaches(mirror, commit):
                    return Absent()
            data = await self._commits.get((repository, commit), lambda: mirror.commit_bytes(commit))
            return Present(_revision(project, commit, data))
        except PortError as error:
            return Unreadable(_CAUSE, error.detail)

    async def is_older(self, project: str, repository: str, commit: str, than: str) -> Evidence[bool]:  # noqa: ARG002 -- the port's signature
        """See `Review.is_older`. History is asked for held commits, also where no branch reaches them any more."""
        if not (is_commit(commit) and is_commit(than)):
            return Absent()
        try:
            mirror = self._mirror(repository)
            if (repository, commit, than) not in self._ancestry and not await _holds_both(mirror, commit, than):
                await mirror.fetch(unless=partial(_holds_both, mirror, commit, than))
                if not await _holds_both(mirror, commit, than):
                    return Absent()
            older = await self._ancestry.get((repository, commit, than), lambda: mirror.is_ancestor(commit, than))
            return Present(commit != than and older)
        except PortError as error:
            return Unreadable(_CAUSE, error.detail)

    def _mirror(self, repository: str) -> Mirror:
        if repository not in self._mirrors:
            self._mirrors[repository] = Mirror(self._git, repository, REFSPECS, clock=self._clock, interval_s=self._interval_s)
        return self._mirrors[repository]


class _Remembered(Generic[T]):
    """Answers that cannot change, because what was asked is named by content: at most `REMEMBERED` of them, the oldest forgotten first.

    What a repository *knows* is never remembered: a commit that was pushed away must be Absent at the next question.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, ...], T] = {}

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self._answers

    async def get(self, key: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        if key not in self._answers:
            answer = await ask()
            if len(self._answers) >= REMEMBERED:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = answer
        return self._answers[key]


async def _holds_both(mirror: Mirror, commit: str, than: str) -> bool:
    return await mirror.holds(commit) and await mirror.holds(than)


async def _reaches(mirror: Mirror, commit: str) -> bool:
    result = await mirror.run("for-each-ref", "--count=1", f"--contains={commit}", "--format=%(refname)")
    if result.status != 0:
        # git refuses an object it does not have with the same words as a damaged repository: ask which it was.
        if await mirror.holds(commit):
            raise Unavailable(_CAUSE, "the references cannot be read")
        return False
    return result.stdout != b""


@dataclass(frozen=True)
class CommitHeader:
    """The head of a raw commit object, in the order git writes it."""

    tree: str
    parents: tuple[str, ...]
    author: str
    committer: str
    committed: int
    """seconds since 1970, UTC"""
    message: str


def parse_commit(data: bytes) -> CommitHeader:
    """Read a raw commit object strictly: tree, parents, author, committer, once each and in this order (gitformat-commit).

    Raises `Unavailable("vcs-unavailable")`: a commit that tools read differently is nothing to decide on.
    """
    head, _, message = data.partition(b"\n\n")
    lines = head.split(b"\n")
    tree = _object_line(lines, b"tree ")
    parents = []
    while lines and lines[0].startswith(b"parent "):
        parents.append(_object_line(lines, b"parent "))
    author, _ = _person_line(lines, b"author ")
    committer, committed = _person_line(lines, b"committer ")
    if any(line.split(b" ")[0] in {b"tree", b"parent", b"author", b"committer"} for line in lines):
        raise Unavailable(_CAUSE, "a member stands twice in the commit")
    return CommitHeader(tree, tuple(parents), author, committer, committed, message.decode("utf-8", "replace"))


def change_of(message: str, commit: str) -> str:
    """The last `Change-Id` trailer (`I` and 40 hex digits) of the last paragraph, which is not the subject's; else the commit."""
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", message.strip("\n")) if part.strip()]
    found = [match[1] for line in paragraphs[-1].split("\n") if (match := _CHANGE_ID.fullmatch(line))] if len(paragraphs) > 1 else []
    return found[-1] if found else commit


def _revision(project: str, commit: str, data: bytes) -> Revision:
    header = parse_commit(data)
    subject = header.message.strip("\n").partition("\n")[0]
    return Revision(
        project=project,
        change=change_of(header.message, commit),
        commit=commit,
        tree=header.tree,
        author=header.author,
        committer=header.committer,
        committed=moment(datetime.fromtimestamp(header.committed, UTC)),
        subject="".join(c if c.isprintable() else "\ufffd" for c in subject)[:200],
    )


def _object_line(lines: list[bytes], prefix: bytes) -> str:
    line = lines.pop(0) if lines else b""
    text = line.removeprefix(prefix).decode("ascii", "replace")
    if not line.startswith(prefix) or not is_commit(text):
        raise Unavailable(_CAUSE, f"the commit has no {prefix.decode().strip()} where it belongs")
    return text


def _person_line(lines: list[bytes], prefix: bytes) -> tuple[str, int]:
    line = lines.pop(0) if lines else b""
    match = _PERSON.fullmatch(line.removeprefix(prefix))
    if not line.startswith(prefix) or match is None or int(match[2]) > _FAR:
        raise Unavailable(_CAUSE, f"the commit's {prefix.decode().strip()} is malformed")
    return match[1].decode("utf-8", "replace"), int(match[2])
