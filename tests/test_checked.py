"""What a checked block has raised, in the row of the test that it ends: in reports, once, and only where it ends it."""

from __future__ import annotations

import pytest
from inner import Inner

HEAD = """
import socket
import pytest
from pytest_httpleak import LeakError, no_leaks

KEPT = []

def leak():
    KEPT.append(socket.socket())
"""
BLOCK = (
    HEAD
    + """
def test_block(httpleak):
    with httpleak.check():
        leak()
"""
)


def test_a_block_that_leaks_makes_its_test_a_leaking_one(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
def test_block(httpleak):
    with httpleak.check():
        leak()

def test_decorated():
    no_leaks(leak)()
"""
    )
    result = inner.judge(test_block="leaked", test_decorated="leaked")
    result.stdout.fnmatch_lines(["*2 checked, 2 leaked*"])
    assert result.stdout.str().count("left by:") == 2


def test_a_block_whose_leak_was_expected_does_not(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
def test_expected(httpleak):
    with pytest.raises(LeakError), httpleak.check():
        leak()

def test_expected_and_failed_otherwise(httpleak):
    with pytest.raises(LeakError), httpleak.check():
        leak()
    assert False
"""
    )
    inner.judge(test_expected="clean", test_expected_and_failed_otherwise="clean")


def test_what_the_test_leaks_beside_it_is_said_beside_it(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
def test_both(httpleak):
    KEPT.append(socket.socketpair())
    with httpleak.check():
        leak()
"""
    )
    result = inner.run()
    (row,) = inner.report["tests"]
    assert [(finding["created"]["function"], finding["count"]) for finding in row["findings"]] == [
        ("leak", 1),
        ("test_both", 2),
    ]
    lines = result.stdout.str().splitlines()
    said = [line.partition(" leaked:")[0] for line in lines if line.startswith(("E ", "2 sock")) and "leaked:" in line]
    assert said == ["E       pytest_httpleak.errors.LeakError: 1 socket", "2 sockets"]


def test_an_expected_failure_by_a_block_is_one(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
@pytest.mark.xfail(raises=LeakError, strict=True, reason="leaks")
def test_expected(httpleak):
    with httpleak.check():
        leak()
"""
    )
    inner.judge(test_expected="leaked").assert_outcomes(xfailed=1)


def test_a_tolerance_is_not_used_up_by_a_block(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
@pytest.mark.httpleak(sockets=1)
def test_both(httpleak):
    KEPT.append(socket.socket())
    with httpleak.check(sockets=0):
        leak()
"""
    )
    inner.run()
    (row,) = inner.report["tests"]
    assert [finding["verdict"] for finding in row["findings"]] == ["leaked", "tolerated"]


def test_where_another_plugin_runs_the_tests_it_is_said_once_too(inner: Inner) -> None:
    inner.write(
        conftest="""
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
""",
        test_a=BLOCK,
    )
    inner.judge(test_block="leaked").assert_outcomes(failed=1)


@pytest.mark.parametrize("style", ["auto", "long", "short", "line", "native", "no"])
def test_the_line_of_the_block_is_shown_as_pytest_was_asked_to(inner: Inner, style: str) -> None:
    inner.write(test_a=BLOCK)
    result = inner.judge(f"--tb={style}", test_block="leaked")
    lines = result.stdout.str().splitlines()
    assert ("with httpleak.check():" in "".join(lines)) is (style not in {"line", "no"})
    result.stdout.fnmatch_lines(["FAILED test_a.py::test_block - *"])


def test_leaks_of_blocks_in_unittests_tests_and_in_groups_of_errors_count_too(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
import asyncio, unittest

class Case(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def give(self, httpleak):
        self.httpleak = httpleak

    def test_in_a_case(self):
        with self.httpleak.check():
            leak()

    def test_clean_in_a_case(self):
        with self.httpleak.check():
            socket.socket().close()

def test_in_a_group(httpleak):
    async def work():
        async with httpleak.check():
            leak()

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
    asyncio.run(main())
"""
    )
    inner.judge(test_in_a_case="leaked", test_clean_in_a_case="clean", test_in_a_group="leaked")


def test_a_baseline_knows_the_leak_of_a_block(inner: Inner) -> None:
    inner.write(test_a=BLOCK)
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline").assert_outcomes(passed=1)
    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=1)
    assert inner.outcomes() == {"test_block": "known"}
    inner.write(test_a=BLOCK.replace("test_block", "test_other"))
    inner.run("--httpleak-baseline=known.json").assert_outcomes(failed=1)


@pytest.mark.parametrize("python_task", ["block ends in a task of its own", "task of the test"])
def test_the_task_that_ends_a_block_is_not_left_by_it(inner: Inner, python_task: str) -> None:
    end = "await asyncio.create_task(end(block))" if "own" in python_task else "await end(block)"
    inner.write(
        test_a=f"""
import asyncio

async def end(block):
    await asyncio.sleep(0)
    await block.__aexit__(None, None, None)

def test_block(httpleak):
    async def main():
        block = httpleak.check()
        await block.__aenter__()
        {end}
    asyncio.run(main())
"""
    )
    inner.judge(test_block="clean").assert_outcomes(passed=1)


