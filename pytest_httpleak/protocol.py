"""Runs one test as pytest does, with its call report held back until it has been judged."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import call_and_report, show_test_item

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard

FAILED = pytest.StashKey[bool]()


def run_held(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run the test, and log its reports once its leaks are known."""
    ihook = item.ihook
    ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    function: Any = item if hasattr(item, "_request") else None
    if function is not None and not function._request:  # a test that is run again
        function._initrequest()
    held: list[pytest.TestReport] = []
    guard.holding = item
    try:
        _run(guard, item, nextitem, held, ihook.pytest_runtest_logreport)
        if held[0].when == "call" and not held[0].passed:
            guard.take_raised(item, getattr(sys, "last_value", None))  # where pytest keeps what the test has raised
        _note_end(guard, item, held)
        if guard.settings.confirm:
            _confirm(guard, item, nextitem, held[0])
        if guard.has_findings(item):
            _judge(guard, item, nextitem, held)
        guard.session.safely(_deliver, guard, item, held[-1])
    except BaseException:
        guard.abandon(item)
        raise
    finally:
        guard.holding = None
        for report in held:
            ihook.pytest_runtest_logreport(report=report)
        if function is not None:
            function._request = False
            function.funcargs = None
    ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _judge(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None, held: list[pytest.TestReport]) -> None:
    """Say what leaked; in the fewest words where that fails, since a leak must not pass for an error of the plugin's."""
    try:
        from pytest_httpleak.verdict import judge

        judge(guard, item, nextitem, held)
    except pytest.exit.Exception:
        raise
    except Exception as error:  # noqa: BLE001  # this is the wall
        with contextlib.suppress(Exception):
            guard.session.looking.wall.note(error)
        check = guard.check_of(item)
        leaks = 0 if check is None else sum(finding.count for finding in check.own_leaks)
        if leaks and not any(report.failed for report in held):
            report = held[0] if held[0].when == "call" else held[-1]
            report.outcome = "failed"
            report.longrepr = f"leaked: {leaks} (the plugin could not say more: see its summary)"


def _note_end(guard: Guard, item: pytest.Item, held: list[pytest.TestReport]) -> None:
    check = guard.check_of(item)
    if check is not None:
        check.finished = held[0].when == "call" and all(report.passed for report in held)


def _deliver(guard: Guard, item: pytest.Item, report: pytest.TestReport) -> None:
    guard.deliver(item, report, direct=True)


def _run(
    guard: Guard,
    item: pytest.Item,
    nextitem: pytest.Item | None,
    held: list[pytest.TestReport],
    logreport: Callable[..., object] | None = None,
) -> None:
    guard.begin_test(item)
    report = call_and_report(item, "setup", log=False)
    if not report.passed:
        held.append(report)
    else:
        if logreport is not None:
            logreport(report=report)
        setup_only = item.config.getoption("setuponly", False)
        if item.config.getoption("setupshow", False):
            _show(item, setup_only)
        if not setup_only:
            held.append(call_and_report(item, "call", log=False))
    if item.session.shouldfail or item.session.shouldstop or will_stop(item, held):
        nextitem = None
    guard.session.is_last = nextitem is None
    held.append(call_and_report(item, "teardown", log=False, nextitem=nextitem))
    guard.after_teardown(item)


def _confirm(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None, report: pytest.TestReport) -> None:
    check = guard.check_of(item)
    if check is None or not check.leaks or report.when != "call" or not report.passed:
        return
    from pytest_httpleak.confirming import confirm

    confirm(guard, item, check, lambda: _run(guard, item, nextitem, []))


def _show(item: pytest.Item, setup_only: bool) -> None:
    try:
        show_test_item(item, add_space=not setup_only)
    except TypeError:  # pytest before 9.1
        show_test_item(item)  # type: ignore[call-arg]


def will_stop(item: pytest.Item, held: Sequence[pytest.TestReport]) -> bool:
    """Whether `--maxfail` will end the run with what is held back; then every fixture is torn down with this test."""
    failed = sum(1 for report in held if report.failed and not hasattr(report, "wasxfail"))
    limit = item.config.getvalue("maxfail") if failed else 0
    return bool(limit and item.session.testsfailed + failed >= limit)
