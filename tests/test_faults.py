"""Errors, signals, the collector, tracing, exits: none of them crashes, hides a leak or invents one."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inner import Inner

from pytest_httpleak import asking, opennumbers
from pytest_httpleak.probes import descriptors

LEAK = "KEPT.append(socket.socket())"


# -- signals -----------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, socket, threading, time

import pytest

KEPT = []
STOP = threading.Event()


def test_before():
    KEPT.append(socket.socket())


def test_is_interrupted_in_its_grace():
    thread = threading.Thread(target=STOP.wait, daemon=True)
    thread.start()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_never_runs():
    pass
"""


def test_an_interrupt_ends_a_grace_at_once(inner: Inner) -> None:
    inner.write(test_a=INTERRUPTED)
    result = inner.run("--httpleak-grace=60")
    assert result.ret == 2
    assert result.duration < 30
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert inner.report["summary"]["complete"] is False
    assert inner.outcomes() == {"test_before": "leaked"}


LIMITED = """
import signal, socket, threading

import pytest

KEPT = []


@pytest.fixture
def limit():
    def handler(number, frame):
        raise TimeoutError("the limit on the test's time")
    signal.signal(signal.SIGALRM, handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 1)  # what is left of the time for all of the test


def test_leaks(limit):
    KEPT.append(socket.socket())
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()


def test_of_a_limit_that_remains():
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert 0 < left <= 1
"""


def test_the_limit_on_a_tests_time_is_not_used_up_by_the_grace(inner: Inner) -> None:
    inner.write(test_a=LIMITED)
    inner.run("--httpleak-grace=1.3")
    assert inner.outcomes() == {"test_leaks": "leaked", "test_of_a_limit_that_remains": "clean"}
    assert {finding["kind"] for row in inner.report["tests"] for finding in row["findings"]} == {"sockets", "threads"}


LIMITED_WHILE_TOLD = """
import signal, socket

KEPT = []


def test_leaks():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 60)
    KEPT.append(socket.socket())
"""

TELLING = """
import signal

import pytest

from pytest_httpleak import LeakError


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call):
    if call.excinfo is not None and call.excinfo.errisinstance(LeakError):
        print("left while it is told:", round(signal.getitimer(signal.ITIMER_REAL)[0]))


def pytest_unconfigure():
    print("left in the end:", round(signal.getitimer(signal.ITIMER_REAL)[0]))
    signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_nor_while_its_leaks_are_told(inner: Inner) -> None:
    inner.write(test_a=LIMITED_WHILE_TOLD, conftest=TELLING)
    result = inner.run("-s")
    assert inner.outcomes() == {"test_leaks": "leaked"}
    result.stdout.re_match_lines([r".*left while it is told: (6[5-9]|70)", r".*left in the end: [56]\d"])


RAISING_HANDLER = """
import signal, socket

import pytest

KEPT = []


@pytest.fixture
def alarm():
    def handler(number, frame):
        raise TimeoutError("the program's own")
    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def within(monkeypatch, alarm):
    \"\"\"The alarm goes off while the plugin notes a birth.\"\"\"
    from pytest_httpleak import ownership
    capture = ownership.capture
    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGALRM)
        return capture(*args, **kwargs)
    monkeypatch.setattr(ownership, "capture", interrupted)


def test_its_timeout_reaches_it(within):
    with pytest.raises(TimeoutError, match="the program's own"):
        KEPT.append(socket.socket())
    KEPT.clear()


def test_leaks_afterwards():
    KEPT.append(socket.socket())


def test_is_clean_afterwards():
    socket.socket().close()
"""


def test_what_a_signals_handler_raises_while_the_plugin_is_at_work_reaches_the_program(inner: Inner) -> None:
    inner.write(test_a=RAISING_HANDLER)
    result = inner.judge(
        "-W",
        "ignore::ResourceWarning",
        test_its_timeout_reaches_it="clean",
        test_leaks_afterwards="leaked",
        test_is_clean_afterwards="clean",
    )
    result.assert_outcomes(passed=2, failed=1)


# -- the collector, tracing, exits, objects that die badly -------------------------------------------------------------

PHASES = """
import asyncio, gc, os, socket, sys, threading

import pytest

KEPT = []
SEEN = []


@pytest.fixture
def eager():
    before = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)


@pytest.fixture
def disabled():
    gc.disable()
    yield
    assert not gc.isenabled()
    gc.enable()


@pytest.fixture(params=["settrace", "setprofile"])
def traced(request):
    def trace(frame, event, argument):
        SEEN.append(event)
        return trace
    before = getattr(sys, request.param.replace("set", "get"))()
    getattr(sys, request.param)(trace)
    yield
    getattr(sys, request.param)(before)


class Cycle:
    def __init__(self):
        self.me = self
        self.sock = socket.socket()


class Dying(Cycle):
    def __del__(self):
        raise RuntimeError("dies badly")


async def main(leave):
    task = asyncio.ensure_future(asyncio.sleep(30))
    await asyncio.sleep(0)
    if not leave:
        task.cancel()


def everything(leave):
    sock = socket.socket()
    fd = os.open(os.devnull, os.O_RDONLY)
    if leave:
        KEPT.extend([sock, fd])
    else:
        sock.close()
        os.close(fd)


@pytest.mark.parametrize("leave", [True, False])
def test_eager(eager, leave):
    everything(leave)


def test_eager_leaks_a_cycle(eager):
    Cycle()


@pytest.mark.parametrize("leave", [True, False])
def test_disabled(disabled, leave):
    everything(leave)


