"""Tools around the tests: what they make is theirs, and what tests make through their wrappers is the tests'."""

from __future__ import annotations

import functools
import sys
import textwrap
import threading
import types
from pathlib import Path
from typing import Any

import pytest
from inner import Inner

from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.probes import infrastructure

INSTALLED = "/venv/lib/python3/site-packages/"
USER = "/project/tests/test_a.py"


def suspect(*files: str) -> Suspect:
    """A thread that was made in these files, innermost first; below the installed packages where they are relative."""
    stack = tuple(Site(file if file.startswith("/") else INSTALLED + file, 1, "call") for file in files)
    created = next((site for site in stack if site.file == USER), None)
    return Suspect(Kind.THREADS, "threading", "Thread", State.RUNNING, "", 1, created, stack)


PASSAGES = [
    ("sentry_sdk/integrations/threading.py",),
    ("sentry_sdk/integrations/stdlib.py", "sentry_sdk/utils.py"),
    ("opentelemetry/instrumentation/threading/__init__.py",),
    ("opentelemetry/instrumentation/urllib/__init__.py", "wrapt/wrappers.py"),
    ("ddtrace/contrib/internal/subprocess/patch.py", "ddtrace/contrib/internal/trace_utils.py"),
    ("newrelic/hooks/external_httplib.py", "newrelic/packages/wrapt/wrappers.py", "newrelic/common/object_wrapper.py"),
    ("viztracer/patch.py",),
    ("sentry_sdk/integrations/threading.py", threading.__file__, "opentelemetry/instrumentation/threading/__init__.py"),
]
passages = pytest.mark.parametrize("through", PASSAGES, ids=" ".join)


@passages
def test_what_a_test_makes_through_a_tools_wrapper_is_the_tests(through: tuple[str, ...]) -> None:
    assert not infrastructure.is_of_a_tool(suspect(threading.__file__, *through, USER))


@passages
def test_what_a_library_makes_through_a_tools_wrapper_is_not_the_tools(through: tuple[str, ...]) -> None:
    assert not infrastructure.is_of_a_tool(suspect(threading.__file__, *through, "redis/client.py", USER))


@passages
@pytest.mark.parametrize(
    "asking",
    [
        "sentry_sdk/worker.py",
        "opentelemetry/sdk/trace/export.py",
        "ddtrace/internal/writer.py",
        "newrelic/core/agent.py",
    ],
)
def test_what_a_tool_makes_through_a_tools_wrapper_is_the_tools(through: tuple[str, ...], asking: str) -> None:
    assert infrastructure.is_of_a_tool(suspect(threading.__file__, *through, asking, USER))


@pytest.mark.parametrize("asking", ["coverage/control.py", "xdist/workermanage.py", "debugpy/server/api.py"])
def test_what_a_tool_makes_itself_is_the_tools(asking: str) -> None:
    assert infrastructure.is_of_a_tool(suspect(threading.__file__, asking, USER))


@passages
def test_what_is_made_through_a_wrapper_with_nobody_behind_it_comes_from_outside_the_tests(
    through: tuple[str, ...],
) -> None:
    assert infrastructure.is_of_a_tool(suspect(threading.__file__, *through))


PLUGIN = """
import os, socket, threading
import pytest
import sdk

def pytest_runtest_logreport(report):
    sdk.send(report.nodeid)

@pytest.fixture
def agent():
    sdk.send("number")
"""
SDK = """
import os, socket, threading

sent = []

def send(name):
    if "thread" in name:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if "number" in name:
        sent.append(os.dup(0))
    if "socket" in name:
        sent.append(socket.socket().detach())
"""
HOOKED = """
import sdk

def test_thread(): pass

def test_number(): pass

def test_socket(): pass

def test_asks_for_it(agent): pass

def test_calls_it():
    sdk.send("thread")
"""


def test_what_a_plugins_hook_has_others_make_is_the_plugins(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, agent_of_tests=PLUGIN, sdk=SDK)
    inner.write(test_a=HOOKED)
    hooked = dict.fromkeys(["test_thread", "test_number", "test_socket"], "clean")
    inner.judge("-p", "agent_of_tests", **hooked, test_asks_for_it="leaked", test_calls_it="leaked")


