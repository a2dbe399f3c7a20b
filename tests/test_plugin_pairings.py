"""Side by side with other plugins: one leaking test, one clean test, and the outcome that each must have."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
from inner import Inner

LEAK = "KEPT.append(socket.socket())"

PLAIN = f"""
import socket
import pytest

KEPT = []


def test_leaks():
    {LEAK}


def test_clean():
    socket.socket().close()
"""


@dataclass(frozen=True)
class Pairing:
    """A plugin, how it is switched on, what is tested with it, and what each test's row must say."""

    module: str
    arguments: tuple[str, ...] = ()
    source: str = PLAIN
    rows: dict[str, str] = field(default_factory=lambda: {"test_leaks": "leaked", "test_clean": "clean"})
    failed: int = 1
    passed: int = 1
    errors: int = 0
    ini: str = ""


def with_plugin(name: str, *more: str) -> tuple[str, ...]:
    return ("-p", name, *more)


PAIRINGS: dict[str, Pairing] = {
    "xdist": Pairing("xdist", with_plugin("xdist", "-n2")),
    "xdist, by scope": Pairing("xdist", with_plugin("xdist", "-n2", "--dist=loadscope")),
    "xdist, in one process": Pairing("xdist", with_plugin("xdist", "-n0")),
    "cov": Pairing("pytest_cov", with_plugin("pytest_cov.plugin", "--cov=.", "--cov-branch")),
    "timeout by signal": Pairing(
        "pytest_timeout", with_plugin("pytest_timeout", "--timeout=60", "--timeout-method=signal")
    ),
    "timeout by thread": Pairing(
        "pytest_timeout", with_plugin("pytest_timeout", "--timeout=60", "--timeout-method=thread")
    ),
    "timeout of the call only": Pairing(
        "pytest_timeout", with_plugin("pytest_timeout", "--timeout=60", "-o", "timeout_func_only=true")
    ),
    "randomly": Pairing("pytest_randomly", with_plugin("pytest_randomly")),
    "repeat": Pairing(
        "pytest_repeat",
        with_plugin("pytest_repeat", "--count=2"),
        rows={
            f"test_{name}[{n}-2]": outcome
            for name, outcome in (("leaks", "leaked"), ("clean", "clean"))
            for n in (1, 2)
        },
        failed=2,
        passed=2,
    ),
    "socket": Pairing("pytest_socket", with_plugin("pytest_socket", "--allow-hosts=127.0.0.1")),
    "socket, disabled for one test": Pairing(
        "pytest_socket",
        with_plugin("pytest_socket"),
        PLAIN
        + """
def test_disabled(socket_disabled):
    import pytest_socket
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.socket()
""",
        {"test_leaks": "leaked", "test_clean": "clean", "test_disabled": "clean"},
        passed=2,
    ),
    "mock": Pairing(
        "pytest_mock",
        with_plugin("pytest_mock"),
        f"""
import socket

KEPT = []

def test_leaks(mocker):
    spy = mocker.spy(socket, "socketpair")
    KEPT.extend(socket.socketpair())
    assert spy.call_count == 1

def test_clean(mocker):
    mocker.patch("socket.socket")
    {LEAK}
""",
    ),
    "httpserver": Pairing(
        "pytest_httpserver",
        with_plugin("pytest_httpserver"),
        """
import urllib.request

KEPT = []

def test_leaks(httpserver):
    httpserver.expect_request("/").respond_with_data("x" * 1000000)
    KEPT.append(urllib.request.urlopen(httpserver.url_for("/")))

def test_clean(httpserver):
    httpserver.expect_request("/").respond_with_data("ok")
    with urllib.request.urlopen(httpserver.url_for("/")) as response:
        assert response.read() == b"ok"
""",
    ),
    "pytest-httpx": Pairing(
        "pytest_httpx",
        with_plugin("pytest_httpx"),
        f"""
import socket
import httpx

KEPT = []

def test_leaks(httpx_mock):
    httpx_mock.add_response(text="ok")
    assert httpx.get("http://example.org/").text == "ok"
    {LEAK}

def test_clean(httpx_mock):
    httpx_mock.add_response(text="ok")
    KEPT.append(httpx.Client())
    assert KEPT[-1].get("http://example.org/").text == "ok"
""",
    ),
    "respx": Pairing(
        "respx",
        with_plugin("respx.plugin"),
        f"""
import socket
import httpx

KEPT = []

def test_leaks(respx_mock):
    respx_mock.get("http://example.org/").respond(text="ok")
    assert httpx.get("http://example.org/").text == "ok"
    {LEAK}

def test_clean(respx_mock):
    respx_mock.get("http://example.org/").respond(text="ok")
    KEPT.append(httpx.Client())
    assert KEPT[-1].get("http://example.org/").text == "ok"
""",
    ),
    "responses": Pairing(
        "responses",
        (),
        f"""
import socket
import requests
import responses

KEPT = []

@responses.activate
def test_leaks():
    responses.add(responses.GET, "http://example.org/", body="ok")
    assert requests.get("http://example.org/").text == "ok"
    {LEAK}

@responses.activate
def test_clean():
    responses.add(responses.GET, "http://example.org/", body="ok")
    KEPT.append(requests.get("http://example.org/", stream=True))
""",
    ),
    "pyfakefs around a whole module": Pairing(
        "pyfakefs",
        with_plugin("pyfakefs.pytest_plugin"),
        f"""
import os
import socket

KEPT = []

def test_leaks(fs_module):
    {LEAK}

def test_leaks_a_pipe(fs_module):
    KEPT.append(os.pipe())

def test_clean(fs_module):
    os.close(os.open("/a", os.O_CREAT))
    socket.socket().close()
""",
        rows={"test_leaks": "leaked", "test_leaks_a_pipe": "leaked", "test_clean": "clean"},
        failed=2,
    ),
    "freezegun": Pairing(
        "freezegun",
        (),
        f"""
import socket
import threading
import freezegun

KEPT = []
frozen = freezegun.freeze_time("2020-01-01")
frozen.start()

def test_leaks():
    {LEAK}

def test_clean():
    threading.Thread(target=threading.Event().wait, args=(0.01,)).start()
""",
    ),
    "time-machine": Pairing(
        "time_machine",
        with_plugin("time_machine"),
        f"""
import socket
import threading
import time_machine

KEPT = []
traveller = time_machine.travel(0, tick=False)
traveller.start()

def test_leaks():
    {LEAK}

def test_clean():
    threading.Thread(target=threading.Event().wait, args=(0.01,)).start()
""",
    ),
    "subtests": Pairing(
        "pytest",
        ("-p", "no:pytest_subtests"),
        f"""
import socket

KEPT = []

def test_leaks(subtests):
    for number in range(3):
        with subtests.test(number=number):
            {LEAK}

def test_clean(subtests):
    for number in range(3):
        with subtests.test(number=number), socket.socket():
            pass
""",
    ),
    "pytest-subtests": Pairing(
        "pytest_subtests",
        with_plugin("pytest_subtests.plugin", "-p", "no:subtests"),
        f"""
import socket

KEPT = []

def test_leaks(subtests):
    with subtests.test("one"):
        {LEAK}

def test_clean(subtests):
    with subtests.test("one"), socket.socket():
        pass
""",
    ),
    "unittest": Pairing(
        "unittest",
        (),
        f"""
import socket
import unittest

KEPT = []

class Case(unittest.TestCase):
    def test_leaks(self):
        {LEAK}

    def test_clean(self):
        self.addCleanup(self.enterContext(socket.socket()).close)
""",
    ),
    "unittest, asynchronous": Pairing(
        "unittest",
        (),
        """
import asyncio
import unittest

class Case(unittest.IsolatedAsyncioTestCase):
    async def test_leaks(self):
        self.task = asyncio.create_task(asyncio.sleep(30))

    async def test_clean(self):
        await asyncio.create_task(asyncio.sleep(0))
""",
    ),
    "asyncio": Pairing(
        "pytest_asyncio",
        with_plugin("pytest_asyncio.plugin"),
        """
import asyncio
import pytest

KEPT = []

@pytest.mark.asyncio
async def test_leaks():
    KEPT.append(asyncio.create_task(asyncio.sleep(30)))

@pytest.mark.asyncio
async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))
""",
        ini="asyncio_default_fixture_loop_scope = function",
    ),
    "anyio": Pairing(
        "anyio",
        with_plugin("anyio.pytest_plugin"),
        """
import asyncio
import pytest

KEPT = []
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_leaks():
    KEPT.append(asyncio.create_task(asyncio.sleep(30)))

async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))
""",
    ),
    "trio": Pairing(
        "pytest_trio",
        with_plugin("pytest_trio.plugin"),
        f"""
import socket
import pytest
import trio

KEPT = []

@pytest.mark.trio
async def test_leaks():
    {LEAK}

@pytest.mark.trio
async def test_clean():
    await trio.to_thread.run_sync(int)
""",
    ),
    "benchmark": Pairing(
        "pytest_benchmark",
        with_plugin("pytest_benchmark.plugin", "--benchmark-max-time=0.01", "--benchmark-warmup=off"),
        f"""
import socket

KEPT = []

def test_leaks(benchmark):
    benchmark(int)
    {LEAK}

def test_clean(benchmark):
    benchmark(int)
""",
    ),
    "hypothesis": Pairing(
        "hypothesis",
        with_plugin("_hypothesis_pytestplugin"),
        f"""
import socket
from hypothesis import given, settings, strategies

KEPT = []

@settings(max_examples=5, database=None, deadline=None)
@given(strategies.integers())
def test_leaks(number):
    {LEAK}

@settings(max_examples=5, database=None, deadline=None)
@given(strategies.integers())
def test_clean(number):
    socket.socket().close()
""",
    ),
    "doctest": Pairing(
        "doctest",
        ("--doctest-modules",),
        f'''
import socket

KEPT = []

def leaks():
    """
    >>> {LEAK}
    """

def clean():
    """
    >>> socket.socket().close()
    """
''',
        {"test_a.leaks": "leaked", "test_a.clean": "clean"},
    ),
    "faulthandler": Pairing("faulthandler", ("-o", "faulthandler_timeout=60")),
    "a log file": Pairing("logging", ("--log-file=run.log", "--log-cli-level=INFO")),
    "rerunfailures": Pairing(
        "pytest_rerunfailures", with_plugin("pytest_rerunfailures", "--reruns=1"), failed=0, passed=3, errors=1
    ),
    "flaky": Pairing(
        "flaky", with_plugin("flaky.flaky_pytest_plugin", "--force-flaky", "--max-runs=2"), failed=0, passed=2, errors=1
    ),
}


