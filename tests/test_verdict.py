"""What becomes of a leak in pytest's own reports: terminal, JUnit, exit status, other options of the command line."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from inner import Inner
from once import once
from truth import Suite

LEAK = "KEPT.append(socket.socket())"

SUITE = Suite(
    test_a=f"""
import socket
import warnings

import pytest
from pytest_httpleak import LeakError

KEPT = []


def test_leaks():
    {LEAK}


def test_is_clean():
    pass


def test_fails_itself():
    {LEAK}
    assert not KEPT, "own reason"


def test_skips_itself():
    {LEAK}
    pytest.skip("own reason")


@pytest.mark.xfail(raises=LeakError, reason="leaks")
def test_is_expected_to_leak():
    {LEAK}


@pytest.mark.xfail(strict=True, reason="fails")
def test_is_expected_to_fail():
    {LEAK}


@pytest.mark.xfail(raises=LeakError, strict=True, reason="leaks")
def test_is_expected_to_leak_and_does_not():
    pass


@pytest.mark.xfail(raises=ValueError, reason="fails")
def test_is_expected_to_fail_otherwise():
    {LEAK}


@pytest.mark.xfail(strict=True, reason="fails")
def test_fails_itself_as_expected():
    {LEAK}
    raise ValueError


@pytest.fixture
def failing():
    {LEAK}
    raise ValueError("own reason")


@pytest.fixture
def failing_late():
    yield
    {LEAK}
    raise ValueError("own reason")


def test_fails_in_setup(failing):
    pass


def test_fails_in_teardown(failing_late):
    pass


@pytest.mark.filterwarnings("error")
@pytest.mark.httpleak(mode="warn")
def test_only_warns():
    {LEAK}


def doctested():
    '''
    >>> {LEAK}
    '''


@pytest.fixture(scope="class")
def wide():
    {LEAK}


class TestExpected:
    @pytest.mark.xfail(reason="fails")
    def test_whose_fixture_leaks(self, wide):
        raise ValueError


class TestFailing:
    def test_whose_fixture_leaks_too(self, wide):
        raise ValueError("own reason")
""",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    def fill(folder: Path) -> None:
        SUITE.run(folder, "--doctest-modules", f"--junitxml={folder / 'junit.xml'}", "-ra")

    return SUITE.in_folder(once(tmp_path_factory, "verdict", fill))


@pytest.fixture(scope="module")
def junit(run: Suite) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for case in ET.parse(run.folder / "junit.xml").getroot().iter("testcase"):
        children = [child for child in case if child.tag != "properties"]
        found[case.get("name", "")] += [(child.tag, child.get("message") or "") for child in children]
    return found


SOCKET = "1 socket leaked: socket.socket TCP, not connected, *"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("test_leaks", f"FAILED *::test_leaks - {SOCKET[:12]}*"),
        ("test_fails_itself", "FAILED *::test_fails_itself - AssertionError: own reason"),
        ("test_skips_itself", "FAILED *::test_skips_itself - 1 socket*"),
        ("test_is_expected_to_leak", "XFAIL *::test_is_expected_to_leak - leaks"),
        ("test_is_expected_to_fail", "XFAIL *::test_is_expected_to_fail - fails"),
        ("test_is_expected_to_leak_and_does_not", "FAILED *::test_is_expected_to_leak_and_does_not*"),
        ("test_is_expected_to_fail_otherwise", "FAILED *::test_is_expected_to_fail_otherwise - 1 socket*"),
        ("test_fails_itself_as_expected", "XFAIL *::test_fails_itself_as_expected - fails"),
        ("test_fails_in_setup", "ERROR *::test_fails_in_setup - ValueError: own reason"),
        ("test_fails_in_teardown", "ERROR *::test_fails_in_teardown - ValueError: own reason"),
        ("test_a.doctested", "FAILED *::test_a.doctested - 1 socket*"),
        ("test_whose_fixture_leaks", "ERROR *::test_whose_fixture_leaks - 1 socket*"),
        ("test_whose_fixture_leaks_too", "FAILED *::test_whose_fixture_leaks_too - ValueError: own reason"),
        ("test_whose_fixture_leaks_too", "ERROR *::test_whose_fixture_leaks_too - 1 socket*"),
    ],
)
def test_a_leak_is_the_verdict_on_a_test_that_has_none_of_its_own(run: Suite, name: str, line: str) -> None:
    matcher = pytest.LineMatcher(run.output.partition("short test summary")[2].splitlines())
    matcher.fnmatch_lines([line])


@pytest.mark.parametrize("name", ["test_is_clean", "test_only_warns"])
def test_what_is_clean_or_only_warned_of_passes(run: Suite, junit: dict[str, list[tuple[str, str]]], name: str) -> None:
    assert junit[name] == []
    assert f"::{name} -" not in run.output.partition("short test summary")[2]


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("test_leaks", ["failure"]),
        ("test_fails_itself", ["failure"]),
        ("test_is_expected_to_leak", ["skipped"]),
        ("test_fails_in_setup", ["error"]),
        ("test_fails_in_teardown", ["error"]),
        ("test_whose_fixture_leaks", ["skipped", "error"]),
        ("test_whose_fixture_leaks_too", ["failure", "error"]),
    ],
)
def test_junit_says_the_same(junit: dict[str, list[tuple[str, str]]], name: str, tags: list[str]) -> None:
    assert [tag for tag, _ in junit[name]] == tags


@pytest.mark.parametrize("name", ["test_fails_itself", "test_fails_in_setup", "test_fails_in_teardown"])
def test_a_failure_of_the_tests_own_keeps_its_message_in_junit(
    junit: dict[str, list[tuple[str, str]]], name: str
) -> None:
    assert ["own reason" in message for _, message in junit[name]] == [True]


def test_junit_says_what_leaked(junit: dict[str, list[tuple[str, str]]]) -> None:
    assert junit["test_leaks"][0][1].startswith("1 socket leaked: socket.socket TCP, not connected, fd ")


TROUBLED = f"""
import socket
import pytest
from pytest_httpleak import LeakError