# -- a thread that runs a tool's code ----------------------------------------------------------------------------------

WORKER = "sentry_sdk/worker.py"
WRAPPER = "sentry_sdk/integrations/threading.py"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a tool's, with a function, a method, a class of threads, and a decorator."""
    module: Any = types.ModuleType("sentry_sdk.worker")
    module.__file__ = INSTALLED + WORKER
    source = """
    import functools, threading

    class Worker:
        def run(self):
            pass

    class Thread(threading.Thread):
        pass

    def flush():
        pass

    def traced(function):
        return functools.wraps(function)(lambda: function())
    """
    exec(compile(textwrap.dedent(source), module.__file__, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def threads_of(worker: Any) -> list[threading.Thread]:
    """Threads, none of them started, that run what the tool has defined."""
    return [
        threading.Thread(target=worker.Worker().run),
        threading.Thread(target=functools.partial(functools.partial(worker.flush))),
        threading.Timer(1, worker.flush),
        worker.Thread(target=print),
    ]


@pytest.mark.parametrize("outside", [(), (WRAPPER,), ("stranger/hooks.py",), ("/project/tests/conftest.py",)])
def test_a_thread_that_a_tool_starts_for_its_own_code_is_the_tools_whoever_wraps_the_start(
    worker: Any, outside: tuple[str, ...]
) -> None:
    made = suspect(threading.__file__, *outside, WORKER, USER)
    assert [infrastructure.runs_a_tool(thread, made) for thread in threads_of(worker)] == [True] * 4


@pytest.mark.parametrize("outside", [(), (WRAPPER,)])
def test_a_thread_that_a_test_starts_for_a_tools_function_is_the_tests(worker: Any, outside: tuple[str, ...]) -> None:
    made = suspect(threading.__file__, *outside, USER)
    assert [infrastructure.runs_a_tool(thread, made) for thread in threads_of(worker)[:3]] == [False] * 3


def test_a_tools_own_class_of_threads_is_the_tools_within_its_instrumentation(worker: Any) -> None:
    made = suspect(threading.__file__, "sentry_sdk/integrations/aws_lambda.py", USER)
    assert infrastructure.runs_a_tool(worker.Thread(), made)


def test_a_thread_that_runs_what_a_tool_decorates_is_not_the_tools(worker: Any) -> None:
    def users() -> None:
        """Runs behind the tool's decorator."""

    made = suspect("stranger/hooks.py", WORKER, USER)
    for target in (users, worker.traced(users), print, threading.Event().wait, object()):
        assert not infrastructure.runs_a_tool(threading.Thread(target=target), made)  # type: ignore[arg-type]


# -- whom the user's line has called -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "wrapper"),
    [
        (("stranger/client.py", USER), "stranger"),
        (("stranger/client.py", "sdk/api.py", USER), "sdk"),
        (("stranger/client.py", "pytest_asyncio/plugin.py", USER), "stranger"),  # which has run the test's coroutine
        (("pytest_httpserver/httpserver.py", USER), "pytest_httpserver"),
        (("hishel/storage.py", "httpx/_client.py", USER), "httpx"),
    ],
)
def test_the_wrapper_is_the_outermost_package_that_does_more_than_run_tests(
    files: tuple[str, ...], wrapper: str
) -> None:
    assert infrastructure.wrapper_of(suspect(*files)) == wrapper


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("google/auth/transport/requests.py", "google.auth"),
        ("google/six.py", "google.six"),
        ("google/cloud/storage/blob.py", "google.cloud.storage"),
        ("google/_upb.cpython-312-x86_64-linux-gnu.so", "google._upb"),
        ("compiled/client.py", "compiled"),
        ("sdk/client.py", "sdk"),
        ("sdk/http/client.py", "sdk"),
        ("lonely.py", "lonely"),
        ("not_there/client.py", "not_there"),
        ("pydantic/main.py", ""),  # which makes what a field's factory is
    ],
)
def test_the_name_of_a_package_in_a_folder_that_several_share_has_its_own(
    tmp_path: Path, file: str, package: str
) -> None:
    installed = tmp_path / "site-packages"
    for folder in ("google/auth/transport", "google/cloud/storage", "sdk/http", "compiled"):
        (installed / folder).mkdir(parents=True)
    for each in (
        "google/auth/__init__.py",
        "google/cloud/storage/__init__.py",
        "sdk/__init__.py",
        "compiled/__init__.abi3.so",
    ):
        (installed / each).touch()
    assert infrastructure.package_of(str(installed / file)) == package