@pytest.mark.parametrize("name", PAIRINGS)
def test_the_outcomes_are_the_same_beside(inner: Inner, name: str) -> None:
    pairing = PAIRINGS[name]
    pytest.importorskip(pairing.module, reason=f"{pairing.module} is not installed")
    inner.write(test_a=pairing.source)
    inner.pytester.makeini(f"[pytest]\n{pairing.ini}\n")
    result = inner.run(*pairing.arguments)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*switched off for the rest*")
    assert inner.outcomes() == pairing.rows
    outcomes = Counter({word: result.parseoutcomes().get(word, 0) for word in ("failed", "passed", "errors")})
    assert (outcomes["failed"], outcomes["passed"], outcomes["errors"]) == (
        pairing.failed,
        pairing.passed,
        pairing.errors,
    )
    assert result.ret == 1


RERUN = f"""
import socket
import pytest

KEPT = []
runs = []

def test_leaks_only_in_its_first_run():
    runs.append(1)
    if len(runs) == 1:
        {LEAK}
        pytest.fail("own reason")

def test_leaks_in_each_run():
    {LEAK}
    pytest.fail("own reason")
"""


def test_a_test_that_is_run_again_is_judged_by_its_last_run(inner: Inner) -> None:
    pytest.importorskip("pytest_rerunfailures", reason="pytest_rerunfailures is not installed")
    inner.write(test_a=RERUN)
    result = inner.run("-p", "pytest_rerunfailures", "--reruns=1")
    assert inner.outcomes() == {"test_leaks_only_in_its_first_run": "clean", "test_leaks_in_each_run": "leaked"}
    result.stdout.fnmatch_lines(["*own reason*"])