KEPT = []

@pytest.fixture(scope="module")
def wide():
    yield
    raise ValueError("trouble of the wider fixture's")

{{mark}}
def test_leaks(wide):
    {LEAK}
"""


@pytest.mark.parametrize(
    ("mark", "outcome"), [("", "failed"), ("@pytest.mark.xfail(raises=LeakError, strict=True)", "xfailed")]
)
def test_a_wider_fixture_that_fails_after_it_is_no_failure_of_the_tests_own(
    inner: Inner, mark: str, outcome: str
) -> None:
    inner.write(test_a=TROUBLED.replace("{mark}", mark))
    result = inner.run()
    result.assert_outcomes(errors=1, **{outcome: 1})
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaks*", "E *ValueError: trouble of the wider fixture's"])
    result.stdout.no_fnmatch_line("*It also leaks*")


OWN = f"""
import socket
import pytest

KEPT = []

class Loud:
    def __del__(self):
        raise ValueError("own trouble")

def test_leaks():
    {LEAK}
    loud = [Loud()]
    loud.append(loud)
"""
HOOK = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    yield
    raise ValueError("own trouble")
"""
ITEM = """
import pytest

class Function(pytest.Function):
    def teardown(self):
        super().teardown()
        raise ValueError("own trouble")

def pytest_pycollect_makeitem(collector, name, obj):
    return Function.from_parent(collector, name=name) if name.startswith("test_") else None
"""


@pytest.mark.parametrize("conftest", ["", HOOK, ITEM], ids=["finalizer", "hook", "item"])
def test_what_else_fails_its_teardown_is_the_tests_own(inner: Inner, conftest: str) -> None:
    inner.write(conftest=conftest, test_a=OWN if not conftest else OWN.replace("[Loud()]", "[]"))
    result = inner.run("-W", "error::pytest.PytestUnraisableExceptionWarning")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*own trouble*", "It also leaks*"])


def test_where_the_test_was_skipped_in_its_setup_its_leak_stands_beside_that_failure(inner: Inner) -> None:
    inner.write(
        test_a=TROUBLED.replace("{mark}", "").replace("def test_leaks(wide)", "def test_leaks(wide, skipping)")
        + f"""
@pytest.fixture
def skipping():
    {LEAK}
    pytest.skip("not today")
"""
    )
    result = inner.run()
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(["E *ValueError: trouble of the wider fixture's", "It also leaks*"])


UNITTEST = f"""
import socket
import unittest

KEPT = []


class TestCase(unittest.TestCase):
    @unittest.expectedFailure
    def test_is_expected_to_fail_and_leaks(self):
        {LEAK}

    @unittest.expectedFailure
    def test_is_expected_to_fail_and_is_clean(self):
        pass

    @unittest.expectedFailure
    def test_fails_as_expected_and_leaks(self):
        {LEAK}
        self.fail("own reason")

    def test_says_the_same_and_leaks(self):
        {LEAK}
        self.fail("Unexpected success")


@unittest.expectedFailure
class TestExpected(unittest.TestCase):
    def test_of_a_class_that_is_expected_to_fail(self):
        {LEAK}
"""


