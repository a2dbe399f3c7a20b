"""Which tests are checked in which mode, and that an error of the plugin's own changes no outcome."""

from __future__ import annotations

import os
import socket
import textwrap
import threading
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from inner import Inner

from pytest_httpleak import adapters
from pytest_httpleak.fixturerows import fixture_row
from pytest_httpleak.looprecords import LoopRecord
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.probes import descriptors, infrastructure, references, tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.judging import Judging
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.looking import Looking
from pytest_httpleak.settings import default_settings, settings_from_keywords
from pytest_httpleak.socketrecords import SocketRecord

LEAK = "KEPT.append(socket.socket())"

MIXED = textwrap.dedent(
    f"""
    import socket
    import pytest

    KEPT = []
    untouched = socket.socket.__init__

    @pytest.fixture(scope="module")
    def wide():
        {LEAK}

    def test_plain(wide):
        {LEAK}

    @pytest.mark.httpleak
    def test_marked(wide):
        {LEAK}

    def test_with_the_fixture(httpleak):
        {LEAK}

    @pytest.mark.httpleak(sockets=1)
    def test_tolerated():
        {LEAK}

    @pytest.mark.httpleak(sockets=1)
    def test_more_than_tolerated():
        {LEAK}
        {LEAK}

    @pytest.mark.httpleak(mode="warn")
    def test_warned():
        {LEAK}

    @pytest.mark.httpleak(mode="off", reason="meant to stay")
    def test_off():
        {LEAK}

    @pytest.mark.httpleak(ignore=["created:*/test_a.py"])
    def test_ignored():
        {LEAK}

    def test_clean():
        pass
    """
)


@pytest.mark.parametrize(
    ("plugin", "ini", "status"),
    [
        (("-p", "httpleak"), "", 1),
        (("-p", "pytest_httpleak.plugin"), "httpleak = fail", 1),
        (("-p", "httpleak"), "httpleak = off", 1),
    ],
)
def test_every_test_is_checked_where_it_was_asked_for(
    inner: Inner, plugin: tuple[str, ...], ini: str, status: int
) -> None:
    inner.write(test_a=MIXED)
    inner.pytester.makeini(f"[pytest]\n{ini}\n")
    result = inner.run(plugin=plugin)
    assert result.ret == status
    assert inner.outcomes() == {
        "test_plain": "leaked",
        "test_marked": "leaked",
        "test_with_the_fixture": "leaked",
        "test_tolerated": "tolerated",
        "test_more_than_tolerated": "leaked",
        "test_warned": "warned",
        "test_off": "unchecked",
        "test_ignored": "tolerated",
        "test_clean": "clean",
    }
    assert [row["name"] for row in inner.report["fixtures"]] == ["wide"]


