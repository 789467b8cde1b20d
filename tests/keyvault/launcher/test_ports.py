"""Ports that are still free when their server starts."""

from __future__ import annotations

import socket

from keyvault.launcher import ports


def test_ports_are_different_and_none_that_a_connection_on_its_way_out_may_take():
    found = ports.free(50)

    assert len(set(found)) == 50
    with socket.create_server(("127.0.0.1", 0)) as given_by_the_kernel:
        assert max(found) < given_by_the_kernel.getsockname()[1]


def test_a_port_that_is_taken_is_not_free():
    with socket.create_server(("127.0.0.1", ports.free(1)[0])) as taken:
        assert not ports._is_free(taken.getsockname()[1])
