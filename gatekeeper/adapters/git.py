"""The `git` program, hardened, and bare mirrors of the repositories that the gatekeeper reads.

Nothing of the machine's or a user's configuration is read: the environment is built from nothing, the only configuration is a file of ours,
replace refs are off, hooks have no directory, and three transports are spoken. Every run has a deadline, a bound on what it prints and on
the size of a file it may write; at the deadline its whole process group ends. Nothing is ever checked out.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio

from gatekeeper.model.digest import is_commit
from gatekeeper.ports.errors import Rejected, Unavailable

LOCAL_S: Final = 30.0
"""Deadline of a command that reads the mirror."""
FETCH_S: Final = 120.0
MAX_OUTPUT: Final = 4 * 1024 * 1024
MAX_PACK: Final = 4 * 1024 * 1024 * 1024
"""Largest file, hence pack, that one fetch may write, in bytes."""
MAX_COMMIT: Final = 256 * 1024

_SCHEMES: Final = ("file", "https", "ssh")
_TERM_S: Final = 2.0


@dataclass(frozen=True)
class GitAccess:
    """How remotes are reached. Without `ssh_key` and `known_hosts` no ssh remote can be; `ca_file` (PEM) replaces the system's roots for https."""

    ssh_key: Path | None = None
    known_hosts: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class GitResult:
    """What one run printed. `status` is its exit status."""

    status: int
    stdout: bytes
    stderr: bytes = field(repr=False)


class GitRunner:
    """Runs `git`. `state` is a directory of ours (0700) for the configuration file and the mirrors; see `open_git`."""

    def __init__(self, program: str, state: Path, access: GitAccess) -> None:
        self._program = program
        self._access = access
        self.state = state
        self._config = state / "gitconfig"
        self._safe: set[str] = set()
        self._write_config()

    async def run(
        self, *arguments: str, git_dir: Path | None = None, stdin: bytes = b"", deadline_s: float = LOCAL_S, max_output: int = MAX_OUTPUT
    ) -> GitResult:
        """Run one command to its end, whatever its status; raises `Unavailable("vcs-unavailable")` for one that is too slow or too talkative."""
        head = [self._program, "--no-replace-objects", "--no-optional-locks", "--literal-pathspecs"]
        where = [] if git_dir is None else [f"--git-dir={git_dir}"]
        try:
            with trio.fail_after(deadline_s):
                return await _run([*head, *where, *arguments], self._environment(), self.state, stdin, max_output)
        except trio.TooSlowError:
            raise Unavailable("vcs-unavailable", f"git {arguments[0]} took more than {deadline_s:.0f} s") from None
        except OSError as error:
            raise Unavailable("vcs-unavailable", f"git cannot be started: {error.strerror}") from None

    def allow_local(self, path: str) -> None:
        """Let git read this directory although another user owns it (`safe.directory`): a configured repository, and that alone."""
        if path not in self._safe:
            self._safe.add(path)
            try:
                self._write_config()
            except OSError as error:
                self._safe.discard(path)
                raise _no_state(error) from None

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.state),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            # A file of ours, not /dev/null: upload-pack of a file:// remote is a child that sees no -c of its parent, but reads this.
            "GIT_CONFIG_GLOBAL": str(self._config),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES),
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_SSH_COMMAND": self._ssh_command(),
        }
        if self._access.ca_file is not None:
            environment["GIT_SSL_CAINFO"] = str(self._access.ca_file)
        return environment

    def _ssh_command(self) -> str:
        key = self._access.ssh_key or Path("/dev/null")
        hosts = self._access.known_hosts or Path("/dev/null")
        options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={hosts}",
            "GlobalKnownHostsFile=/dev/null",
            f"IdentityFile={key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
            "ConnectTimeout=10",
        ]
        return "ssh -F /dev/null " + " ".join(f"-o '{option}'" for option in options)

    def _write_config(self) -> None:
        lines = [
            "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\taskPass = /bin/false\n\tattributesFile = /dev/null",
            "[credential]\n\thelper =",
            "[http]\n\tfollowRedirects = false\n\tproxy =\n\tsslVerify = true\n\tlowSpeedLimit = 100\n\tlowSpeedTime = 30",
            "[gc]\n\tautoDetach = false",
            "[fetch]\n\trecurseSubmodules = false\n\twriteCommitGraph = true",
            # A signature of another format would start gpg or gpgsm; there is none.
            '[gpg]\n\tformat = ssh\n\tprogram = /bin/false\n\tminTrustLevel = fully\n[gpg "x509"]\n\tprogram = /bin/false',
            "[log]\n\tshowSignature = false",
        ]
        lines += [f"[safe]\n\tdirectory = {_quoted(path)}" for path in sorted(self._safe)]
        temporary = self._config.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(self._config)