FIXTURE_LEAKS = f"""
import socket
import pytest

KEPT = []

@pytest.fixture(scope="module")
def wide():
    {LEAK}

def test_first(wide):
    pass

def test_last():
    pass
"""


def test_a_fixtures_leak_fails_the_run_though_the_test_that_it_ends_with_is_run_again(inner: Inner) -> None:
    pytest.importorskip("pytest_rerunfailures", reason="pytest_rerunfailures is not installed")
    inner.write(test_a=FIXTURE_LEAKS)
    result = inner.run("-p", "pytest_rerunfailures", "--reruns=1")
    assert [row["outcome"] for row in inner.report["fixtures"]] == ["leaked"]
    assert result.ret == pytest.ExitCode.TESTS_FAILED


BESIDE = f"""
import socket
import pytest

KEPT = []

@pytest.fixture
def failing():
    {LEAK}
    pytest.fail("of the set-up")

@pytest.fixture
def failing_late():
    yield
    pytest.fail("of the teardown")

def test_fails():
    {LEAK}
    pytest.fail("of the test")

def test_fails_in_setup(failing):
    pass

def test_fails_in_teardown(failing_late):
    {LEAK}

def test_fails_and_is_clean():
    pytest.fail("of its own")

@pytest.mark.httpleak(mode="warn")
def test_warns():
    {LEAK}

@pytest.mark.httpleak(mode="warn")
def test_fails_and_warns():
    {LEAK}
    pytest.fail("beside a warning")
"""
RERUNNERS = {
    "pytest_rerunfailures": ("-p", "pytest_rerunfailures", "--reruns=1"),
    "flaky": ("-p", "flaky.flaky_pytest_plugin"),
}


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n1")], ids=["here", "in a worker"])
@pytest.mark.parametrize("name", [None, *RERUNNERS])
def test_what_does_not_fail_a_test_is_told_whoever_runs_it(
    inner: Inner, name: str | None, workers: tuple[str, ...]
) -> None:
    for module in (name, "xdist" if workers else None):
        if module is not None:
            pytest.importorskip(module)
    inner.write(test_a=BESIDE)
    result = inner.run(*RERUNNERS.get(str(name), ()), *workers, "-rA")
    shown = result.stdout.str().partition("= httpleak =")[0]
    told = set(re.findall(r"::(\w+)\n(It leaks \(a warning only\)|It also leaks)", shown))
    hidden = {"test_fails_in_setup"} if name == "flaky" and workers else set()  # sent off before its teardown
    assert told == {
        *((test, "It leaks (a warning only)") for test in ("test_warns", "test_fails_and_warns")),
        *((test, "It also leaks") for test in {"test_fails", "test_fails_in_setup", "test_fails_in_teardown"} - hidden),
    }
    for warned in ("test_warns", "test_fails_and_warns"):
        result.stdout.fnmatch_lines([f"test_a.py::{warned}", "*HttpLeakWarning: 1 socket leaked*"])


@pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="subtests came with pytest 9.0")
@pytest.mark.parametrize("name", RERUNNERS)
def test_a_leak_beside_a_subtest_that_fails_is_told_with_the_test(inner: Inner, name: str) -> None:
    pytest.importorskip(name)
    inner.write(
        test_a=f"""
        import socket
        import unittest

        KEPT = []

        class TestCase(unittest.TestCase):
            def test_leaks(self):
                {LEAK}
                with self.subTest():
                    self.fail("own reason")

            def test_clean(self):
                with self.subTest():
                    self.fail("own reason")
        """
    )
    result = inner.run(*RERUNNERS[name])
    assert inner.outcomes() == {"test_leaks": "leaked", "test_clean": "clean"}
    assert re.findall(r"::(\w+)\nIt also leaks", result.stdout.str()) == ["test_leaks"]


BDD = f"""
import socket
from pytest_bdd import given, scenario

KEPT = []

@scenario("a.feature", "Leaking")
def test_leaks():
    pass

@scenario("a.feature", "Clean")
def test_clean():
    pass

@given("a socket is left open")
def left():
    {LEAK}

@given("a socket is closed")
def closed():
    socket.socket().close()
"""


def test_steps_of_scenarios_are_the_tests(inner: Inner) -> None:
    pytest.importorskip("pytest_bdd", reason="pytest_bdd is not installed")
    feature = "Feature: sockets\n  Scenario: Leaking\n    Given a socket is left open\n"
    feature += "  Scenario: Clean\n    Given a socket is closed\n"
    (inner.path / "a.feature").write_text(feature)
    inner.write(test_a=BDD)
    inner.run("-p", "pytest_bdd.plugin").assert_outcomes(failed=1, passed=1)
    assert inner.outcomes() == {"test_leaks": "leaked", "test_clean": "clean"}


