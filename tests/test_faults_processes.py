"""Child processes: nothing is judged in a child but tests that are run there, and nothing of it is blamed on its parent."""

from __future__ import annotations

import sys

import pytest
from inner import Inner

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

CHILDREN = """
import multiprocessing
import os
import socket
import subprocess
import sys
import threading

import pytest

KEPT = []
context = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


def leak_all(*_):
    KEPT.extend([socket.socket(), os.open(os.devnull, os.O_RDONLY)])
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def forked(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_forked_child_leaks():
    forked(leak_all)


def test_leaks_beside_a_forked_child():
    KEPT.append(socket.socket())
    forked(leak_all)


def test_a_forked_child_closes_what_its_parent_has_open():
    with socket.socket() as sock:
        forked(sock.close)
        assert sock.fileno() > 0


def test_a_forked_child_is_checked_by_nobody():
    def check():
        from pytest_httpleak.session.core import running
        assert running() is None
        leak_all()
    forked(check)


def test_a_forked_child_that_raises():
    pid = os.fork()
    if pid == 0:
        leak_all()
        try:
            raise RuntimeError("in the child")
        except RuntimeError:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@context
def test_multiprocessing(method):
    process = multiprocessing.get_context(method).Process(target=leak_all)
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()


@context
def test_leaks_beside_multiprocessing(method):
    process = multiprocessing.get_context(method).Process(target=leak_all)
    process.start()
    KEPT.append(socket.socket())
    process.join()
    process.close()


@context
def test_a_pool_of_processes(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        pool.map(leak_all, [1, 2])
        pool.close()
        pool.join()


def test_a_subprocess():
    code = "import socket; kept = [socket.socket() for _ in range(3)]; print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\\n"


def test_leaks_the_pipe_of_a_subprocess():
    process = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    process.wait()
    KEPT.append(process)


def test_is_clean():
    pass
"""


@pytest.mark.filterwarnings("ignore")
def test_what_children_leave_open_is_their_own(inner: Inner) -> None:
    inner.write(test_a=CHILDREN)
    result = inner.run("-W", "ignore")
    wrong = {
        name: outcome
        for name, outcome in inner.outcomes().items()
        if outcome != ("leaked" if name.startswith("test_leaks") else "clean")
    }
    assert wrong == {}, result.stdout.str()
    findings = [finding for row in inner.report["tests"] for finding in row["findings"]]
    assert [finding["count"] for finding in findings] == [1] * 5
    assert inner.report["summary"]["checked"] == len(inner.outcomes()) == 17
    result.stdout.no_fnmatch_line("*switched off*")
    result.assert_outcomes(passed=12, failed=5)


RUNAWAY = """
import os, socket, sys
import pytest

KEPT = []

def test_leaks():
    KEPT.append(socket.socket())

def test_forks_and_goes_on_in_the_child():
    pid = os.fork()
    if pid == 0:
        KEPT.append(socket.socket())
        sys.stdout = sys.stderr = open(os.devnull, "w")
        raise SystemExit(1)  # which the test runner in the child takes for the failure of this test, and goes on
    os.waitpid(pid, 0)
    assert not os.path.exists("report.json"), "the child has written its parent's report"

def test_is_clean():
    pass
"""


def test_a_child_that_a_test_forgets_to_end_writes_no_report(inner: Inner) -> None:
    inner.write(test_a=RUNAWAY)
    result = inner.run("-W", "ignore")
    assert inner.outcomes() == {
        "test_leaks": "leaked",
        "test_forks_and_goes_on_in_the_child": "clean",
        "test_is_clean": "clean",
    }, result.stdout.str()
    result.stdout.fnmatch_lines(["*1 failed, 2 passed*"])


FORKING = """
import json, os
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            reports = runtestprotocol(item, log=False)
            hook = item.config.hook.pytest_report_to_serializable
            with open(writer, "w") as file:
                json.dump([hook(config=item.config, report=each) for each in reports], file)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        sent = json.load(file)
    os.waitpid(pid, 0)
    hook = item.config.hook.pytest_report_from_serializable
    for each in sent:
        item.ihook.pytest_runtest_logreport(report=hook(config=item.config, data=each))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
FORKED = """
import os, socket
import pytest

KEPT = []

@pytest.fixture(scope="module")
def client():
    with socket.socket() as sock:
        yield sock

@pytest.fixture(scope="module")
def leaking_client():
    KEPT.append(socket.socket())

def test_leaks():
    KEPT.append(socket.socket())

def test_leaks_a_descriptor():
    KEPT.append(os.open(os.devnull, os.O_RDONLY))

def test_beside_a_fixtures(client):
    pass

def test_asks_for_it(leaking_client):
    pass

def test_forks():
    pid = os.fork()
    if pid == 0:
        KEPT.append(socket.socket())
        os._exit(0)
    os.waitpid(pid, 0)

@pytest.mark.httpleak(sockets=1)
def test_tolerates():
    KEPT.append(socket.socket())
"""


def test_tests_that_are_each_run_in_a_child_are_judged_there(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, forking=FORKING)
    inner.write(test_a=FORKED)
    result = inner.run("-W", "ignore", "-p", "forking")
    assert inner.outcomes() == {
        "test_leaks": "leaked",
        "test_leaks_a_descriptor": "leaked",
        "test_beside_a_fixtures": "clean",
        "test_asks_for_it": "clean",
        "test_forks": "clean",
        "test_tolerates": "tolerated",
    }, result.stdout.str()
    assert [fixture["name"] for fixture in inner.report["fixtures"]] == ["leaking_client"]
    result.assert_outcomes(passed=6, errors=3)


def test_a_worker_that_is_ended_by_its_test_is_xdists_business(inner: Inner) -> None:
    pytest.importorskip("xdist")
    inner.write(
        test_a="import os, socket\nKEPT = []\n"
        "def test_leaks(): KEPT.append(socket.socket())\ndef test_ends(): os._exit(3)\ndef test_is_clean(): pass\n"
    )
    result = inner.run("-p", "xdist", "-n1")
    assert result.ret == 1
    assert inner.outcomes() == {"test_leaks": "leaked", "test_is_clean": "clean"}
    assert inner.report["summary"]["complete"] is False
    result.stdout.fnmatch_lines(["*worker*crashed*test_ends*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


THREADS_BEFORE = """
import os, queue, socket, threading

ORDERS, DONE = queue.Queue(), queue.Queue()
KEPT = []

def serve():
    while True:
        ORDERS.get()
        KEPT.extend([socket.socket(), open(os.devnull)])
        DONE.put(None)

threading.Thread(target=serve, daemon=True).start()
"""


def test_what_a_thread_does_that_is_older_than_the_run_is_nobodys_leak(inner: Inner) -> None:
    inner.write(
        conftest=THREADS_BEFORE,
        test_a="import conftest, socket\nKEPT = []\n"
        "def test_beside_it():\n    conftest.ORDERS.put(1)\n    conftest.DONE.get()\n"
        "def test_leaks():\n    conftest.ORDERS.put(1)\n    conftest.DONE.get()\n    KEPT.append(socket.socket())\n",
    )
    inner.run()
    assert inner.outcomes() == {"test_beside_it": "clean", "test_leaks": "leaked"}
    assert [finding["count"] for row in inner.report["tests"] for finding in row["findings"]] == [1]
