"""Ports that two demos can not both choose."""

import socket

import pytest

from clients.demo import ports
from clients.demo.ports import HOST, NoPorts, held_ports


def test_held_ports_can_be_listened_on_and_are_nobody_elses():
    with held_ports(4) as first, held_ports(4) as second:
        assert len({*first, *second}) == 8
        for port in first:
            for _ in range(2):  # also after a stop
                with socket.create_server((HOST, port)):
                    pass


def test_a_held_port_is_not_chosen_again_even_where_it_is_the_only_one_left(monkeypatch):
    with held_ports(1) as (port,):
        monkeypatch.setattr(ports, "_candidates", lambda: (port,))
        with pytest.raises(NoPorts, match=r"^no free port was found on 127\.0\.0\.1 in 500 tries$"), held_ports(1):
            pass
    with held_ports(1) as again:
        assert again == (port,)


def test_a_port_that_somebody_listens_on_is_not_chosen(monkeypatch):
    with socket.create_server((HOST, 0)) as server:
        monkeypatch.setattr(ports, "_candidates", lambda: (server.getsockname()[1],))
        with pytest.raises(NoPorts), held_ports(1):
            pass


@pytest.mark.parametrize(("handed_out", "allowed"), [("32768\t60999\n", range(20000, 32768)), ("1024 65535", range(20000, 61000))])
def test_ports_that_the_kernel_hands_out_by_itself_are_left_alone_where_there_are_others(tmp_path, monkeypatch, handed_out, allowed):
    (tmp_path / "range").write_text(handed_out)
    monkeypatch.setattr(ports, "_HANDED_OUT", tmp_path / "range")
    with held_ports(8) as found:
        assert all(port in allowed for port in found)