@pytest.fixture
def installed(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> Inner:
    """Inner runs in which the plugin is loaded, as an installed one is, and not asked for."""
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_httpleak.plugin")
    return inner


def test_what_a_wider_fixtures_value_makes_and_keeps_is_no_leak_of_a_marked_test_either(installed: Inner) -> None:
    installed.write(
        test_a="""
        import socket

        import pytest

        class Hub:
            def __init__(self):
                self.made = []

            def make(self):
                self.made.append(socket.socket())

        @pytest.fixture(scope="module")
        def hub():
            hub = Hub()
            yield hub
            for each in hub.made:
                each.close()

        @pytest.mark.httpleak
        def test_makes(hub):
            hub.make()

        @pytest.mark.httpleak
        def test_puts_its_own_there(hub):
            hub.made.append(socket.socket())
        """
    )
    for ini in ("", "httpleak = fail\n"):
        installed.pytester.makeini(f"[pytest]\n{ini}")
        installed.run(plugin=())
        assert installed.outcomes() == {"test_makes": "clean", "test_puts_its_own_there": "leaked"}


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n1")])
def test_where_it_is_only_installed_marked_tests_and_those_with_the_fixture_are_checked(
    installed: Inner, workers: tuple[str, ...]
) -> None:
    if workers:
        pytest.importorskip("xdist")
    installed.write(test_a=MIXED)
    result = installed.run(*workers, plugin=())
    assert result.ret == 1
    assert installed.outcomes() == {
        "test_marked": "leaked",
        "test_with_the_fixture": "leaked",
        "test_tolerated": "tolerated",
        "test_more_than_tolerated": "leaked",
        "test_warned": "warned",
        "test_off": "unchecked",
        "test_ignored": "tolerated",
    }
    assert installed.report["fixtures"] == []


UNTOUCHED = """
import socket, threading, os, builtins

def test_nothing_is_patched():
    for thing in (socket.socket.__init__, threading.Thread.start, os.open, builtins.open):
        assert not hasattr(thing, "__wrapped__")
"""


@pytest.mark.parametrize(("arguments", "header"), [((), "httpleak: marked"), (("--httpleak=off",), "httpleak: off")])
def test_where_nothing_is_checked_nothing_is_patched(installed: Inner, arguments: tuple[str, ...], header: str) -> None:
    installed.write(test_a=UNTOUCHED)
    result = installed.pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([header])
    result.stdout.no_fnmatch_line("*httpleak: * checked*")


def test_a_run_that_is_off_leaves_marker_and_fixture_inert(inner: Inner) -> None:
    inner.write(test_a=MIXED + "\ndef test_untouched(): assert socket.socket.__init__ is untouched\n")
    result = inner.run("--httpleak=off")
    assert result.ret == 0
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines(["httpleak: off"])


def test_without_the_plugin_marked_tests_run(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    inner.write(test_a="import pytest\n@pytest.mark.httpleak(sockets=1)\ndef test_a(): pass\n")
    result = inner.pytester.runpytest_subprocess("-p", "no:httpleak", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, warnings=1)


@pytest.mark.parametrize("filters", [(), ("-W", "error")])
def test_a_warning_leaves_the_exit_status_alone(inner: Inner, filters: tuple[str, ...]) -> None:
    inner.write(test_a=f"import socket\nKEPT = []\ndef test_a(): {LEAK}\n")
    result = inner.run("--httpleak=warn", *filters)
    assert result.ret == 0
    assert inner.outcomes() == {"test_a": "warned"}


def test_a_warning_is_among_pytests_warnings(inner: Inner) -> None:
    inner.write(test_a=f"import socket\nKEPT = []\ndef test_a(): {LEAK}\n")
    result = inner.run("--httpleak=warn")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*HttpLeakWarning: 1 socket leaked*", "*1 warned*"])


@pytest.mark.parametrize("plugins", [(), ("-p", "flaky.flaky_pytest_plugin")], ids=["", "where another runs the tests"])
def test_a_warning_of_a_wider_fixture_is_told_and_leaves_the_exit_status_alone(
    inner: Inner, plugins: tuple[str, ...]
) -> None:
    if plugins:
        pytest.importorskip("flaky")
    inner.write(
        test_a=f"import socket, pytest\nKEPT = []\n@pytest.fixture(scope='module')\ndef wide(): {LEAK}\n"
        "def test_a(wide): pass\n"
    )
    result = inner.run("--httpleak=warn", "-rP", *plugins)
    assert result.ret == 0
    result.assert_outcomes(passed=1, warnings=1)
    assert [row["outcome"] for row in inner.report["fixtures"]] == ["warned"]
    result.stdout.fnmatch_lines(["*HttpLeakWarning: 1 socket leaked*"])
    result.stdout.fnmatch_lines(["fixture 'wide' (scope module, test_a.py:3)", "It leaks (a warning only):"])
    result.stdout.fnmatch_lines(["httpleak: 1 checked, 0 leaked, 0 tolerated, 0 known, 1 fixture warned; *"])


def test_a_wider_fixture_that_is_clean_warns_of_nothing(inner: Inner) -> None:
    inner.write(
        test_a="import socket, pytest\n@pytest.fixture(scope='module')\ndef wide(): socket.socket().close()\n"
        "def test_a(wide): pass\n"
    )
    result = inner.run("--httpleak=warn")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*warned*")


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("socket=1", "test_a.py::test_b: httpleak marker got an unknown kind 'socket'; did you mean 'sockets'?"),
        ("sockets=-1", "test_a.py::test_b: httpleak marker key 'sockets'"),
        ("ignore=['thread:x']", "did you mean 'threads'?"),
        ("mode='of'", "did you mean 'off'?"),
    ],
)
def test_wrong_input_ends_the_run_before_the_first_test(inner: Inner, mark: str, message: str) -> None:
    inner.write(test_a=f"import pytest\ndef test_a(): pass\n@pytest.mark.httpleak({mark})\ndef test_b(): pass\n")
    result = inner.run()
    assert message in result.stdout.str() + result.stderr.str()
    assert result.ret == 4
    result.assert_outcomes()


