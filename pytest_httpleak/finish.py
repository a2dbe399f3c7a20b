"""The end of a run: the summary in the terminal, the files that are written, the exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_httpleak.model.kinds import Outcome
from pytest_httpleak.reports.closing import closing_lines

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard
    from pytest_httpleak.model.run import Run

_INCOMPLETE = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
_GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Ending:
    """What is to be said and done once the last test is over."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._run: Run | None = None
        self._lines: list[str] = []
        self._broken = ""
        self.has_reached_last = False  # of the tests: a failure that stops the run there leaves none of them out
        self.is_interrupted = False  # also by `pytest.exit()`, whatever exit status that gives

    def finish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files, or hand what was found to the controller; never raises."""
        if self._guard.session.is_forked:
            return  # a child that was forked by a test and has not ended: the files are its parent's
        try:
            self._finish(session, exitstatus)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._broken = f"httpleak: the end of the run failed: {type(error).__name__}: {error}"
            if session.exitstatus in _GREEN:  # a gate that cannot report must not look green
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        guard = self._guard
        results, watched = guard.results, guard.session
        if guard.is_worker:
            output = results.output(watched.seconds, watched.errors(), guard.trend, watched.growth())
            guard.config.workeroutput["httpleak"] = output  # type: ignore[attr-defined]
            return
        if results.usage_error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        is_whole = exitstatus not in _INCOMPLETE and not self.is_interrupted
        is_cut_short = bool(session.shouldstop or session.shouldfail) and not self.has_reached_last
        complete = is_whole and not is_cut_short
        has_files = bool(guard.has_files_to_write or results.needed)
        run = self._run = results.run(
            watched.seconds, watched.errors(), guard.trend, watched.growth(), complete=complete, every_row=has_files
        )
        # A fixture's leak fails the test that it ends with; that may be run again, and pass without the fixture.
        is_untold = not session.testsfailed and any(row.outcome is Outcome.LEAKED for row in run.fixtures)
        if (is_untold or guard.fixtures.has_late_leaks) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not has_files:
            return
        from pytest_httpleak import gate

        stopped, config = not run.summary.complete, session.config
        self._lines, status = gate.close(
            guard, run, is_partial=stopped or _is_partial(config), is_split=stopped or _is_split(config)
        )
        if status is not None and session.exitstatus in _GREEN:
            session.exitstatus = status

    def summarise(self, terminal: pytest.TerminalReporter) -> None:
        """Show each cause once, what the gate has to say, and the closing line; never raises."""
        try:
            self._summarise(terminal)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._broken = f"httpleak: the summary failed: {type(error).__name__}: {error}"
        if self._broken:
            terminal.write_line(self._broken, red=True)

    def _summarise(self, terminal: pytest.TerminalReporter) -> None:
        run = self._run
        if self._guard.results.usage_error:
            terminal.write_line(f"ERROR: {self._guard.results.usage_error}", red=True)
        if run is None or not (run.summary.checked or run.tests or run.fixtures or run.disabled or self._lines):
            return
        terminal.section("httpleak")
        for line in (*_found(run), *self._lines, *self._guard.results.remarks, *closing_lines(run)):
            terminal.write_line(line)


def _is_partial(config: pytest.Config) -> bool:
    """Whether only some of the suite's tests were to run: then what was not seen may still be there."""
    named = bool(config.args_source is pytest.Config.ArgsSource.ARGS and config.args)
    return named or _is_split(config) or any(getattr(config.option, name, None) for name in ("ignore", "ignore_glob"))


def _is_split(config: pytest.Config) -> bool:
    """Whether a test may have run with only some of its parameters."""
    chosen = ("keyword", "markexpr", "deselect", "lf", "failedfirst", "stepwise")
    return any("[" in arg.partition("::")[2] for arg in config.args) or any(
        getattr(config.option, name, None) for name in chosen
    )


def _found(run: Run) -> list[str]:
    """What the summary has to show; what would format the rest of it is not imported, least of all in a clean run."""
    lines: list[str] = []
    if run.growth or any(row.findings for row in run.tests) or any(row.findings for row in run.fixtures):
        from pytest_httpleak.reports.text import grouped_text, growth_text

        lines += [*grouped_text(run), *growth_text(run)]
    if any(row.notes for row in run.tests):
        from pytest_httpleak.reports.notes import notes_text

        lines += notes_text(run)
    return lines
