"""What only a traceback, a fixture's value or a `unittest.TestCase` keeps is dropped: what Python ends then itself is no leak."""

from typing import Any

import pytest
from inner import Inner

from pytest_httpleak.probes.lasterror import FAR, NEAR, ends_of

CASES = """
import multiprocessing
import os
import queue
import socket
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import pytest

KEPT = []
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Manager:
    def __init__(self, case):
        self.case = case
        self.executor = ThreadPoolExecutor(1)
        self.executor.submit(int).result()


class TestDropped(unittest.TestCase):
    def test_executor(self):
        self.manager = Manager(self)

    def test_queue(self):
        self.queue = multiprocessing.Queue()
        self.queue.put(1)
        self.queue.get()

    def test_pipes(self):
        self.queue = multiprocessing.SimpleQueue()

    def test_file(self):
        self.file = open(os.devnull)

    def test_sockets(self):
        self.one, self.other = multiprocessing.Pipe()

    def test_that_fails(self):
        self.file = open(os.devnull)
        self.manager = Manager(self)
        raise ValueError


class TestKept(unittest.TestCase):
    def test_executor(self):
        self.manager = Manager(self)
        KEPT.append(self)

    def test_file(self):
        self.file = open(os.devnull)
        KEPT.append(self)

    def test_file_of_its_class(self):
        type(self).file = open(os.devnull)

    def test_file_that_a_thread_has(self):
        self.file = open(os.devnull)
        DONE.put(self.file)
        while not HAS.is_set():
            pass

    def test_one_of_many(self):
        self.files = [open(os.devnull) for _ in range(5)]
        KEPT.append(self.files[3])

    def test_bare_number(self):
        self.number = os.open(os.devnull, os.O_RDONLY)

    def test_socket(self):
        self.socket = socket.socket()

    def test_thread(self):
        self.thread = threading.Thread(target=STOP.wait)
        self.thread.start()

    def test_executor_at_work(self):
        self.executor = ThreadPoolExecutor(1)
        self.executor.submit(STOP.wait)

    @classmethod
    def tearDownClass(cls):
        cls.file.close()


STOP = threading.Event()
HAS = threading.Event()
DONE = queue.Queue()


def work():
    file = DONE.get()
    HAS.set()
    STOP.wait()


@pytest.fixture(scope="module", autouse=True)
def stop():
    thread = threading.Thread(target=work)
    thread.start()
    yield
    STOP.set()
    DONE.put(None)
    thread.join()
"""


def test_what_is_dropped_with_a_case_is_as_if_a_variable_had_it(inner: Inner) -> None:
    inner.write(test_a=CASES)
    inner.run("-k", "TestDropped", "--httpleak-grace=0.1")
    names = "executor queue pipes file sockets that_fails".split()
    assert inner.outcomes() == {f"test_{name}": "clean" for name in names}


def test_so_it_is_with_what_only_the_traceback_of_a_failed_test_keeps(inner: Inner) -> None:
    inner.write(
        test_a="""
        import multiprocessing
        from concurrent.futures import ThreadPoolExecutor

        KEPT = []

        def used(executor):
            executor.submit(int).result()
            return executor

        def test_dropped():
            executor, queue = used(ThreadPoolExecutor(1)), multiprocessing.Queue()
            queue.put(1)
            queue.get()
            raise ValueError

        def test_kept():
            KEPT.append(used(ThreadPoolExecutor(1)))
            raise ValueError
        """
    )
    inner.run("--httpleak-grace=0.1").assert_outcomes(failed=2)
    assert inner.outcomes() == {"test_dropped": "clean", "test_kept": "leaked"}