def test_a_timeout_of_the_test_stays_its_own_failure(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(
        test_a=f"import socket, threading\nKEPT = []\ndef test_a():\n    {LEAK}\n    threading.Event().wait(30)\n"
    )
    result = inner.run("-p", "pytest_timeout", "--timeout=0.2", "--timeout-method=signal")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Timeout*"])
    assert inner.outcomes() == {"test_a": "leaked"}


LIMITED = f"""
import socket, threading

KEPT = []


def test_leaks():
    {LEAK}


def test_is_clean():
    pass
"""

TIMERS = """
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(settings):
    print("seconds:", round(settings.timeout))
"""


def test_a_thread_that_limits_a_tests_time_does_not_end_the_run_while_we_wait(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=LIMITED)
    inner.run("-p", "pytest_timeout", "--timeout=0.6", "--timeout-method=thread", "--httpleak-grace=0.9")
    assert inner.outcomes() == {"test_leaks": "leaked", "test_is_clean": "clean"}


def test_it_gets_back_what_was_left(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=LIMITED, conftest=TIMERS)
    result = inner.run("-s", "-p", "pytest_timeout", "--timeout=60", "--timeout-method=thread")
    told = re.findall(r"seconds: (\d+)", result.stdout.str())
    # While it is judged and while that is told: ten seconds more each time; then the next test's.
    assert told == ["60", "70", "60", "70", "60", "60"]


HANGS_LATER = f"""
import socket, threading

import pytest

KEPT = []


@pytest.fixture(scope="module")
def hanging():
    yield
    threading.Event().wait(8)


def test_leaks(hanging):
    {LEAK}
"""


def test_it_ends_what_hangs_afterwards(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=HANGS_LATER)
    result = inner.run("-p", "pytest_timeout", "--timeout=0.5", "--timeout-method=thread", "--httpleak-grace=0")
    assert inner.report == {}  # as the process has ended
    assert "Timeout" in result.stdout.str() + result.stderr.str()


def test_it_is_left_alone_where_it_is_an_alarm(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=LIMITED, conftest=TIMERS)
    result = inner.run("-s", "-p", "pytest_timeout", "--timeout=60", "--timeout-method=signal")
    assert re.findall(r"seconds: (\d+)", result.stdout.str()) == ["60", "60"]


def test_a_limit_that_was_lifted_is_not_set_again(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=LIMITED.replace(LEAK, f"{LEAK}; 1 / 0"), conftest=TIMERS)
    result = inner.run("-s", "-p", "pytest_timeout", "--timeout=60", "--timeout-method=thread")
    assert inner.outcomes() == {"test_leaks": "leaked", "test_is_clean": "clean"}
    # pytest-timeout lifts it where a test fails.
    assert re.findall(r"seconds: (\d+)", result.stdout.str()) == ["60", "60"]


MOCKED = """
import socket, threading
from unittest import mock

import pytest

KEPT = []


@pytest.fixture
def stand_in():
    with mock.patch("threading.{name}") as stand_in:
        yield
    assert stand_in.call_args_list == []


@pytest.fixture(autouse=True)
def around(stand_in, httpleak):
    with pytest.raises(AssertionError), httpleak.check():
        KEPT.append(socket.socket())
    KEPT.pop().close()


def test_it():
    pass
"""


@pytest.mark.parametrize("name", ["Timer", "Thread.start"])
def test_what_stands_in_for_threads_is_not_asked_for_one(inner: Inner, name: str) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=MOCKED.replace("{name}", name))
    result = inner.run("-p", "pytest_timeout", "--timeout=60", "--timeout-method=thread")
    result.assert_outcomes(passed=1)


