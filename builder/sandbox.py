"""One command in bubblewrap: no network, empty environment, no credential, bounded in every resource; dead, with all its kin, when we return.

Inside there are /usr read-only, the build's own directories, and nothing else of the host. See `seccomp` for the calls refused and
`namespaces` for the kernel user.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import namespaces, seccomp
from .fault import BuildFault
from .workspace import Workspace

PRLIMIT: Final = "/usr/bin/prlimit"
PATH: Final = "/usr/bin:/bin"
_UID_INSIDE: Final = "1000"
_PASSWD: Final = b"build:x:1000:1000::/home/build:/bin/sh\n"
_DEATH_S: Final = 10.0
"""How long the kernel may take to reap a killed tree before we give up (it takes milliseconds)."""


@dataclass(frozen=True)
class Limits:
    """Resource limits of every process (setrlimit(2)); set inside, so that `processes` counts the sandbox's own alone."""

    address_space: int = 4 * 2**30
    file_size: int = 256 * 2**20
    processes: int = 256
    open_files: int = 1024


@dataclass(frozen=True)
class Exited:
    """The command ended by itself, with this status (128 + signal for a signal)."""

    status: int


@dataclass(frozen=True)
class TimedOut:
    """The deadline passed; everything was killed."""


Ending = Exited | TimedOut


@dataclass(frozen=True)
class Bind:
    """A file or directory of the worker's that is shown inside, read-only."""

    source: Path
    inside: str


