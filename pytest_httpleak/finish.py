"""The end of a run: the summary in the terminal, the report files, the exit status."""

from __future__ import annotations

import pytest

from pytest_httpleak.guard import Guard
from pytest_httpleak.reports.files import write_report
from pytest_httpleak.reports.text import closing_lines, grouped_text

_INCOMPLETE = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)


def finish(guard: Guard, session: pytest.Session, exitstatus: int) -> None:
    """Write the reports, or hand what was found to the controller."""
    if guard.is_worker:
        guard.config.workeroutput["httpleak"] = guard.output()  # type: ignore[attr-defined]
        return
    if guard.has_late_leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    complete = exitstatus not in _INCOMPLETE and not session.shouldstop and not session.shouldfail
    guard.final = guard.result(complete=complete)
    for path in guard.settings.reports:
        write_report(path, guard.final)


def summarise(guard: Guard, terminal: pytest.TerminalReporter) -> None:
    """Show each cause once, and the closing line."""
    run = guard.final
    if run is None or (not run.tests and not run.fixtures and not run.disabled):
        return
    terminal.section("httpleak")
    for line in (*grouped_text(run), *closing_lines(run)):
        terminal.write_line(line)