VALUES = """
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

KEPT = []
PROCESSES = []
STOP = threading.Event()
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Service:
    def __init__(self):
        self.me = self
        self.file = open(os.devnull)
        self.executor = ThreadPoolExecutor(1)
        self.executor.submit(int).result()


@pytest.fixture
def file():
    return open(os.devnull)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def executor(service):
    yield service.executor


@pytest.fixture(scope="module")
def of_the_module():
    yield Service()


@pytest.fixture
def sock():
    return socket.create_server(("127.0.0.1", 0))


class Number:
    def __init__(self):
        self.fd = os.open(os.devnull, os.O_RDONLY)


@pytest.fixture
def number():
    return Number()


@pytest.fixture
def process():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    PROCESSES.append(process.pid)
    return process


@pytest.fixture(scope="module")
def kept_for_the_module():
    KEPT.append(open(os.devnull))
    yield KEPT[-1]
    STOP.set()


def test_file(file):
    pass


def test_service(service):
    pass


def test_executor(executor):
    pass


def test_asked_for(request):
    request.getfixturevalue("file")


def test_of_the_module(of_the_module):
    pass


def test_kept(file):
    KEPT.append(file)


def test_kept_by_the_test_itself(request, file):
    request.node.mine = file


def test_whose_values_are_kept(request, file):
    KEPT.append(request.node.funcargs)


def test_kept_number(number):
    pass


def test_kept_by_a_process_that_runs(process):
    pass


def test_processes_end():
    for pid in PROCESSES:
        os.kill(pid, signal.SIGKILL)


def test_kept_at_work(executor):
    executor.submit(STOP.wait)


def test_socket(sock):
    pass


def test_kept_for_the_module(kept_for_the_module):
    pass
"""


def test_what_only_pytest_has_as_the_value_of_a_fixture_is_dropped_with_it(inner: Inner) -> None:
    inner.write(test_a=VALUES)
    inner.run("--httpleak-grace=0.1", "-k", "not kept and not socket").assert_outcomes(passed=6, deselected=8)


def test_the_value_of_a_fixture_that_stays_or_was_to_be_closed_is_a_leak(inner: Inner) -> None:
    inner.write(test_a=VALUES)
    inner.run("--httpleak-grace=0.1", "-k", "kept or socket or processes").assert_outcomes(passed=2, failed=7, errors=1)
    names = "kept kept_by_the_test_itself whose_values_are_kept kept_at_work socket kept_number".split()
    names.append("kept_by_a_process_that_runs")
    clean = ("test_kept_for_the_module", "test_processes_end")
    assert inner.outcomes() == {f"test_{name}": "leaked" for name in names} | dict.fromkeys(clean, "clean")


COUNTED = """
import gc

import pytest

asked = []
search = gc.get_referrers


def get_referrers(*things):
    asked.append(things)
    return search(*things)


@pytest.fixture(scope="session", autouse=True)
def counted():
    gc.get_referrers = get_referrers
    yield
    gc.get_referrers = search


def pytest_unconfigure():
    print("searches:", len(asked))
"""

SEVERAL = """
import os
import sqlite3
import unittest

import pytest

KEPT = []


class Store:
    def __init__(self, path):
        self.me = self
        self.file = open(os.devnull)
        self.connection = sqlite3.connect(path)
        self.connection.execute("create table some(number)")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def file(store):
    yield open(os.devnull)


def test_dropped(file, store):
    pass


def test_kept(file, store):
    KEPT.append(store.connection)


class TestOfUnittest(unittest.TestCase):
    def setUp(self):
        self.file = open(os.devnull)

    def test_case_dropped(self):
        self.addCleanup(self.file.flush)

    def test_case_kept(self):
        KEPT.append(self.file)
"""


@pytest.mark.parametrize("name", ["test_dropped", "test_case_dropped"])
def test_what_goes_with_a_test_is_told_without_a_search_of_the_heap(inner: Inner, name: str) -> None:
    inner.write(test_a=SEVERAL, conftest=COUNTED)
    result = inner.run("-k", name, "-s", "-W", "ignore::ResourceWarning")
    assert inner.outcomes() == {name: "clean"}
    result.stdout.fnmatch_lines(["searches: 0"])


@pytest.mark.parametrize("name", ["test_kept", "test_case_kept"])
def test_what_does_not_go_with_it_is_searched_for_and_told(inner: Inner, name: str) -> None:
    inner.write(test_a=SEVERAL, conftest=COUNTED)
    result = inner.run("-k", name, "-s", "-W", "ignore::ResourceWarning")
    assert inner.outcomes() == {name: "leaked"}
    result.stdout.re_match_lines(["searches: [1-9]"])


def test_what_was_detached_from_the_value_of_a_fixture_does_not_go_with_it(inner: Inner) -> None:
    inner.write(
        test_a="""
        import os
        import pytest

        KEPT = []

        @pytest.fixture
        def text():
            return open(os.devnull, "w")

        @pytest.fixture
        def binary():
            return open(os.devnull, "rb")

        def test_text_kept(text):
            KEPT.append(text.detach())

        def test_binary_kept(binary):
            KEPT.append(binary.detach())

        def test_text_detached(text):
            text.detach()

        def test_its_buffer(text):
            KEPT.append(text.buffer)  # which it closes when it is dropped

        def test_binary(binary):
            KEPT.append(binary.raw)
        """
    )
    inner.judge(
        "-W",
        "ignore::ResourceWarning",
        test_text_kept="leaked",
        test_binary_kept="leaked",
        test_text_detached="clean",
        test_its_buffer="clean",
        test_binary="clean",
    )