def test_wrong_input_that_workers_meet_is_said_once(inner: Inner) -> None:
    pytest.importorskip("xdist")
    inner.write(test_a="import pytest\ndef test_a(): pass\n@pytest.mark.httpleak(socket=1)\ndef test_b(): pass\n")
    result = inner.run("-p", "xdist", "-n2")
    assert result.ret == 4
    assert result.stdout.str().count("did you mean 'sockets'?") == 1
    result.assert_outcomes()


def test_marks_on_module_class_and_function_merge(inner: Inner) -> None:
    inner.write(
        test_a=f"""
import socket, threading, pytest
pytestmark = pytest.mark.httpleak(sockets=2, ignore=["threads:never"])
KEPT = []
stop = threading.Event()

@pytest.mark.httpleak(sockets=1)
class TestIt:
    @pytest.mark.httpleak(threads=1)
    def test_both(self):
        {LEAK}
        threading.Thread(target=stop.wait, daemon=True).start()

    def test_the_class_wins(self):
        {LEAK}
        {LEAK}

def test_the_module():
    {LEAK}
    {LEAK}
"""
    )
    inner.run()
    assert inner.outcomes() == {
        "test_both": "tolerated",
        "test_the_class_wins": "leaked",
        "test_the_module": "tolerated",
    }


def test_a_tolerance_is_for_all_lines_of_a_kind_together(inner: Inner) -> None:
    leaks = "".join(f"    {LEAK}\n" for _ in range(3))
    inner.write(test_a=f"import socket, pytest\nKEPT = []\n@pytest.mark.httpleak(sockets=2)\ndef test_a():\n{leaks}")
    inner.run()
    assert inner.outcomes() == {"test_a": "leaked"}


# -- errors of the plugin's own ----------------------------------------------------------------------------------------


class Injected(Exception):
    """What goes wrong inside the plugin."""


def failing(*args: object, **kwargs: object) -> Any:
    raise Injected("on purpose")


PROBES: list[tuple[object, str]] = [
    (descriptors, "count"),
    (descriptors, "listing"),
    (descriptors, "identity"),
    (descriptors, "is_socket"),
    (descriptors, "server_sides"),
    (descriptors, "target"),
    (infrastructure, "descriptors"),
    (infrastructure, "is_of_a_tool"),
    (infrastructure, "is_tool_thread"),
    (infrastructure, "runs_a_tool"),
    (references, "held_by"),
    (references, "process_wide"),
    (tasks, "pending"),
    (tasks, "describe"),
    (Ledger, "suspects"),
    (Looking, "look"),
    (Judging, "causes"),
    (SocketRecord, "look"),
    (SocketRecord, "descriptors"),
    (Record, "suspect"),
    (LoopRecord, "look"),
]


def use_everything(kept: list[Any]) -> str:
    """Touches every adapter of the standard library, and leaves of each kind something behind."""
    import asyncio
    import http.client
    import os

    async def main() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(30)))

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    kept += [socket.socket(), os.dup(1), loop, stop, http.client.HTTPConnection("127.0.0.1")]
    return "the test's own result"


def put_away(kept: list[Any]) -> None:
    import asyncio
    import os

    task, sock, fd, loop, stop, connection = kept
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    sock.close()
    os.close(fd)
    stop.set()
    connection.close()


def watched(session: Session, kept: list[Any]) -> tuple[str, tuple[Finding, ...]]:
    """The result of using everything in a test, and the findings."""
    settings = settings_from_keywords(default_settings(), {"grace": 0.0}, "a test")
    check = session.begin("test_a", "function", settings)
    result = use_everything(kept)
    session.end(check)
    return result, check.findings


@pytest.mark.usefixtures("small_heap")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("place", "name"), PROBES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_error_in_a_probe_or_a_record_goes_no_further_and_is_named_once(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    session = Session(rootdir="/")
    kept: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing)
        session.start()
        try:
            result, _ = watched(session, kept)
            again, _ = watched(session, others := [])
        finally:
            session.stop()
    put_away(kept)
    put_away(others)
    assert result == again == "the test's own result"
    errors = [error for error in session.errors() if "Injected: on purpose" in error]
    assert len(errors) == len(session.errors()) <= 1, session.errors()


ADAPTERS = {adapter.__name__.rpartition(".")[2]: adapter for adapter in adapters.found()}