def open_git(state: Path, access: GitAccess | None = None) -> GitRunner:
    """A runner that keeps its things under `state` (made, 0700). Raises `Unavailable("vcs-unavailable")` where there is no git."""
    program = shutil.which("git", path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise Unavailable("vcs-unavailable", "the program git is not installed")
    access = access or GitAccess()
    for path in (state, access.ssh_key, access.known_hosts):
        if path is not None and ("'" in str(path) or not str(path).isprintable()):
            raise Unavailable("vcs-unavailable", "a path given to git holds a quotation mark or a control character")
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return GitRunner(program, state.resolve(), access)
    except OSError as error:
        raise _no_state(error) from None


def _no_state(error: OSError) -> Unavailable:
    return Unavailable("vcs-unavailable", f"the state directory of git cannot be used: {error.strerror}")


class Mirror:
    """A bare repository of ours that holds what was fetched from one remote. Fetches are made one at a time and shared by who waits.

    `clock` gives seconds that only grow; a fetch begins at least `interval_s` after the one before.
    """

    def __init__(self, git: GitRunner, remote: str, refspecs: tuple[str, ...], *, clock: Callable[[], float], interval_s: float) -> None:
        self._git = git
        self._remote = parse_remote(remote)
        self._refspecs = refspecs
        self._clock = clock
        self._interval_s = interval_s
        self._lock = trio.Lock()
        self._making = trio.Lock()
        self._made = False
        self._fetched_at: float | None = None
        self._path = git.state / "mirrors" / f"{sha256(self._remote.encode()).hexdigest()[:32]}.git"

    async def run(self, *arguments: str, stdin: bytes = b"", max_output: int = MAX_OUTPUT) -> GitResult:
        """Run a reading command in the mirror."""
        await self._make()
        return await self._git.run(*arguments, git_dir=self._path, stdin=stdin, max_output=max_output)

    async def fetch(self, *, unless: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Fetch now, or share the fetch of another caller that begins after this call; not at all where `unless` has come true meanwhile.

        Waits where the last fetch began less than `interval_s` ago. Raises `Unavailable("vcs-unavailable")`, and what `unless` raises.
        """
        asked_at = self._clock()
        async with self._lock:
            if self._fetched_at is not None:
                if self._fetched_at >= asked_at or (unless is not None and await unless()):
                    return
                # Not refused: what was fetched a moment ago may be stale, and the caller has a deadline of its own.
                await trio.sleep(max(0.0, self._interval_s - (self._clock() - self._fetched_at)))
            began = self._fetched_at = self._clock()
            try:
                await self._fetch()
            except BaseException:
                # Who waited for this one must not take it for an answer; the interval counts all the same.
                self._fetched_at = min(began, asked_at)
                raise

    async def kind(self, commit: str) -> str | None:
        """`commit` or another object type; None where the mirror holds no such object. Asks nobody else."""
        result = await self.run("cat-file", "-t", commit)
        return result.stdout.decode("ascii", "replace").strip() if result.status == 0 else None

    async def holds(self, commit: str) -> bool:
        """Whether the mirror holds this commit. False for what is no full object id."""
        return is_commit(commit) and await self.kind(commit) == "commit"

    async def commit_bytes(self, commit: str) -> bytes:
        """The raw commit object. Raises `Unavailable` where it is not there or has more than `MAX_COMMIT` bytes."""
        result = await self.run("cat-file", "commit", commit, max_output=MAX_COMMIT)
        if result.status != 0:
            raise Unavailable("vcs-unavailable", "the commit cannot be read")
        return result.stdout

    async def is_ancestor(self, commit: str, of: str) -> bool:
        """Whether `commit` is `of` or an ancestor of it; both are held."""
        result = await self.run("merge-base", "--is-ancestor", commit, of)
        if result.status not in (0, 1):
            raise Unavailable("vcs-unavailable", "the history cannot be read")
        return result.status == 0

    async def _make(self) -> None:
        if self._made:
            return
        async with self._making:  # two first questions at once: one makes it, the other waits
            if not (self._path / "HEAD").exists():
                await self._init()
            self._made = True

    async def _init(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _no_state(error) from None
        result = await self._git.run("init", "--quiet", "--bare", "--template=", "--initial-branch=none", str(self._path))
        if result.status != 0:
            raise Unavailable("vcs-unavailable", "the mirror cannot be made")

    async def _fetch(self) -> None:
        await self._make()
        if self._remote.startswith("file://"):
            local = self._remote.removeprefix("file://")
            self._git.allow_local(local)
            self._git.allow_local(f"{local}/.git")
        options = ["--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force", "--refmap="]
        result = await self._git.run(
            "fetch", *options, "--end-of-options", self._remote, *self._refspecs, git_dir=self._path, deadline_s=FETCH_S
        )
        if result.status != 0:
            raise Unavailable("vcs-unavailable", f"fetching {self._remote} failed with status {result.status}")


def parse_remote(text: str) -> str:
    """The URL that git is given: `file:///path` (or an absolute path), `https://host/path`, `ssh://user@host/path`.

    Raises `Rejected("vcs-unavailable")` for every other form, and for a URL that carries a password or an https user.
    """
    if text.startswith("/"):
        text = f"file://{text}"
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 -- raises where it is no number
    except ValueError:
        raise Rejected("vcs-unavailable", "a repository's address is not a URL") from None
    if parts.scheme not in _SCHEMES or not text.startswith(f"{parts.scheme}://"):
        raise Rejected("vcs-unavailable", "a repository's address begins with file://, https:// or ssh://, or is an absolute path")
    if not text.isprintable() or any(c.isspace() for c in text) or parts.query or parts.fragment:
        raise Rejected("vcs-unavailable", "a repository's address holds characters that have no place there")
    if parts.password is not None or (parts.scheme == "https" and parts.username is not None):
        raise Rejected("vcs-unavailable", "a repository's address must not carry a credential")
    host = parts.hostname or ""
    if (parts.scheme == "file") != (host == "") or host.startswith("-") or (parts.username or "").startswith("-"):
        raise Rejected("vcs-unavailable", "a repository's address names no usable host")
    if not parts.path.startswith("/") or len(text) > 1024:
        raise Rejected("vcs-unavailable", "a repository's address has no path")
    return text


async def _run(argv: list[str], environment: dict[str, str], directory: Path, stdin: bytes, max_output: int) -> GitResult:
    outputs = {"stdout": bytearray(), "stderr": bytearray()}
    over = False

    async def read(name: str, stream: trio.abc.ReceiveStream) -> None:
        nonlocal over
        async with stream:
            async for chunk in stream:
                outputs[name] += chunk
                if len(outputs[name]) > max_output:
                    over = True
                    nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                env=environment,
                cwd=directory,
                start_new_session=True,
                deliver_cancel=_end_group,
            )
        )
        with suppress(ProcessLookupError):  # it may have ended already
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MAX_PACK, MAX_PACK))
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                nursery.start_soon(read, name, stream)
    if over:
        raise Unavailable("vcs-unavailable", f"git printed more than {max_output} bytes")
    status = process.returncode
    return GitResult(-1 if status is None else status, bytes(outputs["stdout"]), bytes(outputs["stderr"]))


async def _end_group(process: trio.Process) -> None:
    # The group, not the process: fetch has children (ssh, index-pack) that would outlive it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        await trio.sleep(_TERM_S)
        os.killpg(process.pid, signal.SIGKILL)


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
