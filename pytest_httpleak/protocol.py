"""Runs one test as pytest does, with its call report held back until it has been judged."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from _pytest.runner import check_interactive_exception, show_test_item

from pytest_httpleak.model.kinds import Verdict

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard

FAILED = pytest.StashKey[bool]()

# What a debugger is entered with.
Failure = tuple[pytest.CallInfo[None], pytest.TestReport]


def run_held(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run the test, and log its reports once its leaks are known."""
    ihook = item.ihook
    ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    function: Any = item if hasattr(item, "_request") else None
    if function is not None and not function._request:  # a test that is run again
        function._initrequest()
    try:
        _run_and_log(guard, item, nextitem, ihook)
    finally:
        if function is not None:
            function._request = False
            function.funcargs = None
    ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _run_and_log(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None, ihook: Any) -> None:
    """`ihook` is the item's: pytest makes it anew each time that it is asked for, which is dear."""
    held: list[pytest.TestReport] = []
    failures: list[Failure] = []
    guard.holding = item
    try:
        by_leaks = _run(guard, item, nextitem, held, ihook.pytest_runtest_logreport)
        _note_end(guard, item, held)
        if guard.settings.confirm:
            _confirm(guard, item, nextitem, held, by_leaks=by_leaks)
        try:
            if guard.has_findings(item):
                with guard.session.limit_put_off(0):
                    _judge(guard, item, nextitem, held, failures)
        finally:
            guard.session.safely(_deliver, guard, item, held[-1])
    except BaseException:
        guard.abandon(item)
        raise
    finally:
        guard.holding = None
        for report in held:
            ihook.pytest_runtest_logreport(report=report)
    for call, report in failures:  # once they are logged, as a debugger that is left here ends the run
        ihook.pytest_exception_interact(node=item, call=call, report=report)
    if not guard.session.is_last and _is_ending(item):
        _end_wider_fixtures(guard, item, ihook)


def _end_wider_fixtures(guard: Guard, item: pytest.Item, ihook: Any) -> None:
    """End what is wider than the test where a plugin ends the run at the sight of the report that was held back until now.

    Otherwise that is done when the run is over, and an error of theirs is no test's: it ends the run without its summary. The
    hooks of the test's own teardown have been called.
    """
    guard.session.is_last = True
    call = pytest.CallInfo.from_call(
        partial(item.session._setupstate.teardown_exact, None), when="teardown", reraise=_reraised(item)
    )
    if call.excinfo is not None:
        ihook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(item, call))


def _is_ending(item: pytest.Item) -> bool:
    return bool(item.session.shouldfail or item.session.shouldstop)


def _judge(
    guard: Guard,
    item: pytest.Item,
    nextitem: pytest.Item | None,
    held: list[pytest.TestReport],
    failures: list[Failure],
) -> None:
    """Say what leaked; in the fewest words where that fails, since a leak must not pass for an error of the plugin's."""
    try:
        from pytest_httpleak.verdict import judge

        judge(guard, item, nextitem, held, failures)
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
        check.finished = held[0].when == "call" and held[0].outcome == held[-1].outcome == "passed"


def _deliver(guard: Guard, item: pytest.Item, report: pytest.TestReport) -> None:
    guard.deliver(item, report, direct=True)


def _run(
    guard: Guard,
    item: pytest.Item,
    nextitem: pytest.Item | None,
    held: list[pytest.TestReport],
    logreport: Callable[..., object] | None = None,
) -> bool:
    """Whether nothing but the leaks of checked blocks has failed the test."""
    guard.begin_test(item)
    by_leaks = False
    _run_phase(item, "setup", held)
    if held[0].passed:
        report = held.pop()
        if logreport is not None:
            logreport(report=report)
        setup_only = item.config.getoption("setuponly", False)
        if item.config.getoption("setupshow", False):
            _show(item, setup_only)
        if not setup_only:
            by_leaks = _take_raised(guard, item, _run_phase(item, "call", held))
    if _is_ending(item) or will_stop(item, held):
        nextitem = None
    guard.session.is_last = nextitem is None
    _note_trouble(guard, item, _run_phase(item, "teardown", held, nextitem=nextitem))
    guard.after_teardown(item)
    return by_leaks


def _run_phase(
    item: pytest.Item, when: Literal["setup", "call", "teardown"], held: list[pytest.TestReport], **arguments: object
) -> pytest.CallInfo[None]:
    """Run a phase of a test as pytest does; its report is held back before a debugger is entered, which may end the run."""
    ihook = item.ihook
    hook = partial(getattr(ihook, f"pytest_runtest_{when}"), item=item, **arguments)
    call = pytest.CallInfo.from_call(hook, when=when, reraise=_reraised(item))
    report: pytest.TestReport = ihook.pytest_runtest_makereport(item=item, call=call)
    held.append(report)
    if check_interactive_exception(call, report):
        ihook.pytest_exception_interact(node=item, call=call, report=report)
    return call


def _reraised(item: pytest.Item) -> tuple[type[BaseException], ...]:
    """What ends the run, and no phase alone."""
    return (pytest.exit.Exception, *(() if item.config.getoption("usepdb", False) else (KeyboardInterrupt,)))


def _take_raised(guard: Guard, item: pytest.Item, call: pytest.CallInfo[None]) -> bool:
    """The same of its call, which nothing keeps from then on: what a test has raised holds what is in its frames."""
    return call.excinfo is not None and guard.take_raised(item, call.excinfo.value)


def _note_trouble(guard: Guard, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note an error of its teardown, which nothing keeps from then on either."""
    if call.excinfo is not None:
        guard.note_trouble(item, call.excinfo.value)


def _confirm(
    guard: Guard, item: pytest.Item, nextitem: pytest.Item | None, held: list[pytest.TestReport], *, by_leaks: bool
) -> None:
    check = guard.check_of(item)
    if check is None or not check.leaks or held[0].when != "call":
        return
    from pytest_httpleak.confirming import confirm
    from pytest_httpleak.verdict import has_failed_itself

    if has_failed_itself(item, held[0]) and not by_leaks:
        return
    again: list[pytest.TestReport] = []

    def run_again() -> bool:
        again.clear()
        return _run(guard, item, nextitem, again)

    confirm(guard, item, check, run_again)
    if by_leaks and not any(finding.verdict is Verdict.LEAKED for finding in check.of_blocks):
        held[0] = again[0]  # in the first run the test did not get past its blocks


def _show(item: pytest.Item, setup_only: bool) -> None:
    try:
        show_test_item(item, add_space=not setup_only)
    except TypeError:  # pytest before 9.1
        show_test_item(item)  # type: ignore[call-arg]


def will_stop(item: pytest.Item, held: Sequence[pytest.TestReport]) -> bool:
    """Whether `--maxfail` will end the run with what is held back; then every fixture is torn down with this test."""
    failed = len([report for report in held if report.outcome == "failed" and not hasattr(report, "wasxfail")])
    limit = item.config.getvalue("maxfail") if failed else 0
    return bool(limit and item.session.testsfailed + failed >= limit)


_FINALIZES: Final = "teardown_exact"  # of pytest's, which calls all that are to be called


def has_raised_nothing() -> bool:
    """Whether no finalizer that pytest has called for a test so far, as it is doing now, has raised anything.

    What they have raised is in a local variable until all are called.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != _FINALIZES:
        frame = frame.f_back
    return frame is not None and frame.f_locals.get("these_exceptions") == []


def is_of_finalizers(error: BaseException) -> bool:
    """Whether an error has come from a finalizer, and not from a hook around it, or from a warning that is an error."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_name != _FINALIZES:
        place = place.tb_next
    return place is not None