@dataclass(frozen=True)
class Sandbox:
    """How commands of one run are started. `uid` is the kernel user to drop to, None if we are no root already."""

    bwrap: Path
    workspace: Workspace
    uid: int | None
    limits: Limits

    def run(
        self,
        command: Sequence[str],
        *,
        deadline: float,
        sink: Callable[[bytes], None],
        environment: Mapping[str, str] | None = None,
        binds: Sequence[Bind] = (),
    ) -> Ending:
        """Run `command` until it ends or `deadline` (of `time.monotonic`) passes; `sink` gets its output as it comes, raw.

        On return no process of the command is left. Raises `BuildFault` if bubblewrap could not start it.
        """
        with contextlib.ExitStack() as stack:
            filter_fd = stack.enter_context(_readable(seccomp.encode_filter(seccomp.this_machine())))
            passwd_fd = stack.enter_context(_readable(_PASSWD))
            status_read, status_write = os.pipe()
            stack.callback(os.close, status_read)
            arguments = self._arguments(environment or {}, binds, filter_fd=filter_fd, passwd_fd=passwd_fd, status_fd=status_write)
            try:
                process = self._start([*arguments, *command], (filter_fd, passwd_fd, status_write))
            finally:
                os.close(status_write)
            status = _Status(status_read)
            try:
                in_time = _follow(process, status, deadline, sink)
            finally:
                _end(process, status)
        if status.exit_code is not None:
            return Exited(status.exit_code)
        if not in_time:
            return TimedOut()
        raise BuildFault("sandbox-unavailable", f"bubblewrap could not start the command (status {process.returncode}); its words are in the log")

    def check(self) -> None:
        """Start the sandbox once, exactly as for a build; raise `BuildFault` if the kernel refuses, or if we would be its root inside."""
        probe = ["/bin/sh", "-c", "! [ -w /proc/sys/kernel/core_pattern ]"]
        try:
            ending = self.run(probe, deadline=time.monotonic() + 20, sink=lambda _data: None)
        except BuildFault:
            raise namespaces.no_namespaces() from None
        if ending != Exited(0):
            raise BuildFault("sandbox-as-root", "the build would run as the kernel's root, who can leave the sandbox; start as an ordinary user")

    def _start(self, arguments: list[str], fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                env={},
                cwd="/",
                start_new_session=True,
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
                umask=0o022,
            )
        except OSError as error:
            raise BuildFault("sandbox-unavailable", f"bubblewrap could not be started: {error.strerror}") from None
        if process.stdout is not None and self.uid is not None:
            # A command may open its output once more by name: `tee /dev/stderr`.
            os.fchown(process.stdout.fileno(), self.uid, self.uid)
        return process

    def _arguments(
        self, environment: Mapping[str, str], binds: Sequence[Bind], *, filter_fd: int, passwd_fd: int, status_fd: int
    ) -> list[str]:
        space = self.workspace
        arguments = [str(self.bwrap), "--unshare-all", "--unshare-user", "--disable-userns", "--uid", _UID_INSIDE, "--gid", _UID_INSIDE]
        arguments += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
        arguments += ["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/sbin", "/sbin"]
        arguments += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]
        arguments += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        arguments += ["--proc", "/proc", "--dev", "/dev"]
        arguments += ["--perms", "0644", "--ro-bind-data", str(passwd_fd), "/etc/passwd"]
        arguments += ["--bind", str(space.src), "/src", "--bind", str(space.home), "/home/build", "--bind", str(space.tmp), "/tmp"]  # noqa: S108
        # A tmpfs of bubblewrap's has no bound on its number of files.
        arguments += ["--bind", str(space.shm), "/dev/shm"]  # noqa: S108
        for bind in binds:
            arguments += ["--ro-bind", str(bind.source), bind.inside]
        variables = {
            "PATH": PATH,
            "HOME": "/home/build",
            "TMPDIR": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
            "SOURCE_DATE_EPOCH": "0",
            # Lines reach the live log when they are printed, and no byte code lands among the outputs.
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        for name, value in variables.items():
            arguments += ["--setenv", name, value]
        # bubblewrap leaves the new root and /dev writable and unbounded; through /proc a build could lower its own oom_score_adj.
        arguments += ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/src"]
        arguments += ["--json-status-fd", str(status_fd), "--seccomp", str(filter_fd), "--", *self._limited()]
        return arguments

    def _limited(self) -> list[str]:
        limits = self.limits
        return [
            PRLIMIT,
            f"--as={limits.address_space}",
            f"--fsize={limits.file_size}",
            f"--nproc={limits.processes}",
            f"--nofile={limits.open_files}",
            "--core=0",
            "--memlock=0",
            "--",
        ]


class _Status:
    """What bubblewrap reports on `--json-status-fd`: one object a line, `child-pid` first, `exit-code` only if the command really ran."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.exit_code: int | None = None
        self.init: int | None = None
        """A pidfd of the sandbox's pid 1; the kernel reaps that one last (pid_namespaces(7))."""
        self._pending = b""

    def read(self) -> bool:
        """Take in what has come; False at the end."""
        data = os.read(self.fd, 4096)
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "child-pid" in report and self.init is None:
                with contextlib.suppress(ProcessLookupError):
                    self.init = os.pidfd_open(report["child-pid"])
            self.exit_code = report.get("exit-code", self.exit_code)
        return bool(data)


def _follow(process: subprocess.Popen[bytes], status: _Status, deadline: float, sink: Callable[[bytes], None]) -> bool:
    """Pass output on until both pipes are at their end (True) or the deadline passes (False)."""
    if process.stdout is None:
        raise AssertionError("the output is a pipe")
    output = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        selector.register(status.fd, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in selector.select(left):
                if key.fd == output:
                    data = os.read(output, 65536)
                    if data:
                        sink(data)
                    else:
                        selector.unregister(output)
                elif not status.read():
                    selector.unregister(status.fd)
    return True


def _end(process: subprocess.Popen[bytes], status: _Status) -> None:
    """Kill what is left and wait until the kernel has reaped the whole tree; what cannot be reaped is a fault, never ignored."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_DEATH_S)
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(ValueError):
        while status.read():
            pass
    if status.init is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(status.init, signal.SIGKILL)
        poll = select.poll()
        poll.register(status.init, select.POLLIN)
        if not poll.poll(_DEATH_S * 1000):
            raise BuildFault("sandbox-unavailable", "a killed build did not die; nothing of it is used")
    finally:
        os.close(status.init)


@contextlib.contextmanager
def _readable(data: bytes) -> Iterator[int]:
    """A file descriptor from which a child reads these bytes."""
    fd = os.memfd_create("pingee")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