def test_the_wrapper_is_another_where_that_one_is_ruled_out() -> None:
    made = suspect("hishel/storage.py", "httpx/_client.py", USER)
    assert infrastructure.wrapper_of(made, but={"httpx"}) == "hishel"


# -- a whole run under a tool ------------------------------------------------------------------------------------------

# As sentry_sdk does it: wrappers in `integrations`, some behind a decorator, and workers that are started at first use.
TOOL = {
    "sentry_sdk/__init__.py": """
        from sentry_sdk.worker import Worker

        worker = Worker()
        capture = worker.submit
        capture_later = worker.submit_later
        capture_in_loop = worker.submit_in_loop
        """,
    "sentry_sdk/utils.py": """
        import functools

        def enabled(original):
            def decorate(patched):
                def runner(*args, **kwargs):
                    return patched(*args, **kwargs)
                return functools.wraps(original)(runner)
            return decorate
        """,
    "sentry_sdk/worker.py": """
        import asyncio
        import threading

        class Worker:
            def __init__(self):
                self.kept = []

            def submit(self):
                self._start(threading.Thread(target=self._target))

            def submit_later(self):
                self._start(threading.Timer(100, self._target))

            def submit_in_loop(self):
                self.kept.append(asyncio.get_running_loop().create_task(self._process()))

            def _start(self, thread):
                self.kept.append(thread)
                thread.daemon = True
                thread.start()

            def _target(self):
                threading.Event().wait()

            async def _process(self):
                await asyncio.sleep(100)
        """,
    "sentry_sdk/integrations/__init__.py": "",
    "sentry_sdk/integrations/threading.py": """
        import asyncio
        import functools
        import subprocess
        import threading

        from sentry_sdk.utils import enabled

        def install():
            old_start, old_init = threading.Thread.start, subprocess.Popen.__init__
            old_create = asyncio.BaseEventLoop.create_task

            @functools.wraps(old_start)
            def start(self, *args, **kwargs):
                old_run = self.run

                @functools.wraps(old_run)
                def run(*args, **kwargs):
                    return old_run(*args, **kwargs)

                self.run = run
                return old_start(self, *args, **kwargs)

            @enabled(old_init)
            def init(self, *args, **kwargs):
                return old_init(self, *args, **kwargs)

            def create_task(self, coroutine, **kwargs):
                async def traced():
                    return await coroutine

                return old_create(self, traced(), **kwargs)

            threading.Thread.start = start
            subprocess.Popen.__init__ = init
            asyncio.BaseEventLoop.create_task = create_task
        """,
    # Known to nobody: its wrapper is innermost where it is installed first.
    "stranger.py": """
        import threading

        def install():
            old_start = threading.Thread.start

            def start(self):
                old_start(self)

            threading.Thread.start = start
        """,
}

CONFTEST = """
    import asyncio
    import importlib
    import os
    import sys
    from pathlib import Path

    import pytest

    sys.path.insert(0, str(Path(__file__).with_name("site-packages")))

    def pytest_collection():  # as at the import of a test file: over what the plugin has patched
        for name in filter(None, os.environ["WRAPPERS"].split(",")):
            importlib.import_module(name).install()

    @pytest.fixture(scope="session")
    def run():
        loop = asyncio.new_event_loop()
        yield loop.run_until_complete
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.close()
    """