def test_what_unittest_expects_to_fail_may_fail_by_a_leak(inner: Inner) -> None:
    inner.write(test_a=UNITTEST)
    result = inner.run("-rA")
    result.assert_outcomes(failed=2, xfailed=3)
    for name in (
        "TestCase::test_is_expected_to_fail_and_leaks",
        "TestCase::test_fails_as_expected_and_leaks",
        "TestExpected::test_of_a_class_that_is_expected_to_fail",
    ):
        result.stdout.fnmatch_lines_random([f"XFAIL test_a.py::{name}*"])
    result.stdout.fnmatch_lines(["FAILED *::test_is_expected_to_fail_and_is_clean - Failed: U*"])
    clean = {name for name, outcome in inner.outcomes().items() if outcome != "leaked"}
    assert clean == {"test_is_expected_to_fail_and_is_clean"}


IN_SUBTESTS = f"""
import socket

KEPT = []

def test_leaks_in_subtests(subtests):
    for number in range(2):
        with subtests.test(number=number):
            {LEAK}
"""


@pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="subtests came with pytest 9.0")
def test_the_leaks_of_subtests_are_their_tests(inner: Inner) -> None:
    inner.write(test_a=IN_SUBTESTS)
    inner.run().stdout.fnmatch_lines(["FAILED *::test_leaks_in_subtests - 2 sockets*"])
    assert inner.outcomes() == {"test_leaks_in_subtests": "leaked"}


def test_every_test_has_one_row_whatever_its_own_result(run: Suite) -> None:
    outcomes = [(row["nodeid"].rpartition("::")[2], row["outcome"]) for row in run.report["tests"]]
    assert len(outcomes) == len(dict(outcomes)) == 15
    clean = {"test_is_clean", "test_is_expected_to_leak_and_does_not"}
    clean |= {"test_whose_fixture_leaks", "test_whose_fixture_leaks_too"}
    others = {name: outcome for name, outcome in outcomes if outcome != "leaked"}
    assert others == dict.fromkeys(clean, "clean") | {"test_only_warns": "warned"}


def test_a_failure_of_the_tests_own_has_its_leaks_in_a_section(run: Suite) -> None:
    own = run.output.partition("_ test_fails_itself _")[2].partition("\n____")[0]
    assert "own reason" in own.partition("It also leaks, which would fail it by itself:")[0]
    assert "1 socket leaked" in own


def test_the_text_of_a_leak_has_no_traceback_of_the_plugins(run: Suite) -> None:
    text = run.output.partition("_ test_leaks _")[2].partition("\n____")[0]
    assert text.splitlines()[1].startswith("1 socket leaked: ")
    assert "verdict.py" not in text
    assert "Traceback" not in text


def test_a_fixtures_leak_is_an_error_that_names_it(run: Suite) -> None:
    matcher = pytest.LineMatcher(run.output.splitlines())
    matcher.fnmatch_lines(
        [
            "*ERROR at teardown of TestExpected.test_whose_fixture_leaks*",
            "*left by: fixture 'wide' (scope class, test_a.py:*)",
        ]
    )


def test_a_cleanups_leak_is_an_error_that_names_its_class(inner: Inner) -> None:
    inner.write(
        test_a=f"""
        import socket
        import unittest

        KEPT = []

        def leave():
            {LEAK}

        class Outer:
            class Case(unittest.TestCase):
                def test_leaves(self):
                    self.addClassCleanup(leave)

        class Clean(unittest.TestCase):
            def test_closes(self):
                self.addClassCleanup(lambda: socket.socket().close())

        Case = Outer.Case
        """
    )
    result = inner.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left by: fixture 'Outer.Case' (scope class, test_a.py:10)"])
    assert [row["name"] for row in inner.report["fixtures"]] == ["Outer.Case"]


# -- exit status, and where a run stops --------------------------------------------------------------------------------

LEAKY = f"import socket\nKEPT = []\ndef test_leaks():\n    {LEAK}\n"
CLEAN = "def test_is_clean():\n    pass\n"
WIDE = f"""
import socket
import pytest

KEPT = []

@pytest.fixture(scope="module")
def wide():
    yield
    print("torn down")
    KEPT.append(1)

@pytest.fixture(scope="session")
def failing():
    yield
    raise ValueError("own reason of the fixture")

@pytest.fixture(scope="session")
def leaking():
    yield
    {LEAK}

def test_leaks(wide):
    {LEAK}

def test_leaks_beside_others(failing, leaking):
    {LEAK}

def test_never_runs():
    pass
"""


