"""Mocks in the place of sockets, and objects that answer strangely: no error of ours, no leak missed, none invented."""

from __future__ import annotations

from inner import Inner

# -- sockets -----------------------------------------------------------------------------------------------------------

REPLACED_SOCKETS = """
import socket
from unittest.mock import MagicMock, Mock

import pytest

KEPT = []


class Subclass(socket.socket):
    def fileno(self):
        raise RuntimeError("not to be asked")


class Real(socket.socket):
    pass


def listener():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@pytest.mark.parametrize("make", [Mock, MagicMock], ids=["mock", "magic"])
def test_a_mock_is_nothing(monkeypatch, make):
    monkeypatch.setattr(socket, "socket", make())
    KEPT.append(socket.socket())
    KEPT[-1].close()


def test_a_subclass_leaks(monkeypatch):
    monkeypatch.setattr(socket, "socket", Real)
    KEPT.append(socket.socket())


def test_a_subclass_is_closed(monkeypatch):
    monkeypatch.setattr(socket, "socket", Real)
    socket.socket().close()


def test_a_mock_is_accepted(monkeypatch):
    with listener() as sock, socket.create_connection(sock.getsockname()):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Mock(return_value=Mock()))
            sock.accept()


def test_a_socket_leaks_after_it():
    KEPT.append(socket.socket())


def test_an_accepted_socket_is_still_its_servers():
    with listener() as sock, socket.create_connection(sock.getsockname()):
        KEPT.append(sock.accept()[0])


def test_a_double_of_a_mock(monkeypatch):
    class Doubling(socket.socket):
        def dup(self):
            return Mock()
    with Doubling() as sock:
        sock.dup()
    with listener() as sock:
        sock.dup().close()


def test_a_socket_without_a_number_is_nothing():
    KEPT.append(Subclass())
    socket.socket.close(KEPT[-1])


def test_is_clean():
    socket.socket().close()
"""


def test_a_socket_class_that_is_replaced_for_a_while(inner: Inner) -> None:
    inner.write(test_a=REPLACED_SOCKETS)
    inner.judge(
        **{"test_a_mock_is_nothing[mock]": "clean", "test_a_mock_is_nothing[magic]": "clean"},
        test_a_subclass_leaks="leaked",
        test_a_subclass_is_closed="clean",
        test_a_mock_is_accepted="leaked",  # the descriptor that no object has: its number alone is known
        test_a_socket_leaks_after_it="leaked",
        test_an_accepted_socket_is_still_its_servers="clean",
        test_a_double_of_a_mock="clean",
        test_a_socket_without_a_number_is_nothing="clean",
        test_is_clean="clean",
    )


STRANGE = """
import logging
import socket
import threading
import types

import pytest


class Strange:
    \"\"\"Answers every question with an error.\"\"\"

    __name__ = "strange"  # which `threading` asks for
    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("must not be compared")

    def __getattr__(self, name):
        raise RuntimeError("must not be asked for " + name)

    def __repr__(self):
        raise RuntimeError("must not be shown")

    def __bool__(self):
        raise RuntimeError("is neither true nor false")

    def __len__(self):
        raise RuntimeError("has no length")

    def __call__(self):
        STOP.wait()


class Lazy(Strange):
    \"\"\"Makes what it stands for as soon as somebody asks for its class, as some proxies do.\"\"\"

    @property
    def __class__(self):
        MADE.append(self)
        raise RuntimeError("must not be asked for its class")

    def __del__(self):
        raise RuntimeError("dies badly")


class StrangeSocket(socket.socket):
    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("must not be compared")

    def __getattr__(self, name):
        raise RuntimeError("must not be asked for " + name)

    def __repr__(self):
        raise RuntimeError("must not be shown")

    @property
    def family(self):
        raise RuntimeError("has no family")


class StrangeKey(str):
    def __repr__(self):
        raise RuntimeError("must not be shown")

    def __format__(self, spec):
        raise RuntimeError("must not be shown")


KEPT, MADE = [], []
STOP = threading.Event()
KEYED = {}
PROXIES = [Lazy() for _ in range(10)]


@pytest.fixture(autouse=True, scope="module")
def untouched():
    yield
    STOP.set()
    assert not MADE, "some proxy was asked for its class"


class NotAFile:
    def fileno(self):
        raise NotImplementedError

    def write(self, text):
        pass

    def flush(self):
        pass

    def __eq__(self, other):
        raise RuntimeError("must not be compared")


@pytest.fixture(scope="module")
def handler():
    handler = logging.StreamHandler(NotAFile())
    logging.getLogger("strange").addHandler(handler)
    yield
    logging.getLogger("strange").removeHandler(handler)


def test_a_strange_socket_leaks():
    KEPT.append(StrangeSocket())


def test_a_strange_socket_is_closed():
    StrangeSocket().close()


def test_a_strange_thread_leaks():
    threading.Thread(target=Strange(), daemon=True).start()


def test_a_socket_beside_a_thread_leaks():
    \"\"\"With a thread that still runs, what it may hold is looked for.\"\"\"
    STRANGE = Strange()

    def run():
        with open(__file__) as file:
            STOP.wait()

    threading.Thread(target=run, daemon=True).start()


def test_a_leak_under_a_strange_key():
    KEYED[StrangeKey("key")] = socket.socket()


def test_a_leak_held_by_a_strange_object():
    holder = Lazy()
    object.__setattr__(holder, "sock", socket.socket())
    PROXIES.append(holder)


def test_a_leak_in_a_frame_of_strange_variables():
    strange, lazy = Strange(), PROXIES
    KEPT.append(socket.socket())


def test_a_leak_beside_a_strange_handler(handler):
    KEPT.append(socket.socket())


def test_is_clean_beside_a_strange_handler(handler):
    strange, lazy = Strange(), PROXIES
    socket.socket().close()
"""