def test_disabled_leaks_a_cycle(disabled):
    Cycle()


@pytest.mark.parametrize("leave", [True, False])
def test_traced(traced, leave):
    everything(leave)
    assert SEEN


def test_leaks_what_dies_badly():
    Dying()


def test_stops_with_a_leak():
    KEPT.append(socket.socket())
    raise SystemExit(3)


def test_stops():
    raise SystemExit(3)


def test_is_clean():
    everything(False)
"""


def test_the_collector_tracing_and_exits_change_nothing(inner: Inner) -> None:
    inner.write(test_a=PHASES)
    result = inner.run("-W", "ignore")
    wrong = {
        name: outcome
        for name, outcome in inner.outcomes().items()
        if outcome != ("leaked" if "leak" in name or "True" in name else "clean")
    }
    assert wrong == {}, result.stdout.str()
    for row in inner.report["tests"]:
        kinds = sorted(finding["kind"] for finding in row["findings"])
        assert kinds == (
            [] if row["outcome"] == "clean" else ["fds", "sockets"] if "True" in row["nodeid"] else ["sockets"]
        )
        assert all(finding["count"] == 1 for finding in row["findings"])
    result.stdout.no_fnmatch_line("*switched off*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_run_that_a_test_exits_is_incomplete(inner: Inner) -> None:
    inner.write(
        test_a=f"import pytest, socket\nKEPT = []\ndef test_leaks(): {LEAK}\ndef test_exits(): pytest.exit('enough', 7)\n"
    )
    result = inner.run()
    assert result.ret == 7
    assert inner.outcomes() == {"test_leaks": "leaked"}
    assert inner.report["summary"]["complete"] is False
    result.stdout.fnmatch_lines(["*enough*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_fixture_that_ends_after_an_exit_is_judged_with_the_run(inner: Inner) -> None:
    inner.write(
        test_a=f"""
        import pytest, socket
        KEPT = []

        @pytest.fixture(scope="module")
        def leaks():
            {LEAK}
            yield

        @pytest.fixture(scope="module")
        def is_clean():
            with socket.socket():
                yield

        def test_exits(leaks, is_clean):
            pytest.exit("enough", 7)
        """
    )
    inner.run()
    assert [(row["name"], row["outcome"]) for row in inner.report["fixtures"]] == [("leaks", "leaked")]
    assert inner.outcomes() == {}


# -- the interpreter's end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1])
def test_what_is_left_when_the_interpreter_ends_is_no_error_of_the_plugins(inner: Inner, status: int) -> None:
    pytest.importorskip("httpx")
    inner.write(
        test_a=f"""
import asyncio, os, socket, threading
import httpx
import pytest
KEPT = []

class Late:
    def __del__(self):
        socket.socket().close()
        KEPT.append(httpx.Client())

pytestmark = pytest.mark.httpleak(mode="{"warn" if status == 0 else "fail"}")

def test_leaves():
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    KEPT.extend([socket.socket(), os.dup(1), asyncio.new_event_loop(), httpx.Client(), Late()])
    KEPT[2].create_task(asyncio.sleep(30))
"""
    )
    result = inner.run("-W", "ignore")
    assert result.ret == status
    assert "pytest_httpleak" not in result.stderr.str()


def test_a_thread_inside_a_checked_block_does_not_keep_the_interpreter_from_ending(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            import socket, sys, threading
            from pytest_httpleak import no_leaks
            entered, never = threading.Event(), threading.Event()
            kept = []
            def run():
                with no_leaks():
                    kept.append(socket.socket())
                    entered.set()
                    never.wait()
            threading.Thread(target=run, daemon=True).start()
            entered.wait()
            sys.exit(5)
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (5, "")


# -- what a handler raises while the plugin looks ------------------------------------------------------------------------


class Interrupting:
    """Stands for what the plugin asks, and is interrupted by a signal meanwhile."""

    def __call__(self, *args: object) -> Any:
        signal.raise_signal(signal.SIGUSR1)

    fileno = __call__

    @property
    def name(self) -> Any:
        return self()


@pytest.fixture(params=[TimeoutError, KeyError])
def raised(request: pytest.FixtureRequest) -> Iterator[type[Exception]]:
    """What the handler of a signal raises."""

    def handler(*_: object) -> None:
        raise request.param("enough")

    before = signal.signal(signal.SIGUSR1, handler)
    yield request.param
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal")
@pytest.mark.parametrize(
    ("module", "name", "look"),
    [
        (opennumbers, "_fstat", lambda: opennumbers.is_open(0)),
        (opennumbers, "_listdir", opennumbers.open_numbers),
        (descriptors, "_fstat", lambda: descriptors.identity(0)),
        (descriptors, "_readlink", lambda: descriptors.target(0)),
        (opennumbers, "_fstat", lambda: opennumbers.fileno(Interrupting())),
        (opennumbers, "_fstat", lambda: asking.attribute(Interrupting(), "name")),
    ],
)
def test_what_a_handler_raises_while_the_plugin_looks_goes_on_its_way(
    monkeypatch: pytest.MonkeyPatch, raised: type[Exception], module: Any, name: str, look: Callable[[], object]
) -> None:
    monkeypatch.setattr(module, name, Interrupting())
    with pytest.raises(raised, match="enough"):
        look()


def test_what_the_system_raises_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(fd: int) -> None:
        raise OSError(errno.EBADF, "closed")

    monkeypatch.setattr(opennumbers, "_fstat", closed)
    assert not opennumbers.is_open(0)