def test_after_a_block_nothing_is_dropped(inner: Inner) -> None:
    inner.write(
        test_a="""
        import os
        import unittest
        import pytest
        from pytest_httpleak import LeakError, no_leaks

        @pytest.fixture
        def files():
            files = []
            yield files
            with pytest.raises(LeakError), no_leaks():
                files.append(open(os.devnull))
            files.pop().close()

        def test_it(files):
            with pytest.raises(LeakError), no_leaks():
                files.append(open(os.devnull))
            files.pop().close()

        class TestCase(unittest.TestCase):
            def test_it(self):
                with pytest.raises(LeakError), no_leaks():
                    self.file = open(os.devnull)
                self.file.close()
        """
    )
    inner.run("--httpleak-grace=0.1").assert_outcomes(passed=2)


def test_what_stays_is_a_leak(inner: Inner) -> None:
    inner.write(test_a=CASES)
    inner.run("-k", "TestKept", "--httpleak-grace=0.1")
    names = "executor file file_of_its_class bare_number socket thread executor_at_work".split()
    names += ["file_that_a_thread_has", "one_of_many"]
    assert inner.outcomes() == {f"test_{name}": "leaked" for name in names}
    (many,) = (row for row in inner.report["tests"] if row["nodeid"].endswith("one_of_many"))
    assert [finding["count"] for finding in many["findings"]] == [1]


def test_nothing_is_kept_alive_by_looking_for_it(inner: Inner) -> None:
    after = """
class TestLater(unittest.TestCase):
    def test_threads(self):
        for thread in threading.enumerate():
            if thread.name == "QueueFeederThread":
                thread.join(10)
                assert not thread.is_alive()
"""
    inner.write(test_a=f"import gc\ngc.disable()\n{CASES}\n{after}")
    result = inner.run("-k", "(TestDropped and test_queue) or TestLater", "--httpleak-grace=0.1")
    result.assert_outcomes(passed=2, deselected=14)


def test_what_unittest_tears_down_after_the_debugger_is_no_leak(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socket
        import unittest

        class TestCase(unittest.TestCase):
            def setUp(self):
                self.sock = socket.socket()

            def tearDown(self):
                self.sock.close()

            def test_it(self):
                self.file = open(__file__)
        """
    )
    inner.run("--pdb")
    assert inner.outcomes() == {"test_it": "clean"}


WARNED = """
import os
import subprocess
import sys
import warnings

KEPT = []


def drop():
    child = subprocess.Popen([sys.executable, "-S", "-c", "pass"], stdout=subprocess.PIPE)
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


def test_is_dropped():
    drop()


def test_is_kept():
    KEPT.append(drop().stdout)
"""


def test_what_only_a_recorded_warning_keeps_is_dropped(inner: Inner) -> None:
    """pytest records those that are shown, each with the thing that it is about."""
    inner.write(test_a=WARNED)
    inner.run("-W", "always::ResourceWarning").assert_outcomes(passed=1, failed=1, warnings=2)
    assert inner.outcomes() == {"test_is_dropped": "clean", "test_is_kept": "leaked"}


class Plain:
    """Something that a list may have."""


@pytest.mark.parametrize(("steps", "levels", "is_told"), [(1, NEAR, True), (9, NEAR, False), (9, FAR, True)])
def test_at_first_only_those_are_asked_about_that_a_few_steps_lead_to(steps: int, levels: int, is_told: bool) -> None:
    thing = Plain()
    end: list[Any] = [thing]
    for _ in range(steps - 1):
        end = [end]
    assert (ends_of({id(thing): thing}, [end], levels=levels) is not None) is is_told


def test_what_only_a_cycle_seems_to_hold_is_held_by_what_is_not_seen() -> None:
    """By a variable, say: garbage would have been collected."""
    thing, other = Plain(), Plain()
    thing.__dict__["other"], other.__dict__["thing"] = other, thing
    assert ends_of({id(thing): thing}, [[]]) is None
    end = [other]
    assert ends_of({id(thing): thing}, [end]) == {id(end)}