TESTS = """
    import asyncio, subprocess, sys, threading
    import pytest

    SLEEPER = [sys.executable, "-c", "input()"]
    KEPT = []

    @pytest.fixture(scope="session", autouse=True)
    def put_away():
        yield
        while KEPT:
            KEPT.pop()()

    def test_kept_thread():
        stop = threading.Event()
        threading.Thread(target=stop.wait).start()  # leak
        KEPT.append(stop.set)

    def test_joined_thread():
        thread = threading.Thread(target=threading.Event().is_set)
        thread.start()
        thread.join()

    def test_kept_pipe():
        process = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)  # leak
        KEPT.append(process.communicate)

    def test_closed_pipe():
        with subprocess.Popen(SLEEPER, stdin=subprocess.PIPE) as process:
            process.communicate(b"on")

    def test_kept_process_of_a_thread():
        def work():
            process = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)  # leak
            KEPT.append(process.communicate)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def test_kept_task(run):
        async def main():
            KEPT.append(asyncio.create_task(asyncio.sleep(100)).done)  # leak
        run(main())

    def test_awaited_task(run):
        async def main():
            await asyncio.create_task(asyncio.sleep(0))
        run(main())
    """

OWN = """
    import sentry_sdk

    def test_worker():
        sentry_sdk.capture()

    def test_timer():
        sentry_sdk.capture_later()

    def test_task(run):
        async def main():
            sentry_sdk.capture_in_loop()
        run(main())
    """


@pytest.fixture
def tooled(inner: Inner) -> Inner:
    """Inner runs with the tool among their installed packages."""
    for name, source in TOOL.items():
        path = inner.path / "site-packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), "utf-8")
    inner.write(conftest=CONFTEST)
    return inner


wrappers = pytest.mark.parametrize(
    "wrappers",
    ["", "sentry_sdk.integrations.threading", "stranger,sentry_sdk.integrations.threading"],
    ids=["none", "its own", "another's within"],
)


@wrappers
def test_what_tests_leave_behind_under_a_tool_is_found_at_their_own_lines(
    tooled: Inner, monkeypatch: pytest.MonkeyPatch, wrappers: str
) -> None:
    monkeypatch.setenv("WRAPPERS", wrappers)
    tooled.write(test_a=TESTS)
    tooled.judge(
        test_kept_thread="leaked",
        test_joined_thread="clean",
        test_kept_pipe="leaked",
        test_closed_pipe="clean",
        test_kept_process_of_a_thread="leaked",
        test_kept_task="leaked",
        test_awaited_task="clean",
    )
    found = [finding["created"]["line"] for row in tooled.report["tests"] for finding in row["findings"]]
    lines = (tooled.path / "test_a.py").read_text("utf-8").splitlines()
    assert found == [number for number, line in enumerate(lines, 1) if line.endswith("# leak")]


@wrappers
def test_what_a_tool_keeps_for_itself_is_nobodys_leak(
    tooled: Inner, monkeypatch: pytest.MonkeyPatch, wrappers: str
) -> None:
    monkeypatch.setenv("WRAPPERS", wrappers)
    tooled.write(test_a=OWN)
    tooled.judge(test_worker="clean", test_timer="clean", test_task="clean")


MANAGERS = """
    import multiprocessing

    import pytest

    CONTEXT = multiprocessing.get_context("fork")
    KEPT = []

    @pytest.fixture(scope="session", autouse=True)
    def put_away():
        yield
        while KEPT:
            KEPT.pop().shutdown()

    @pytest.fixture
    def shared():
        with CONTEXT.Manager() as manager:
            yield manager.dict()

    @pytest.fixture(scope="module")
    def wide():
        with CONTEXT.Manager() as manager:
            yield manager.dict()

    def test_proxy_of_a_fixture(shared):
        shared["a"] = 1

    def test_proxy_of_a_wider_fixture(wide):
        wide["a"] = 1

    def test_manager_that_is_left_running():
        KEPT.append(CONTEXT.Manager())
        KEPT[0].dict()["a"] = 1
    """


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_the_connection_of_a_proxy_is_multiprocessings(inner: Inner) -> None:
    inner.write(test_a=MANAGERS)
    result = inner.run()
    assert inner.outcomes() == {
        "test_proxy_of_a_fixture": "clean",
        "test_proxy_of_a_wider_fixture": "clean",
        "test_manager_that_is_left_running": "leaked",
    }
    result.assert_outcomes(passed=2, failed=1)
