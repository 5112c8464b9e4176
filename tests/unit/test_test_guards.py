"""The guards of tests/conftest.py guard: sockets are off here, and no server of the person who runs the tests is known."""

import os
import socket

import pytest


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_no_connection_leaves_a_unit_test(method):
    with socket.socket() as sock, pytest.raises(pytest.fail.Exception, match="opened a connection"):
        getattr(sock, method)(("127.0.0.1", 9))


def test_no_name_is_looked_up_in_a_unit_test():
    with pytest.raises(pytest.fail.Exception, match="opened a connection"):
        socket.create_connection(("localhost", 9))


def test_the_environment_names_no_pingee():
    assert [name for name in os.environ if name.startswith("PINGEE_") and name != "PINGEE_CORPORA"] == []
