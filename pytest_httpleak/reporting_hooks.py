"""Hooks that only some runs need: where another plugin runs the tests, or where xdist's workers do."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak import verdict
from pytest_httpleak.results import ROW

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard


class ForeignProtocolHooks:
    """For tests that another plugin runs, such as one that runs failed tests again: a leak is an error at teardown."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        if self._guard.holding is not item and self._guard.is_checked(item):
            self._guard.session.safely(self._guard.session.wake)  # each test may be run in a child of its own
            self._guard.begin_test(item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self._guard.session.is_last = nextitem is None
        try:
            result = yield
        except BaseException:
            self._guard.after_teardown(item)
            raise
        if self._guard.holding is not item:
            verdict.raise_leaks(self._guard, item)
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if self._guard.holding is not item:
            verdict.finish_report(self._guard, item, call, report)
        elif call.excinfo is not None:  # of a subtest, maybe, which whoever runs failed tests again keeps until then
            self._guard.note_raised(item, call.excinfo.value)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # It has been shown, or sent to another process; beside a failed set-up, pytest shows no section of a teardown.
        if report is self._guard.own_failure and (report.when == "call" or self._guard.is_worker):
            self._guard.own_failure = None
        if not self._guard.is_worker and hasattr(report, ROW):
            self._guard.results.take(report)


class BlockHooks:
    """For runs in which checked blocks may raise what they find: reports of subtests, and of unittest's tests, tell of it."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if self._guard.holding is item and call.excinfo is not None:
            self._guard.session.safely(verdict.take_raised, self._guard, item, call.excinfo)
        return report


class ControllerHooks:
    """For xdist's controller, which runs no tests and writes the reports."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, ROW):
            self._guard.results.take(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._guard.results.take_from_worker(getattr(node, "workeroutput", {}).get("httpleak"))