def test_objects_that_answer_strangely(inner: Inner) -> None:
    inner.write(test_a=STRANGE)
    result = inner.judge(
        test_a_strange_socket_leaks="leaked",
        test_a_strange_socket_is_closed="clean",
        test_a_strange_thread_leaks="leaked",
        test_a_socket_beside_a_thread_leaks="leaked",
        test_a_leak_under_a_strange_key="leaked",
        test_a_leak_held_by_a_strange_object="leaked",
        test_a_leak_in_a_frame_of_strange_variables="leaked",
        test_a_leak_beside_a_strange_handler="leaked",
        test_is_clean_beside_a_strange_handler="clean",
    )
    result.stdout.no_fnmatch_line("*was asked for its class*")
    assert inner.report["fixtures"] == []


STRANGE_TASKS = """
import asyncio
import collections.abc
import socket

import pytest

KEPT = []


class GoneLoop(asyncio.SelectorEventLoop):
    \"\"\"As that of a window which is gone.\"\"\"

    is_gone = False

    def is_closed(self):
        if self.is_gone:
            raise RuntimeError("the window has been deleted")
        return super().is_closed()


class Job(collections.abc.Coroutine):
    \"\"\"Runs in a task, and answers no other question.\"\"\"

    def __init__(self, waits):
        self.waits = waits

    def send(self, value):
        if not self.waits:
            raise StopIteration(1)
        return asyncio.get_running_loop().create_future()

    def throw(self, *error):
        raise asyncio.CancelledError

    def close(self):
        pass

    def __await__(self):
        yield

    def __getattr__(self, name):
        raise RuntimeError("must not be asked for " + name)


async def run(job):
    assert await asyncio.get_running_loop().create_task(job) == 1


def test_a_loop_of_a_window_that_is_gone():
    loop = GoneLoop()
    loop.close()
    loop.is_gone = True
    KEPT.append(loop)


def test_a_socket_leaks_beside_it():
    KEPT.append(socket.socket())


def test_an_open_loop_that_does_not_answer():
    loop = GoneLoop()
    loop.is_gone = True
    KEPT.append(loop)


def test_a_job_that_ends():
    asyncio.run(run(Job(waits=False)))


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    KEPT[-1].cancel()
    loop.close()


def test_a_job_leaks(loop):
    KEPT.append(loop.create_task(Job(waits=True)))
    loop.run_until_complete(asyncio.sleep(0))
"""


def test_loops_and_coroutines_that_answer_strangely(inner: Inner) -> None:
    inner.write(test_a=STRANGE_TASKS)
    inner.judge(
        test_a_loop_of_a_window_that_is_gone="clean",
        test_a_socket_leaks_beside_it="leaked",
        test_an_open_loop_that_does_not_answer="leaked",
        test_a_job_that_ends="clean",
        test_a_job_leaks="leaked",
    )
    assert "disabled" not in inner.report


def test_a_class_that_refuses_to_be_compared_may_have_what_leaks_or_not(inner: Inner) -> None:
    inner.write(
        test_a="""
        import os
        import pytest

        KEPT = []

        class Refusing(type):
            def __eq__(cls, other):
                raise RuntimeError("not to be asked")

            def __hash__(cls):
                raise RuntimeError("not to be asked")

        class Store(metaclass=Refusing):
            def __init__(self):
                self.me, self.file = self, open(os.devnull)

        @pytest.fixture
        def store():
            return Store()

        def test_kept(store):
            KEPT.append(store)

        def test_dropped(store):
            pass

        def test_dropped_by_a_test_that_fails(store):
            raise ValueError
        """
    )
    inner.judge(test_kept="leaked", test_dropped="clean", test_dropped_by_a_test_that_fails="clean")