def test_a_leak_makes_the_exit_status_1(inner: Inner) -> None:
    inner.write(test_a=LEAKY + CLEAN)
    result = inner.run()
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=1)
    inner.write(test_a=CLEAN)
    assert inner.run().ret == 0


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_leak_ends_a_run_that_stops_at_the_first_failure(inner: Inner, option: str) -> None:
    inner.write(test_a=WIDE)
    result = inner.run(option)
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_what_fails_or_leaks_when_a_leak_ends_the_run_is_an_error_at_teardown(inner: Inner) -> None:
    inner.write(test_a=WIDE)
    result = inner.run("-x", "-k", "others or never")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*own reason of the fixture*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert [row["name"] for row in inner.report["fixtures"]] == ["leaking"]


def test_the_leaks_of_the_last_run_run_first(inner: Inner) -> None:
    inner.write(test_a=LEAKY + CLEAN)
    inner.pytester.runpytest_subprocess("-p", "httpleak", "--httpleak-grace=0.1").assert_outcomes(failed=1, passed=1)
    again = inner.pytester.runpytest_subprocess("-p", "httpleak", "--httpleak-grace=0.1", "--lf")
    again.assert_outcomes(failed=1)


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_an_interrupt_keeps_the_reports_made_so_far(inner: Inner, phase: str) -> None:
    inner.write(
        test_a=LEAKY,
        test_b=f"""
import pytest

@pytest.fixture
def each():
    if "{phase}" == "setup":
        raise KeyboardInterrupt
    yield
    if "{phase}" == "teardown":
        raise KeyboardInterrupt

def test_is_interrupted(each):
    if "{phase}" == "call":
        raise KeyboardInterrupt

def test_never_runs():
    pass
""",
    )
    result = inner.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*1 socket leaked*", "*KeyboardInterrupt*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert inner.outcomes()["test_leaks"] == "leaked"
    assert inner.report["summary"]["complete"] is False


def test_a_fixture_that_is_torn_down_after_an_interrupt_has_its_row(inner: Inner) -> None:
    inner.write(
        test_a=WIDE.replace("def test_never_runs():\n    pass", "def test_stops(leaking):\n    raise KeyboardInterrupt")
    )
    inner.run("-k", "stops")
    assert [row["name"] for row in inner.report["fixtures"]] == ["leaking"]


# -- other options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan"])
def test_where_nothing_runs_nothing_leaks(inner: Inner, option: str) -> None:
    inner.write(test_a=LEAKY)
    assert inner.run(option).ret == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--setup-show",),
        ("-p", "no:logging"),
        ("-p", "no:junitxml"),
        ("-p", "no:warnings"),
        ("-p", "no:threadexception", "-p", "no:unraisableexception"),
        ("-p", "no:skipping"),
        ("--tb=no",),
        ("--tb=native",),
        ("-q", "-q"),
        ("-vv",),
        ("--import-mode=importlib",),
    ],
)
def test_options_of_pytest_change_nothing(inner: Inner, options: tuple[str, ...]) -> None:
    inner.write(test_a=LEAKY + CLEAN)
    result = inner.run(*options)
    assert result.ret == 1
    assert inner.outcomes() == {"test_leaks": "leaked", "test_is_clean": "clean"}
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_setup_only_judges_the_fixtures(inner: Inner) -> None:
    inner.write(
        test_a=f"import socket, pytest\nKEPT = []\n@pytest.fixture\ndef each():\n    {LEAK}\ndef test_a(each): 1 / 0"
    )
    result = inner.run("--setup-only")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*1 socket leaked*"])


def test_a_run_without_a_terminal_writes_its_report(inner: Inner) -> None:
    inner.write(test_a=LEAKY)
    assert inner.run("-p", "no:terminal").ret == 1
    assert inner.outcomes() == {"test_leaks": "leaked"}


