"""One commit of a git repository, exactly, into the workspace. The configuration git sees is ours alone; nothing of the tree is run.

The tree is written from git's objects (`read-tree`, `checkout-index`), not by `git archive`, whose attributes can leave files out. The
`.git` directory never reaches the build. Submodules are not fetched: a build has its own tree and nothing else.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gatekeeper.model.digest import is_commit

from .fault import BuildFault

GIT: Final = "/usr/bin/git"
PRLIMIT: Final = "/usr/bin/prlimit"
_GIT_MEMORY: Final = 4 * 2**30
"""Address space of each git process, in bytes: what a stranger's objects unfold to is not known before."""
_CHUNK: Final = 65536
_FETCH_S: Final = 300
_LOCAL_S: Final = 60
_LIMITED: Final = (PRLIMIT, f"--as={_GIT_MEMORY}", "--core=0", "--", GIT)
_ENTRY = re.compile(rb"(?P<mode>[0-7]{6}) (?P<kind>[a-z]+) [0-9a-f]{40,64}\t")


@dataclass(frozen=True)
class Checkout:
    """What was checked out: the commit's tree id, and the bytes of the repository's own document."""

    commit: str
    tree: str
    document: bytes


def check_repository(repository: str) -> str:
    """A local path or an https URL without credentials; raises `BuildFault` for anything else. Returns what git is given as remote."""
    if "://" not in repository:
        if repository.startswith("-") or not Path(repository).is_dir():
            raise BuildFault("repository-unreadable", f"{repository!r} is no directory; give a path or an https:// URL")
        return str(Path(repository).resolve())
    parts = urlsplit(repository)
    if parts.scheme != "https":
        raise BuildFault("repository-unreadable", "a repository is a path or an https:// URL; the builder holds no key for others")
    if parts.username is not None or parts.password is not None:
        raise BuildFault("repository-unreadable", "the repository's URL carries credentials; a builder has none")
    return repository


def check_out(remote: str, commit: str, *, keep: Path, into: Path, document: str, max_document: int, max_files: int) -> Checkout:
    """Fetch `commit` from `remote` and write its tree to the empty directory `into`; `keep` is the worker's own directory.

    Raises `BuildFault`: `commit-unknown`, `repository-unreadable`, `config-invalid` (no such document), `workspace-full` (more than
    `max_files` files and directories, or more bytes than there is room for).
    """
    if not is_commit(commit):
        raise BuildFault("commit-unknown", "a commit is named by its full id: 40 or 64 lowercase hexadecimal digits")
    git = _Git(keep, remote)
    kind = "sha256" if len(commit) == 64 else "sha1"
    git.must("init", "--quiet", "--bare", f"--object-format={kind}", "--template=", str(git.directory))
    if git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", remote, commit, timeout=_FETCH_S).returncode != 0:
        # A server may refuse to serve a bare id: take every branch and look the commit up.
        whole = git.run("fetch", "--quiet", "--no-tags", remote, "+refs/*:refs/fetched/*", timeout=_FETCH_S)
        if whole.returncode != 0:
            raise BuildFault("repository-unreadable", f"the repository cannot be read: {_last_line(whole.stderr)}")
    if git.run("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0 or git.must("cat-file", "-t", commit).strip() != b"commit":
        raise BuildFault("commit-unknown", f"the repository has no commit {commit}")
    tree = git.must("rev-parse", "--verify", f"{commit}^{{tree}}").decode("ascii").strip()
    found = Checkout(commit, tree, _document(git, commit, document, max_document))
    if git.counts_more(tree, max_files):
        raise BuildFault("workspace-full", f"the commit's tree holds more than {max_files} files and directories")
    git.must("read-tree", commit)
    if git.run("--work-tree", str(into), "checkout-index", "--all", "--quiet", timeout=_FETCH_S).returncode != 0:
        raise BuildFault("workspace-full", "the commit's tree does not fit into the workspace")
    return found


def _document(git: _Git, commit: str, path: str, most: int) -> bytes:
    # From the object, not from the tree on disk, where a symbolic link could stand in its place.
    entry = _ENTRY.match(git.must("ls-tree", "-z", commit, "--", path))
    if entry is None:
        raise BuildFault("config-invalid", f"the commit has no {path}; add one that begins with 'version: 1'")
    if entry["kind"] != b"blob" or entry["mode"] not in {b"100644", b"100755"}:
        raise BuildFault("config-invalid", f"{path} must be a plain file, no link and no directory")
    if int(git.must("cat-file", "-s", f"{commit}:{path}")) > most:
        raise BuildFault("config-invalid", f"{path} is larger than {most} bytes")
    return git.must("cat-file", "blob", f"{commit}:{path}")


class _Git:
    """git with an environment and a configuration that are ours alone."""

    def __init__(self, keep: Path, remote: str) -> None:
        self.directory = keep / "git"
        home = keep / "git-home"
        home.mkdir()
        configuration = home / "config"
        configuration.write_text(_configuration(remote), "utf-8")
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_DIR": str(self.directory),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(configuration),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_ALLOW_PROTOCOL": "file:https",
            "GIT_PROTOCOL_FROM_USER": "0",
        }

    def run(self, *arguments: str, timeout: float = _LOCAL_S) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [*_LIMITED, *arguments],
                env=self._environment,
                cwd=self.directory.parent,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        except FileNotFoundError:
            raise BuildFault("repository-unreadable", f"{PRLIMIT} is missing; install util-linux") from None
        except subprocess.TimeoutExpired:
            raise BuildFault("repository-unreadable", f"git {arguments[0]} took longer than {timeout:.0f} s") from None

    def counts_more(self, tree: str, most: int) -> bool:
        """Whether a tree has more entries than `most`, counted no further.

        Ten trees within each other, each naming the one below ten times, are a kilobyte of objects and ten thousand million files.
        """
        with subprocess.Popen(
            [*_LIMITED, "ls-tree", "-r", "-t", "-z", "--name-only", tree],
            env=self._environment,
            cwd=self.directory.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            if process.stdout is None:
                raise AssertionError("the output is a pipe")
            found = 0
            while found <= most and (data := process.stdout.read(_CHUNK)):
                found += data.count(b"\0")
            if found > most:
                process.kill()
        return found > most

    def must(self, *arguments: str) -> bytes:
        done = self.run(*arguments)
        if done.returncode != 0:
            raise BuildFault("repository-unreadable", f"git {arguments[0]} failed: {_last_line(done.stderr)}")
        return done.stdout


def _configuration(remote: str) -> str:
    lines = [
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tsymlinks = true\n\tautocrlf = false\n\tprotectHFS = true\n\tprotectNTFS = true",
        "[transfer]\n\tfsckObjects = true",
        "[gc]\n\tauto = 0",
        "[maintenance]\n\tauto = false",
        '[http]\n\tfollowRedirects = false\n[credential]\n\thelper = ""',
    ]
    if remote.startswith("/"):
        # Reading somebody else's repository is what a builder is for; upload-pack runs nothing of it (git(1), safe.directory).
        path = remote.replace("\\", "\\\\").replace('"', '\\"')
        if "\n" in path:
            raise BuildFault("repository-unreadable", "the repository's path holds a line break")
        lines.append(f'[safe]\n\tdirectory = "{path}"\n\tdirectory = "{path}/.git"')
    return "\n".join(lines) + "\n"


def _last_line(message: bytes) -> str:
    """The last words of git, short, without control characters."""
    lines = message.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    return "".join(c if c.isprintable() else "?" for c in lines[-1])[:200]
