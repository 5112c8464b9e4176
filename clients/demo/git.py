"""Git for the demo: bare repositories, signed commits, a second version. The user's own configuration is neither read nor changed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


class GitFailed(RuntimeError):
    """git said no; the message is git's own last line."""


def git(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run git and return what it printed, without the last newline."""
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607 -- git from the PATH of whoever runs the demo
        cwd=cwd,
        env={**_clean(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise GitFailed(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout.rstrip("\n")


def identity(name: str) -> dict[str, str]:
    """Author and committer of a commit."""
    mail = f"{name}@demo.example"
    return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": mail}


def commit_all(work: Path, message: str, *, who: str, signing_key: Path | None = None) -> str:
    """Commit everything in a work tree; the commit's id. Signed with an SSH key where one is given."""
    git("add", "-A", cwd=work)
    signing = [] if signing_key is None else ["-c", "gpg.format=ssh", "-c", f"user.signingkey={signing_key}", "-c", "commit.gpgsign=true"]
    git(*signing, "commit", "-q", "--allow-empty", "-m", message, cwd=work, environment=identity(who))
    return git("rev-parse", "HEAD", cwd=work)


def clone_as_bare(source: Path, bare: Path) -> None:
    """A bare copy of somebody's repository, whoever owns its files."""
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    git("clone", "-q", "--bare", "--no-hardlinks", str(source), str(bare), cwd=bare.parent, environment=trusted)


def _clean() -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
    }
