"""`adapters.git_review` over real git: what a repository says about a commit, and what the hardened runner does not do."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from gatekeeper.adapters.git import MAX_OUTPUT, GitAccess, Mirror, open_git, parse_remote
from gatekeeper.adapters.git_review import REFSPECS, GitReview, change_of, parse_commit
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.ports.errors import Rejected, Unavailable
from tests.fakes.git_repositories import Repository

pytestmark = pytest.mark.anyio

CHANGE = "I" + "0123456789" * 4


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "hello")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def review(tmp_path, clock):
    return GitReview(open_git(tmp_path / "state"), clock=clock, interval_s=1.0)


async def test_a_commit_is_told_as_git_has_it(repository, review):
    commit = repository.commit({"a": "1"}, f"Greet politely\n\nBody.\n\nChange-Id: {CHANGE}\n")
    found = await review.revision("hello", str(repository.path), commit)
    assert isinstance(found, Present)
    value = found.value
    assert (value.project, value.commit, value.change, value.subject) == ("hello", commit, CHANGE, "Greet politely")
    assert value.tree == repository.git("rev-parse", "HEAD^{tree}")
    assert (value.author, value.committer) == ("alice@example.org", "carol@example.org")
    assert value.committed == datetime(2026, 11, 21, 10, tzinfo=UTC)


async def test_a_new_commit_is_fetched_and_an_unknown_one_is_absent(repository, review, clock):
    url = f"file://{repository.path}"
    first = repository.commit({"a": "1"})
    assert isinstance(await review.revision("hello", url, first), Present)
    second = repository.commit({"a": "2"})
    clock.now += 5
    assert isinstance(await review.revision("hello", url, second), Present)
    clock.now += 5
    assert await review.revision("hello", url, "0" * 40) == Absent()


async def test_a_question_within_the_interval_waits_for_a_fetch_of_its_own(repository, review, clock, monkeypatch):
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    first = repository.commit({"a": "1"})
    assert isinstance(await review.revision("hello", str(repository.path), first), Present)
    second = repository.commit({"a": "2"})
    monkeypatch.setattr(trio, "sleep", sleep)
    assert isinstance(await review.revision("hello", str(repository.path), second), Present)
    assert len(waits) == 1
    assert 0.9 < waits[0] <= 1.0


async def test_a_commit_that_was_pushed_away_is_absent(repository, review, clock):
    base = repository.commit({"a": "1"})
    gone = repository.commit({"a": "2"})
    assert isinstance(await review.revision("hello", str(repository.path), gone), Present)
    repository.git("reset", "-q", "--hard", base)
    new = repository.commit({"a": "3"})
    clock.now += 5
    assert isinstance(await review.revision("hello", str(repository.path), new), Present)
    clock.now += 5
    assert await review.revision("hello", str(repository.path), gone) == Absent()


async def test_changes_are_fetched_and_other_references_are_not(repository, review, clock):
    base = repository.commit({"a": "1"})
    patchset, hidden = repository.commit({"a": "2"}), repository.commit({"a": "3"})
    repository.git("update-ref", "refs/changes/01/1/1", patchset)
    repository.git("update-ref", "refs/hidden/1", hidden)
    repository.git("reset", "-q", "--hard", base)
    assert isinstance(await review.revision("hello", str(repository.path), patchset), Present)
    clock.now += 5
    assert await review.revision("hello", str(repository.path), hidden) == Absent()


@pytest.mark.parametrize("text", ["HEAD", "main", "", "0" * 39, "--upload-pack=touch /tmp/x", "0" * 40 + "\n", "A" * 40])
async def test_no_text_but_a_full_object_id_reaches_git(tmp_path, review, text):
    assert await review.revision("hello", str(tmp_path / "nowhere"), text) == Absent()
    assert await review.is_older("hello", str(tmp_path / "nowhere"), text, "0" * 40) == Absent()
    assert not (tmp_path / "state" / "mirrors").exists()


async def test_a_tree_is_no_commit(repository, review):
    repository.commit({"a": "1"})
    assert await review.revision("hello", str(repository.path), repository.git("rev-parse", "HEAD^{tree}")) == Absent()


async def test_older_is_a_strict_ancestor(repository, review, clock):
    base = repository.commit({"a": "1"})
    tip = repository.commit({"a": "2"})
    repository.git("checkout", "-q", "-b", "side", base)
    side = repository.commit({"a": "3"})
    url = str(repository.path)
    assert await review.is_older("hello", url, base, tip) == Present(True)
    assert await review.is_older("hello", url, tip, base) == Present(False)
    assert await review.is_older("hello", url, tip, tip) == Present(False)
    assert await review.is_older("hello", url, side, tip) == Present(False)
    clock.now += 5
    assert await review.is_older("hello", url, tip, "1" * 40) == Absent()


async def test_a_repository_that_is_away_is_unreadable(tmp_path, review):
    found = await review.revision("hello", str(tmp_path / "nowhere"), "0" * 40)
    assert isinstance(found, Unreadable)
    assert found.cause == "vcs-unavailable"


REFUSED = ["ext::sh -c id", "git://host/x", "http://host/x", "-upload-pack=x", "host:path", "https://user:secret@host/x"]
REFUSED += ["ssh://-oProxyCommand=x/y", "file://host/x", "https://h/x?y", "/a b", "https:///x", "https://[x/y"]


@pytest.mark.parametrize("remote", REFUSED)
async def test_other_transports_and_credentials_are_refused_without_being_shown(review, remote):
    found = await review.revision("hello", remote, "0" * 40)
    assert isinstance(found, Unreadable)
    assert "secret" not in found.detail
    with pytest.raises(Rejected):
        parse_remote(remote)


def test_three_transports_are_taken():
    assert parse_remote("/srv/x.git") == "file:///srv/x.git"
    for remote in ("file:///srv/x.git", "https://git.example.org/x.git", "ssh://git@git.example.org:2222/x.git"):
        assert parse_remote(remote) == remote


async def test_replace_references_of_the_remote_change_nothing(repository, review):
    commit = repository.commit({"a": "1"}, "true")
    repository.git("replace", commit, repository.commit({"a": "2"}, "false"))
    repository.git("push", "-q", str(repository.path), "refs/replace/*:refs/heads/replace/*")
    found = await review.revision("hello", str(repository.path), commit)
    assert isinstance(found, Present)
    assert found.value.subject == "true"


async def test_nothing_of_the_machine_is_read_and_no_hook_runs(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    git = open_git(tmp_path / "state")
    origins = {line.split("\t")[0] for line in (await git.run("config", "--list", "--show-origin")).stdout.decode().splitlines()}
    assert origins == {f"file:{git.state}/gitconfig"}
    shown = (await git.run("-c", "alias.env=!env", "env")).stdout.decode()
    assert "s3cret" not in shown
    assert "/nonexistent" not in shown
    commit = repository.commit({"a": "1"})
    mirror = Mirror(git, str(repository.path), REFSPECS, clock=Clock(), interval_s=0)
    await mirror.fetch()
    hook = mirror._path / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    repository.commit({"a": "2"})
    await mirror.fetch()
    assert await mirror.holds(commit)
    assert not (tmp_path / "ran").exists()


async def test_a_repository_of_another_user_is_read_because_it_is_configured(repository, review):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    commit = repository.commit({"a": "1"})
    for path in [repository.path, *repository.path.rglob("*")]:
        os.chown(path, 62000, 62000)
    assert isinstance(await review.revision("hello", str(repository.path), commit), Present)


async def test_a_command_has_a_deadline_and_its_children_end(tmp_path):
    git = open_git(tmp_path / "state")
    with trio.fail_after(30), pytest.raises(Unavailable, match="took more than"):
        await git.run("-c", f"alias.wait=!echo $$ > {tmp_path}/pid; sleep 60; true", "wait", deadline_s=0.5)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_output_is_bounded(tmp_path):
    git = open_git(tmp_path / "state")
    with trio.fail_after(30), pytest.raises(Unavailable, match="printed more than"):
        await git.run("-c", "alias.talk=!yes", "talk", max_output=MAX_OUTPUT)


async def test_a_quotation_mark_in_a_path_for_ssh_is_refused(tmp_path):
    with pytest.raises(Unavailable, match="quotation mark"):
        open_git(tmp_path / "state", GitAccess(ssh_key=tmp_path / "k' -o ProxyCommand='x"))


async def test_callers_share_one_fetch_that_begins_after_they_asked(repository, tmp_path):
    repository.commit({"a": "1"})
    mirror = Mirror(open_git(tmp_path / "state"), str(repository.path), REFSPECS, clock=Clock(), interval_s=1000)
    await mirror._make()
    async with trio.open_nursery() as nursery, mirror._lock:
        for _ in range(3):
            nursery.start_soon(mirror.fetch)  # a second fetch within the interval would raise
        await trio.testing.wait_all_tasks_blocked()
    assert await mirror.holds(repository.git("rev-parse", "HEAD"))


async def test_a_question_asked_while_a_fetch_runs_is_answered_by_what_it_brings(repository, tmp_path):
    """A new commit is asked for twice at once, for its revision and for its age: the second does not wait for a fetch of its own."""
    first = repository.commit({"a": "1"})
    review = GitReview(open_git(tmp_path / "state"), clock=Clock(), interval_s=1000)
    mirror = review._mirror(str(repository.path))
    fetch = mirror._fetch

    async def with_another_question():
        nursery.start_soon(age)
        await trio.testing.wait_all_tasks_blocked(0.1)
        await fetch()

    async def age():
        found.append(await review.is_older("hello", str(repository.path), first, second))

    mirror._fetch = with_another_question
    found = []
    second = repository.commit({"a": "2"})
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            assert isinstance(await review.revision("hello", str(repository.path), second), Present)
    assert found == [Present(value=True)]


PERSON = "alice <alice@example.org> 1 +0000"


@pytest.mark.parametrize(
    ("head", "wrong"),
    [
        (f"author {PERSON}\ncommitter {PERSON}", "no tree"),
        (f"tree {'0' * 40}\ncommitter {PERSON}", "author is malformed"),
        (f"tree {'0' * 40}\nauthor {PERSON}\nauthor {PERSON}\ncommitter {PERSON}", "committer is malformed"),
        (f"tree {'0' * 40}\nauthor {PERSON}\ncommitter {PERSON}\ncommitter {PERSON}", "stands twice"),
        (f"tree {'0' * 40}\nauthor a <b <c> 1 +0000\ncommitter {PERSON}", "author is malformed"),
    ],
)
def test_a_commit_that_can_be_read_in_two_ways_is_not_read(head, wrong):
    with pytest.raises(Unavailable, match=wrong):
        parse_commit(head.encode() + b"\n\nsubject\n")


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (f"s\n\nChange-Id: {CHANGE}\n", CHANGE),
        (f"s\n\nChange-Id: I{'1' * 40}\nSigned-off-by: x\nChange-Id: {CHANGE}\n", CHANGE),
        (f"s\n\nChange-Id: {CHANGE}\n\nmore text\n", "c"),
        (f"Change-Id: {CHANGE}\n", "c"),
        (f"s\n\nChange-Id: {CHANGE}0\n", "c"),
        (f"s\n\nchange-id: {CHANGE}\n", "c"),
        ("", "c"),
    ],
)
def test_the_change_is_the_last_trailer_else_the_commit(message, change):
    assert change_of(message, "c") == change
