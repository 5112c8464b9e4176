"""The system call filter of the sandbox, as classic BPF bytes for `bwrap --seccomp` (seccomp(2), linux/filter.h, linux/seccomp.h).

A deny list, on purpose: builds run compilers and interpreters of every kind. It closes what reaches kernel code that no build needs and
what a network namespace does not confine (AF_VSOCK reaches the hypervisor). `clone3` answers ENOSYS, so that the C library falls back
to `clone`, whose flags a filter can read; foreign architectures are killed, because their numbers mean other calls.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass
from typing import Final

from .fault import BuildFault

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000

# Offsets in struct seccomp_data; both machines below are little endian, so the low word of an argument comes first.
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16

_X32_BIT: Final = 0x40000000
_NAMESPACES: Final = 0x7E020080  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and CLONE_NEWTIME
_FAMILIES: Final = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK

DENIED: Final[dict[str, tuple[int, int]]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "iopl": (172, -1),
    "ioperm": (173, -1),
}
"""Calls answered EPERM, with their numbers on x86_64 and aarch64 (-1: does not exist there)."""


@dataclass(frozen=True)
class Machine:
    """What differs between architectures: the audit constant and the numbers of the calls treated specially."""

    audit: int
    column: int
    clone: int
    clone3: int
    socket: int
    socketpair: int
    x32: bool


MACHINES: Final = {
    "x86_64": Machine(audit=0xC000003E, column=0, clone=56, clone3=435, socket=41, socketpair=53, x32=True),
    "aarch64": Machine(audit=0xC00000B7, column=1, clone=220, clone3=435, socket=198, socketpair=199, x32=False),
}


def this_machine() -> Machine:
    """The machine we run on; a `BuildFault` where there is no filter for it, since no build runs without one."""
    name = platform.machine()
    if name not in MACHINES:
        raise BuildFault("sandbox-unavailable", f"there is no system call filter for {name}; builds run on " + " and ".join(MACHINES))
    return MACHINES[name]


def encode_filter(machine: Machine) -> bytes:
    """The program: an array of struct sock_filter, eight bytes each."""
    program = [_instruction(_LOAD, _MACHINE), *_unless_equal(machine.audit, _KILL), _instruction(_LOAD, _NUMBER)]
    if machine.x32:
        program += _if(_AT_LEAST, _X32_BIT, _ERRNO | errno.EPERM)
    for numbers in DENIED.values():
        number = numbers[machine.column]
        if number >= 0:
            program += _if(_EQUAL, number, _ERRNO | errno.EPERM)
    program += _if(_EQUAL, machine.clone3, _ERRNO | errno.ENOSYS)
    program += _when(machine.clone, _if(_ANY_BIT, _NAMESPACES, _ERRNO | errno.EPERM))
    families = [_instruction(_EQUAL, family, len(_FAMILIES) - position, 0) for position, family in enumerate(_FAMILIES)]
    for call in (machine.socket, machine.socketpair):
        program += _when(call, [*families, _instruction(_RETURN, _ERRNO | errno.EAFNOSUPPORT)])
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, k)


def _if(test: int, k: int, answer: int) -> list[bytes]:
    return [_instruction(test, k, 0, 1), _instruction(_RETURN, answer)]


def _unless_equal(k: int, answer: int) -> list[bytes]:
    return [_instruction(_EQUAL, k, 1, 0), _instruction(_RETURN, answer)]


def _when(number: int, checks: list[bytes]) -> list[bytes]:
    """For one call: look at its first argument, and allow what the checks let through."""
    body = [_instruction(_LOAD, _FIRST_ARGUMENT), *checks, _instruction(_RETURN, _ALLOW)]
    return [_instruction(_EQUAL, number, 0, len(body)), *body]
