"""The end of a run: the summary in the terminal, the report files, the exit status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_httpleak.reports.closing import closing_lines

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard
    from pytest_httpleak.model import Run

_INCOMPLETE = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
_GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def finish(guard: Guard, session: pytest.Session, exitstatus: int) -> None:
    """Write the reports, or hand what was found to the controller."""
    if guard.is_worker:
        guard.config.workeroutput["httpleak"] = guard.output()  # type: ignore[attr-defined]
        return
    complete = exitstatus not in _INCOMPLETE and not session.shouldstop and not session.shouldfail
    run = guard.final = guard.result(complete=complete)
    if guard.has_late_leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    guard.failed_writes = list(_written(guard, run))
    if guard.failed_writes and session.exitstatus in _GREEN:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR  # a gate that cannot report must not look green


def _written(guard: Guard, run: Run) -> Iterator[str]:
    """Write each report; give a line for each that could not be written."""
    for path in guard.settings.reports:
        from pytest_httpleak.reports.files import write_report

        yield from _attempt(f"the report {path}", lambda path=path: write_report(path, run))  # type: ignore[misc]


def _attempt(what: str, write: Callable[[], None]) -> Iterator[str]:
    try:
        write()
    except Exception as error:  # whatever it is, the run's own result must be shown
        yield f"httpleak: {what} could not be written: {type(error).__name__}: {error}"


def summarise(guard: Guard, terminal: pytest.TerminalReporter) -> None:
    """Show each cause once, and the closing line."""
    run = guard.final
    if run is None or not (run.tests or run.fixtures or run.disabled or guard.failed_writes):
        return
    terminal.section("httpleak")
    for line in (*_found(run), *guard.failed_writes, *closing_lines(run)):
        terminal.write_line(line)


def _found(run: Run) -> list[str]:
    if not any(row.findings for row in (*run.tests, *run.fixtures)):
        return []  # nothing to format, so that a clean run does not import what formats it
    from pytest_httpleak.reports.text import grouped_text

    return grouped_text(run)
