"""The filter is run here by a small interpreter of classic BPF, so that each refusal is seen to be that refusal."""

import errno
import struct

import pytest

from builder.seccomp import DENIED, MACHINES, encode_filter

ALLOW, KILL = 0x7FFF0000, 0x80000000


def answer(machine, number, *, audit=None, argument=0):
    data = struct.pack("<IIQQ", number, machine.audit if audit is None else audit, 0, argument)
    code = encode_filter(machine)
    program = [struct.unpack_from("<HBBI", code, offset) for offset in range(0, len(code), 8)]
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, k)[0]
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x45:
                at += if_true if accumulator & k else if_false
            case 0x06:
                return k


def refused(number):
    return 0x00050000 | number


@pytest.mark.parametrize("name", MACHINES)
def test_denied_calls_answer_eperm_and_others_pass(name):
    machine = MACHINES[name]
    numbers = {numbers[machine.column] for numbers in DENIED.values()} - {-1}
    assert len(numbers) > 40
    assert {answer(machine, number) for number in numbers} == {refused(errno.EPERM)}
    special = {machine.clone, machine.clone3, machine.socket, machine.socketpair}
    assert {answer(machine, number) for number in range(450) if number not in numbers | special} == {ALLOW}


@pytest.mark.parametrize("name", MACHINES)
def test_foreign_architectures_are_killed(name):
    assert answer(MACHINES[name], 0, audit=0x40000003) == KILL


def test_the_x32_numbers_are_refused():
    assert answer(MACHINES["x86_64"], 0x40000000) == refused(errno.EPERM)


@pytest.mark.parametrize("name", MACHINES)
def test_clone_makes_processes_and_no_namespaces(name):
    machine = MACHINES[name]
    assert answer(machine, machine.clone3) == refused(errno.ENOSYS)
    assert answer(machine, machine.clone, argument=0x11) == ALLOW
    for namespace in (0x00020000, 0x10000000, 0x40000000, 0x00000080):
        assert answer(machine, machine.clone, argument=0x11 | namespace) == refused(errno.EPERM)


@pytest.mark.parametrize("name", MACHINES)
def test_sockets_are_of_four_families(name):
    machine = MACHINES[name]
    allowed = {family for family in range(50) if answer(machine, machine.socket, argument=family) == ALLOW}
    assert allowed == {1, 2, 10, 16}
    assert answer(machine, machine.socket, argument=40) == refused(errno.EAFNOSUPPORT)
    assert answer(machine, machine.socketpair, argument=1) == ALLOW
