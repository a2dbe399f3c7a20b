"""The count of open descriptors, which tells whether a test has to be looked at more closely."""

import _socket
import contextlib
import os
import selectors
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from inner import Inner

from pytest_httpleak.probes import descriptors

needs_count = pytest.mark.skipif(not descriptors.count(), reason="this kernel does not count a process's descriptors")
pytestmark = [needs_count, pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")]


@pytest.fixture
def counter() -> Iterator[descriptors.Counter]:
    counter = descriptors.Counter()
    counter.open()
    yield counter
    counter.close()


def test_a_counter_counts_its_own_descriptor_too(counter: descriptors.Counter) -> None:
    assert counter.count() == descriptors.count()


def test_a_counter_follows_what_is_opened_and_closed(counter: descriptors.Counter) -> None:
    before = counter.count()
    assert before is not None
    fd = os.open(os.devnull, os.O_RDONLY)
    assert counter.count() == before + 1
    os.close(fd)
    assert counter.count() == before


def test_a_counter_leaves_nothing_open() -> None:
    before = descriptors.listing()
    counter = descriptors.Counter()
    counter.open()
    assert len(descriptors.listing()) == len(before) + 1
    counter.close()
    assert descriptors.listing() == before


def test_a_counter_that_lost_its_descriptor_counts_without_one(counter: descriptors.Counter) -> None:
    (own,) = [fd for fd in descriptors.listing() if descriptors.target(fd).endswith(f"/{os.getpid()}/fd")]
    os.close(own)
    assert counter.count() == descriptors.count()


def test_a_counter_never_closes_what_got_its_number(counter: descriptors.Counter, tmp_path: Path) -> None:
    (own,) = [fd for fd in descriptors.listing() if descriptors.target(fd).endswith(f"/{os.getpid()}/fd")]
    os.close(own)
    path = tmp_path / "a file"
    path.write_text("")
    taken = os.open(path, os.O_RDONLY)
    try:
        assert taken == own, "the lowest free number is given out first"
        assert counter.count() == descriptors.count()
        counter.close()
        assert descriptors.identity(taken) is not None
    finally:
        os.close(taken)


CLOSE_EVERYTHING = """
    import os

    def close_what_we_do_not_know():
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}").endswith("/fd"):
                    os.close(int(name))
            except OSError:
                pass

    def test_closes_everything():
        close_what_we_do_not_know()

    def test_leaks():
        close_what_we_do_not_know()
        os.open("/dev/null", os.O_RDONLY)

    def test_clean():
        os.close(os.open("/dev/null", os.O_RDONLY))
"""


def test_a_suite_that_closes_the_plugins_descriptor_is_judged_as_before(inner: Inner) -> None:
    inner.write(test_closing=CLOSE_EVERYTHING)
    inner.run()
    assert inner.outcomes() == {"test_closes_everything": "clean", "test_leaks": "leaked", "test_clean": "clean"}


def test_a_socket_of_a_pair_is_told_from_others_and_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        listening, client, unconnected = (enter(socket.socket(socket.AF_UNIX)) for _ in range(3))
        listening.bind("name")
        listening.listen()
        client.connect("name")
        pair = [enter(each) for each in socket.socketpair()]
        others = [listening, client, unconnected, enter(socket.socket())]
        assert [descriptors.is_of_a_pair(each.fileno()) for each in (*pair, *others)] == [True] * 2 + [False] * 4
        pair[0].sendall(b"open")
        assert pair[1].recv(4) == b"open"
        folder = os.open(".", os.O_RDONLY)
        stack.callback(os.close, folder)
        assert not descriptors.is_of_a_pair(folder)
    assert not descriptors.is_of_a_pair(-1)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_socket_that_is_asked_blocks_as_before(timeout: float | None) -> None:
    with contextlib.ExitStack() as stack:
        pair = [stack.enter_context(contextlib.closing(each)) for each in _socket.socketpair()]
        stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
        socket.setdefaulttimeout(timeout)
        fd = pair[0].fileno()
        assert descriptors.is_of_a_pair(fd)
        assert descriptors.sockets()[fd][0] == "unix socket"
        assert os.get_blocking(fd)


def test_a_poller_is_anothers_where_the_selector_that_had_its_number_is_closed_or_gone() -> None:
    closed = selectors.DefaultSelector()
    closed.close()
    with selectors.DefaultSelector() as selector:
        number = selector.fileno()  # type: ignore[attr-defined]
        assert descriptors.is_anothers(number, None)
        assert descriptors.is_anothers(number, closed)
        assert not descriptors.is_anothers(number, selector)


def test_what_has_an_identity_of_its_own_is_anothers_only_by_that(tmp_path: Path) -> None:
    with (tmp_path / "a file").open("w") as file:
        assert not descriptors.is_anothers(file.fileno(), None)


def test_nobody_finds_the_functions_of_the_system_that_the_plugin_asks(inner: Inner) -> None:
    # As pyfakefs does, which puts its own in their place in the namespaces of all modules.
    inner.write(
        test_a="""
import sys, types

def test_it():
    modules = [module for name, module in sys.modules.items() if name.startswith("pytest_httpleak.")]
    found = [(module.__name__, name) for module in modules for name, value in vars(module).items()
             if isinstance(value, types.BuiltinFunctionType) and value.__module__ == "posix"]
    assert len(modules) > 20
    assert found == []
"""
    )
    inner.run().assert_outcomes(passed=1)
