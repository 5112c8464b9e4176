"""Which kernel user a build runs as, and, where the kernel refuses user namespaces, which of its settings says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from .fault import BuildFault

SANDBOX_UID: Final = 62000
"""Unallocated on the usual systems, needs no passwd entry. bubblewrap started by uid 0 leaves the child kernel uid 0, whatever `--uid` says."""

_SETTINGS: Final = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0; set it to 1"),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0; set it to 10000 or so"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns is 1; give bwrap and this builder an AppArmor profile with 'userns', or set it to 0",
    ),
)


def sandbox_uid(euid: int, uid_map: str) -> int | None:
    """The uid to drop to before bubblewrap starts, or None where we already are an ordinary user of the kernel.

    `uid_map` is the text of /proc/self/uid_map (user_namespaces(7)). Raises `BuildFault` where the build would be kernel uid 0.
    """
    outside = _outside(euid, uid_map)
    if euid == 0 and _outside(SANDBOX_UID, uid_map) is not None:
        return SANDBOX_UID
    if outside is None or outside == 0:
        raise BuildFault("sandbox-as-root", "the build would run as the kernel's root, who can leave the sandbox; start as an ordinary user")
    return None


def _outside(uid: int, uid_map: str) -> int | None:
    for line in uid_map.splitlines():
        first, outer, count = (int(word) for word in line.split())
        if first <= uid < first + count:
            return outer + uid - first
    return None


def read_setting(path: str) -> str | None:
    """A kernel setting's text, or None where this kernel has none of that name."""
    try:
        return Path(path).read_text("ascii").strip()
    except OSError:
        return None


def no_namespaces(read: Callable[[str], str | None] = read_setting) -> BuildFault:
    """The fault that names the setting which forbids user namespaces; without one, the usual other cause."""
    for path, forbidding, sentence in _SETTINGS:
        if read(path) == forbidding:
            return BuildFault("sandbox-unavailable", f"builds need user namespaces and {sentence}; nothing is built without a sandbox")
    return BuildFault(
        "sandbox-unavailable",
        "builds need user namespaces and this kernel or container refuses them (user_namespaces(7)); nothing is built without a sandbox",
    )