@pytest.mark.filterwarnings("ignore:.*use of forkpty:DeprecationWarning")
def test_the_debugger_is_entered_at_a_leak_and_can_be_left(inner: Inner) -> None:
    if sys.platform == "win32":
        pytest.skip("a terminal of its own is needed")
    pexpect = pytest.importorskip("pexpect")
    inner.write(test_a=LEAKY + CLEAN)
    child = pexpect.spawn(sys.executable, ["-m", "pytest", "-p", "httpleak", "--pdb", str(inner.path)], timeout=30)
    child.expect("1 socket leaked")
    child.expect_exact(f"> {inner.path / 'test_a.py'}(4)test_leaks()")
    child.expect_exact("(Pdb)")
    child.sendline("p len(KEPT)")
    child.expect_exact("1")
    child.sendline("c")
    child.expect("1 failed, 1 passed")
    child.wait()


@pytest.mark.parametrize(
    ("name", "outcomes"), [("leaks", {"test_leaks": "leaked"}), ("fails", {}), ("fixture", {"test_fixture": "clean"})]
)
def test_what_has_failed_stays_failed_when_the_debugger_is_quit(
    inner: Inner, name: str, outcomes: dict[str, str]
) -> None:
    inner.write(
        test_a=LEAKY
        + f"""
import pytest
def test_fails(): assert False
@pytest.fixture(scope="module")
def wide(): {LEAK}
def test_fixture(wide): pass
def test_never_runs(): pass
""",
        debugger="""
import pytest
class Quit:
    def __init__(self, **options): pass
    def reset(self): pass
    def interaction(self, frame, trace): pytest.exit("quit")
""",
    )
    result = inner.run("--pdb", "--pdbcls=debugger:Quit", "--junitxml=junit.xml", "-k", name)
    is_error = name == "fixture"
    result.assert_outcomes(failed=not is_error, passed=is_error, errors=is_error, deselected=3)
    assert inner.outcomes() == outcomes
    (case,) = ET.parse(inner.path / "junit.xml").getroot().iter("testcase")
    assert [child.tag for child in case if child.tag != "properties"] == ["error" if is_error else "failure"]


# -- xdist -------------------------------------------------------------------------------------------------------------


def test_workers_hand_over_one_row_for_each_test_and_the_rows_of_fixtures(inner: Inner) -> None:
    pytest.importorskip("xdist")
    inner.write(test_a=WIDE.replace("yield\n    raise", "yield\n    return\n    raise"), test_b=LEAKY + CLEAN)
    result = inner.run("-p", "xdist", "-n2", "--dist=loadfile")
    result.assert_outcomes(failed=3, passed=2, errors=1)
    assert sorted(inner.outcomes().items()) == sorted(
        {
            "test_leaks": "leaked",
            "test_leaks_beside_others": "leaked",
            "test_never_runs": "clean",
            "test_is_clean": "clean",
        }.items()
    )
    assert len(inner.report["tests"]) == 5
    assert [row["name"] for row in inner.report["fixtures"]] == ["leaking"]
    assert json.dumps(inner.report["summary"]["checked"]) == "5"


def test_a_worker_stops_at_the_first_leak_too(inner: Inner) -> None:
    pytest.importorskip("xdist")
    inner.write(test_a=WIDE)
    result = inner.run("-p", "xdist", "-n1", "-x")
    assert result.ret != 0
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.fnmatch_lines(["FAILED *test_leaks - 1 socket*"])


PICTURES = """
import pytest

@pytest.fixture
def driver():
    class Driver:
        is_on = True

        def take_picture(self):
            assert self.is_on, "it is gone"

    driver = Driver()
    yield driver
    driver.is_on = False

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed:
        item.funcargs["driver"].take_picture()
    return report
"""
PICTURED = """
import socket

KEPT = []

def test_leaks(driver):
    KEPT.append(socket.socket())

def test_fails(driver):
    assert False, "own reason"
"""


def test_a_hook_that_needs_what_was_torn_down_costs_no_word_of_a_leak(inner: Inner) -> None:
    """Many suites take a picture of what a fixture has given when a test fails; by the time a leak is known it is gone."""
    inner.write(conftest=PICTURES, test_a=PICTURED)
    result = inner.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["1 socket leaked: *", "*created: test_a.py:6 in test_leaks", "*own reason*"])
    result.stdout.no_fnmatch_line("*it is gone*")


RAISING = """
import pytest

@pytest.fixture(scope="{scope}")
def broken():
    raise OSError("not there")
"""


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_the_error_of_a_fixture_is_shown_without_the_plugin(inner: Inner, scope: str) -> None:
    inner.write(conftest=RAISING.replace("{scope}", scope), test_a="def test_a(broken): pass")
    result = inner.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*OSError: not there"])
    result.stdout.no_fnmatch_line("*pytest_httpleak*")
