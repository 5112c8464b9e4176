"""Real repositories for tests: commits with names, dates and SSH signatures of keys made on the spot."""

from __future__ import annotations

import subprocess
from pathlib import Path

EMPTY_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}


def make_key(directory: Path, name: str) -> Path:
    """A new Ed25519 key without passphrase; `NAME.pub` lies beside it."""
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True, env=EMPTY_ENVIRONMENT)
    return path


def signers_line(email: str, key: Path) -> str:
    """One line of an allowed_signers file."""
    kind, blob = Path(f"{key}.pub").read_text().split()[:2]
    return f'{email} namespaces="git" {kind} {blob}\n'


class Repository:
    """A working tree with one branch, `main`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "-q", "-b", "main", str(path), cwd=path.parent)

    def git(self, *arguments: str, cwd: Path | None = None, date: str = "2026-11-21T10:00:00Z", author: str = "alice") -> str:
        environment = EMPTY_ENVIRONMENT | {
            "HOME": str(self.path.parent),
            "GIT_AUTHOR_NAME": author,
            "GIT_AUTHOR_EMAIL": f"{author}@example.org",
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": "carol",
            "GIT_COMMITTER_EMAIL": "carol@example.org",
            "GIT_COMMITTER_DATE": date,
        }
        done = subprocess.run(["git", *arguments], cwd=cwd or self.path, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def commit(self, files: dict[str, str], message: str = "change", *, key: Path | None = None) -> str:
        """Commit these files, signed where a key is given; the commit's id."""
        self.write(files)
        self.git("add", "-A")
        sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"] if key else []
        self.git(*sign, "commit", "-q", "--allow-empty", "-m", message, *(["-S"] if key else []))
        return self.git("rev-parse", "HEAD")
