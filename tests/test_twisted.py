"""pytest-twisted: the reactor has its turn while the plugin waits, since it closes what it was asked to close in that."""

from __future__ import annotations

import pytest
from inner import Inner

REACTOR = """
import sys
import types

later = []
reactor = types.ModuleType("twisted.internet.reactor")
reactor.running = True
reactor.later = later
task = types.ModuleType("twisted.internet.task")
task.deferLater = lambda reactor, seconds, function: function
plugin = types.ModuleType("pytest_twisted")


def blockon(deferred):
    if not reactor.running:
        raise RuntimeError("it has stopped")
    while later:
        later.pop(0)()
    deferred()


plugin.blockon = blockon
sys.modules |= {each.__name__: each for each in (reactor, task, plugin)}
"""

TESTS = """
import socket
import sys

KEPT = []
reactor = sys.modules["twisted.internet.reactor"]


def test_asks_the_reactor_to_close():
    KEPT.append(socket.socket())
    reactor.later.append(KEPT[0].close)


def test_leaks():
    KEPT.append(socket.socket())


def test_leaks_where_it_stops_the_reactor():
    KEPT.append(socket.socket())
    reactor.later.append(lambda: setattr(reactor, "running", False))


def test_leaks_where_the_reactor_stands_still():
    KEPT.append(socket.socket())
    reactor.later.append(KEPT[-1].close)
"""


def test_what_the_reactor_closes_at_its_next_turn_is_no_leak(inner: Inner) -> None:
    inner.write(conftest=REACTOR, test_a=TESTS)
    inner.judge(
        test_asks_the_reactor_to_close="clean",
        test_leaks="leaked",
        test_leaks_where_it_stops_the_reactor="leaked",
        test_leaks_where_the_reactor_stands_still="leaked",
    )


PORTS = """
import socket

import pytest
import pytest_twisted
from twisted.internet import defer, protocol, reactor

KEPT = []


def listen():
    return reactor.listenTCP(0, protocol.Factory.forProtocol(protocol.Protocol), interface="127.0.0.1")


def test_does_not_wait_for_the_end_of_its_port():
    listen().stopListening()


@pytest_twisted.inlineCallbacks
def test_does_not_wait_in_callbacks_either():
    yield defer.succeed(None)
    listen().stopListening()


@pytest.fixture
def port():
    port = listen()
    yield port
    port.stopListening()


def test_has_a_port(port):
    assert port.connected


def test_leaks():
    KEPT.append(socket.socket())
"""


def test_nor_is_a_port_that_twisted_itself_closes(inner: Inner) -> None:
    pytest.importorskip("pytest_twisted", reason="pytest_twisted is not installed")
    inner.write(test_a=PORTS)
    inner.judge(
        "-p",
        "pytest_twisted",
        test_does_not_wait_for_the_end_of_its_port="clean",
        test_does_not_wait_in_callbacks_either="clean",
        test_has_a_port="clean",
        test_leaks="leaked",
    )