FIXTURES = (
    HEAD
    + """
@pytest.fixture
def checked(httpleak):
    with httpleak.check():
        yield

@pytest.fixture
def checked_at_first():
    with no_leaks():
        leak()

@pytest.fixture(scope="class")
def around():
    with no_leaks():
        yield

def test_in_teardown(checked):
    leak()

def test_in_set_up(checked_at_first):
    pass

def test_closed_in_time(checked):
    socket.socket().close()

class TestOfClass:
    def test_first(self, around):
        leak()

    def test_second(self, around):
        leak()

    def test_clean(self, around):
        socket.socket().close()
"""
)


def test_a_block_in_a_fixture_answers_for_what_the_fixture_is_for(inner: Inner) -> None:
    inner.write(test_a=FIXTURES)
    inner.judge(
        test_in_teardown="leaked",
        test_in_set_up="leaked",
        test_closed_in_time="clean",
        test_first="leaked",
        test_second="leaked",
        test_clean="clean",
    )


NEVER_LEFT = (
    HEAD
    + """
def never_left(block):
    block.__enter__()
    KEPT.append(block)

def generate():
    with no_leaks():
        yield

def test_check(httpleak):
    never_left(httpleak.check())
    leak()

def test_no_leaks():
    never_left(no_leaks())
    leak()

def test_one_in_another(httpleak):
    never_left(httpleak.check())
    never_left(no_leaks())
    leak()

def test_stopped_generator():
    KEPT.append(generate())
    next(KEPT[-1])
    leak()

def test_left_too_late():
    for each in KEPT:
        if hasattr(each, "__exit__"):
            each.__exit__(None, None, None)
    socket.socket().close()

def test_nothing_is_left(httpleak):
    never_left(httpleak.check())

def test_raised():
    with pytest.raises(ValueError), no_leaks():
        leak()
        raise ValueError

def test_raised_but_closed():
    with pytest.raises(ValueError), no_leaks(), socket.socket():
        raise ValueError

def test_end():
    leak()
"""
)


def test_what_is_made_in_a_block_that_is_never_left_is_the_tests(inner: Inner) -> None:
    inner.write(test_a=NEVER_LEFT)
    inner.judge(
        test_check="leaked",
        test_no_leaks="leaked",
        test_one_in_another="leaked",
        test_stopped_generator="leaked",
        test_left_too_late="clean",
        test_nothing_is_left="clean",
        test_raised="leaked",
        test_raised_but_closed="clean",
        test_end="leaked",
    )


SEVERAL = (
    HEAD
    + """
import asyncio
import threading

@pytest.fixture(scope="module")
def thread():
    begun, end, ended = (threading.Event() for _ in range(3))

    def watched():
        with no_leaks():
            begun.set()
            end.wait(30)
        ended.set()

    thread = threading.Thread(target=watched)
    thread.start()
    begun.wait(30)
    yield
    sock = socket.socket()
    end.set()
    ended.wait(30)
    sock.close()
    thread.join()

def test_the_outer_one_answers_for_an_inner_one_that_raises(httpleak):
    for check in (httpleak.check, no_leaks):
        with pytest.raises(LeakError), check():
            with pytest.raises(ValueError), check():
                leak()
                raise ValueError
        KEPT.pop().close()

def test_the_outer_one_is_left_first():
    outer, inner = no_leaks(), no_leaks()
    outer.__enter__(), inner.__enter__()
    with socket.socket():
        outer.__exit__(None, None, None)
    leak()
    with pytest.raises(LeakError):
        inner.__exit__(None, None, None)
    KEPT.pop().close()

def test_a_task_has_one_of_its_own():
    async def background():
        with no_leaks():
            await asyncio.sleep(0.001)

    async def main():
        async with no_leaks():
            asyncio.create_task(background())

    asyncio.run(main())

def test_a_fixtures_thread_has_one_of_its_own(thread):
    pass
"""
)


def test_blocks_that_overlap_answer_each_for_its_own(inner: Inner) -> None:
    inner.write(test_a=SEVERAL)
    result = inner.run("--httpleak-grace=0.5")
    result.assert_outcomes(passed=4)
    assert set(inner.outcomes().values()) == {"clean"}


def test_a_leak_that_stops_the_tests_of_a_fixture_counts_once(inner: Inner) -> None:
    inner.write(
        test_a=HEAD
        + """
@pytest.fixture(scope="module")
def checked():
    with no_leaks():
        leak()

def test_first(checked):
    pass

def test_second(checked):
    pass
"""
    )
    inner.run()
    assert inner.outcomes() == {"test_first": "leaked", "test_second": "clean"}