@pytest.mark.usefixtures("small_heap")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_cannot_be_attached_is_named_once_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    session = Session(rootdir="/")
    kept: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(ADAPTERS[name], "attach", failing)
        session.start()
        try:
            result, findings = watched(session, kept)
        finally:
            session.stop()
    put_away(kept)
    assert result == "the test's own result"
    assert findings
    assert len(session.errors()) <= 1
    assert all("Injected: on purpose" in error for error in session.errors())


@pytest.mark.usefixtures("small_heap")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ["add", "task_made", "descriptor_made", "owner", "birth", "give"])
def test_an_error_while_something_is_recorded_goes_no_further(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    session = Session(rootdir="/")
    kept: list[Any] = []
    monkeypatch.setattr(session.watch, name, failing)
    session.start()
    try:
        result, _ = watched(session, kept)
    finally:
        session.stop()
    put_away(kept)
    assert result == "the test's own result"
    assert all("Injected: on purpose" in error for error in session.errors())
    assert len(set(session.errors())) == len(session.errors())


@pytest.mark.parametrize(
    "target",
    [
        "pytest_httpleak.probes.descriptors.listing",
        "pytest_httpleak.session.judging.Judging.causes",
        "pytest_httpleak.session.core.Session.begin",
        "pytest_httpleak.adapters.sockets.attach",
    ],
)
def test_an_error_of_the_plugins_own_changes_no_outcome_and_is_named_once_in_the_summary(
    inner: Inner, target: str
) -> None:
    inner.write(
        conftest=f"""
import pytest
def failing(*args, **kwargs):
    raise RuntimeError("injected")
def pytest_configure(config):
    patch = pytest.MonkeyPatch()
    patch.setattr("{target}", failing)
""",
        test_a="""
import socket, pytest
@pytest.fixture(scope="module")
def wide():
    with socket.socket() as sock:
        yield sock
def test_passes(wide): socket.socket().close()
def test_fails(wide): assert False, "own reason"
KEPT = []
def test_leaks(): KEPT.append(socket.socket())
""",
    )
    result = inner.run(faulty=True)
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed", 0) + outcomes.get("failed", 0) == 3
    assert "errors" not in outcomes
    result.stdout.fnmatch_lines(["*own reason*"])
    text = result.stdout.str()
    assert text.count("injected") == 1, text


def test_asked_for_too_late_the_fixture_says_so_where_only_marked_tests_are_checked(installed: Inner) -> None:
    installed.write(
        test_a="""
        def test_late(request):
            request.getfixturevalue("httpleak").snapshot()
        """
    )
    late = installed.run(plugin=())
    late.assert_outcomes(failed=1)
    late.stdout.fnmatch_lines(["*test_a.py::test_late: *getfixturevalue()*too late*run `pytest -p httpleak`*"])
    installed.run("--httpleak=fail", plugin=()).assert_outcomes(passed=1)


def test_the_highest_numbers_are_those_since_the_test_began(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socket
        import pytest

        @pytest.fixture
        def three():
            sockets = [socket.socket() for _ in range(3)]
            yield sockets
            for each in sockets:
                each.close()

        def test_asks_afterwards(three, httpleak):
            with socket.socket():
                assert httpleak.peak("sockets") == 4

        def test_asks_before(httpleak, three):
            assert httpleak.peak("sockets") == 3
        """
    )
    inner.run().assert_outcomes(passed=2)


LATER_MARKS = """
import os
import socket
import pytest

KEPT = []

def test_in_the_test(request):
    request.node.add_marker(pytest.mark.httpleak(sockets=1))
    KEPT.append(socket.socket())

@pytest.fixture
def tolerant(request):
    request.applymarker(pytest.mark.httpleak(sockets=1))

def test_in_a_fixture(tolerant, httpleak):
    httpleak.tolerate(fds=1)
    KEPT.append(socket.socket())
    KEPT.append(open(__file__))

def test_another_mark(request):
    request.node.add_marker(pytest.mark.filterwarnings("default"))
    KEPT.append(socket.socket())

def test_too_many(tolerant):
    KEPT.extend([socket.socket(), socket.socket()])
"""


def test_marks_that_a_test_is_given_while_it_runs_count(inner: Inner) -> None:
    inner.write(test_a=LATER_MARKS)
    inner.run()
    assert inner.outcomes() == {
        "test_in_the_test": "tolerated",
        "test_in_a_fixture": "tolerated",
        "test_another_mark": "leaked",
        "test_too_many": "leaked",
    }


def test_a_wrong_mark_that_a_test_is_given_while_it_runs_is_an_error_with_its_place(inner: Inner) -> None:
    inner.write(
        test_a="""
        import pytest
        def test_wrong(request):
            request.node.add_marker(pytest.mark.httpleak(socket=1))
        def test_next():
            pass
        """
    )
    result = inner.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*test_a.py::test_wrong: httpleak marker got an unknown *'socket'; did you mean 'sockets'?*"]
    )
    assert inner.outcomes() == {"test_wrong": "clean", "test_next": "clean"}


def test_a_leak_in_a_file_whose_name_cannot_be_encoded_is_told(inner: Inner, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"lib_\xff")
    folder.mkdir()
    (folder / "helping.py").write_text("import socket\ndef make(): return socket.socket()\n", "utf-8")
    inner.write(
        test_a=f"""
        import sys
        sys.path.insert(0, {str(folder)!r})
        import helping
        KEPT = []
        def test_leaks(): KEPT.append(helping.make())
        """
    )
    result = inner.run()
    assert inner.outcomes() == {"test_leaks": "leaked"}
    result.stdout.no_fnmatch_line("*switched off*")


@pytest.mark.parametrize(
    ("mark", "fixtures"),
    [
        ("mode='off'", {}),
        ("mode='warn'", {"wide": "warned"}),
        ("sockets=1", {"wide": "tolerated"}),
        ("ignore=['sockets:*']", {"wide": "tolerated"}),
        ("sockets=0", {"wide": "leaked"}),
    ],
)
def test_marks_on_a_module_or_class_count_for_its_fixtures(inner: Inner, mark: str, fixtures: dict[str, str]) -> None:
    inner.write(
        test_a=f"""
        import socket
        import pytest
        pytestmark = pytest.mark.httpleak({mark})
        KEPT = []

        @pytest.fixture(scope="module")
        def wide():
            KEPT.append(socket.socket())
            yield

        def test_uses_it(wide):
            pass
        """,
        test_b=f"""
        import socket
        import pytest
        KEPT = []

        @pytest.fixture(scope="class")
        def wide():
            KEPT.append(socket.socket())
            yield

        @pytest.mark.httpleak({mark})
        class TestMarked:
            def test_uses_it(self, wide):
                pass
        """,
    )
    inner.run()
    found = [(row["name"], row["outcome"]) for row in inner.report["fixtures"]]
    assert found == 2 * list(fixtures.items())


def test_what_stands_in_for_a_fixtures_function_is_asked_for_no_more() -> None:
    made = types.SimpleNamespace(argname="client", func=mock.Mock(), scope="module", baseid="tests")
    row = fixture_row(made, ())  # type: ignore[arg-type]
    assert (row.name, row.file, row.line) == ("client", "", 0)


STOPPING = """
import socket

import pytest

KEPT = []


@pytest.fixture(scope="session")
def wide():
    yield
    {end}


def pytest_sessionstart(session):
    global running
    running = session


def pytest_runtest_logreport(report):
    if report.failed:
        running.shouldstop = "enough"
"""
STOPPED = """
import pytest

def test_clean(wide):
    pass

def test_fails(wide):
    assert False, "own reason"

def test_never(wide):
    pass
"""


@pytest.mark.parametrize(
    ("end", "lines"),
    [
        ("raise OSError('broken end')", ["*ERROR at teardown of test_fails*", "*OSError: broken end", "*own reason*"]),
        ("KEPT.append(socket.socket())", ["*own reason*", "*in: fixture 'wide'*", "*1 fixture leaked*"]),
        ("pass", ["*own reason*"]),
    ],
)
def test_a_run_that_is_ended_at_the_sight_of_a_report_ends_its_fixtures_with_that_test(
    inner: Inner, end: str, lines: list[str]
) -> None:
    """As by `--stepwise`; pytest itself ends them so, and would be ended by an error of theirs otherwise."""
    inner.write(conftest=STOPPING.replace("{end}", end), test_a=STOPPED)
    result = inner.run()
    result.assert_outcomes(passed=1, failed=1, errors=int("raise" in end))
    result.stdout.fnmatch_lines_random([*lines, "*Interrupted: enough*"])
    assert "Traceback" not in result.stderr.str()