NOT_STARTED = """
import threading

STARTED = []
start = threading.Thread.start


def begin(thread):
    if isinstance(thread, threading.Timer):
        STARTED.append(thread)
        if len(STARTED) > 1:
            raise RuntimeError("can't start new thread")
    start(thread)


threading.Thread.start = begin


def pytest_unconfigure():
    threading.Thread.start = start
"""


def test_where_no_thread_can_be_started_the_timer_goes_on_that_is_set(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=LIMITED.replace("def test_is_clean():\n    pass\n", ""), conftest=NOT_STARTED)
    result = inner.run("-p", "pytest_timeout", "--timeout=60", "--timeout-method=thread", faulty=True)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert inner.outcomes() == {"test_leaks": "leaked"}


PEAK = """
import socket

import pytest

KEPT = []


def test_it(httpleak):
    with pytest.raises(AssertionError), httpleak.check():
        KEPT.append(socket.socket())
    KEPT.pop().close()
    assert httpleak.peak("threads") == 0
"""


def test_our_timers_are_no_threads_of_the_test(inner: Inner) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    inner.write(test_a=PEAK)
    inner.run("-p", "pytest_timeout", "--timeout=60", "--timeout-method=thread").assert_outcomes(passed=1)


LIMITED_ASYNC = """
import asyncio, socket

import pytest

KEPT = []


@pytest.mark.asyncio
async def test_leaves_a_task():
    KEPT.append(asyncio.create_task(asyncio.Event().wait()))


@pytest.mark.asyncio
async def test_checks_a_block(httpleak):
    with pytest.raises(AssertionError):
        async with httpleak.check():
            KEPT.append(socket.socket())
    KEPT.pop().close()
"""


@pytest.mark.parametrize("method", ["thread", "signal"])
def test_nor_does_the_limit_end_it_where_a_loop_runs_on_meanwhile(inner: Inner, method: str) -> None:
    pytest.importorskip("pytest_timeout", reason="pytest_timeout is not installed")
    pytest.importorskip("pytest_asyncio", reason="pytest_asyncio is not installed")
    inner.write(test_a=LIMITED_ASYNC)
    plugins = ("-p", "pytest_timeout", "-p", "pytest_asyncio.plugin")
    result = inner.run(*plugins, "--timeout=0.8", f"--timeout-method={method}", "--httpleak-grace=1.2")
    result.stdout.no_fnmatch_line("*Timeout*")
    assert inner.outcomes() == {"test_leaves_a_task": "leaked", "test_checks_a_block": "clean"}
