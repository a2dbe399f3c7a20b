"""Says a leak in pytest's reports: as the failure of the test, beside a failure of its own, or as a warning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprFileLocation

from pytest_httpleak.errors import HttpLeakWarning, LeakError
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.rows import AuditNote, FixtureRow
from pytest_httpleak.protocol import FAILED, will_stop
from pytest_httpleak.reports.notes import note_lines
from pytest_httpleak.reports.text import leak_text, one_line, section_text

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard


def raise_leaks(guard: Guard, item: pytest.Item) -> None:
    """Raise what a test and the fixtures that ended with it have leaked, where another plugin runs the tests."""
    __tracebackhide__ = True
    guard.after_teardown(item)
    check = guard.check_of(item)
    rows = guard.fixtures.failing_rows()
    is_judged = check is not None and not item.stash.get(FAILED, False)
    leaks = check.own_leaks if check is not None and is_judged else ()
    notes = guard.failing_notes(check) if check is not None and is_judged else ()
    if leaks or rows or notes:
        raise leak_error(item.nodeid, leaks, rows, guard.session.rootdir, notes)


def judge(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None, held: list[pytest.TestReport]) -> None:
    """Let the leaks fail the reports that are held back, or stand beside the failure that is there already."""
    rootdir = guard.session.rootdir
    _judge_test(guard, item, held, rootdir)
    if nextitem is not None and will_stop(item, held):
        _tear_down_all(guard, item, held)
    rows = guard.fixtures.failing_rows()
    if rows:
        error = leak_error(item.nodeid, (), rows, rootdir)
        held[-1] = _erred(item, held[-1], error) if held[-1].passed else _beside(held[-1], str(error))


def _tear_down_all(guard: Guard, item: pytest.Item, held: list[pytest.TestReport]) -> None:
    """Tear down the wider fixtures with the test whose leak, as is known only now, ends the run."""
    state = item.session._setupstate
    if not state.stack:
        return
    with guard.fixtures.ending_with(item):
        call = pytest.CallInfo.from_call(
            lambda: state.teardown_exact(None), when="teardown", reraise=(pytest.exit.Exception, KeyboardInterrupt)
        )
    if call.excinfo is None:
        return
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    if held[-1].passed:
        report.sections = list(held[-1].sections)
        held[-1] = report
    elif report.failed:
        _beside(held[-1], report.longreprtext, "teardown of the wider fixtures")


def _judge_test(guard: Guard, item: pytest.Item, held: list[pytest.TestReport], rootdir: str) -> None:
    check = guard.check_of(item)
    if check is None:
        return
    leaks, notes = check.own_leaks, guard.failing_notes(check)
    own = next((each for each in held if _has_failed_itself(each)), None)
    if own is not None and leaks:
        _beside(own, section_text(leaks, owner=item.nodeid, rootdir=rootdir))
    elif own is None and (leaks or notes):
        # A test that was skipped while it was set up has no call report to fail.
        index = 0 if held[0].when == "call" else -1
        held[index] = _replaced(item, held[index], leak_error(item.nodeid, leaks, (), rootdir, notes))
    _warn(item, held[0], check.warnings, guard.warning_notes(check), rootdir)
    for finding in check.leaks:
        held[0].user_properties.append(("httpleak", one_line(finding, rootdir=rootdir)))


def _has_failed_itself(report: pytest.TestReport) -> bool:
    """Whether a test has a failure of its own, an expected one too; that it unexpectedly passed is none."""
    if report.failed:
        return not (isinstance(report.longrepr, str) and report.longrepr.startswith("[XPASS(strict)]"))
    return report.skipped and hasattr(report, "wasxfail")


def _replaced(item: pytest.Item, report: pytest.TestReport, error: LeakError) -> pytest.TestReport:
    """The report of the same phase, failed by a leak: made as pytest makes it, so that `xfail` and `raises=` apply."""
    call = _call(report, error)
    failed: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    failed.sections = list(report.sections)
    if failed.failed and call.excinfo is not None:
        _shorten(call.excinfo, failed)
        item.ihook.pytest_exception_interact(node=item, call=call, report=failed)
    return failed


def _erred(item: pytest.Item, report: pytest.TestReport, error: LeakError) -> pytest.TestReport:
    """An error at teardown: of a fixture, so that no mark of the test which happens to be its last applies."""
    call = _call(report, error)
    erred = pytest.TestReport.from_item_and_call(item, call)
    erred.sections = list(report.sections)
    if call.excinfo is not None:
        _shorten(call.excinfo, erred)
        item.ihook.pytest_exception_interact(node=item, call=call, report=erred)
    return erred


def _call(report: pytest.TestReport, error: LeakError) -> pytest.CallInfo[None]:
    def leaked() -> None:
        __tracebackhide__ = True
        raise error

    call = pytest.CallInfo.from_call(leaked, when=report.when)
    call.start, call.stop, call.duration = report.start, report.stop, report.duration
    return call


def _beside(report: pytest.TestReport, text: str, title: str = "httpleak") -> pytest.TestReport:
    report.sections.append((title, text))
    return report


def _warn(
    item: pytest.Item, report: pytest.TestReport, findings: Sequence[Finding], notes: Sequence[AuditNote], rootdir: str
) -> None:
    if findings:
        _beside(report, section_text(findings, owner=item.nodeid, rootdir=rootdir))
    told = [note_lines(note, "httpleak_audit would fail it", rootdir) for note in notes]
    if told:
        _beside(report, "\n".join(line for lines in told for line in lines))
    for text in (*(one_line(finding, rootdir=rootdir) for finding in findings), *(lines[0] for lines in told)):
        try:
            item.warn(HttpLeakWarning(text))
        except HttpLeakWarning:  # filters make errors of warnings; this mode never fails a test
            continue


def leak_error(
    nodeid: str,
    findings: tuple[Finding, ...],
    rows: Sequence[FixtureRow],
    rootdir: str,
    notes: Sequence[AuditNote] = (),
) -> LeakError:
    """The error for a test's leaks, for those of wider fixtures that ended with it, and for audit notes that fail it."""
    texts = [leak_text(findings, owner=nodeid, rootdir=rootdir)] if findings else []
    for row in rows:
        owner = f"fixture {row.name!r} (scope {row.scope}, {_short(row.file, rootdir)}:{row.line})"
        texts.append(leak_text(row.findings, owner=owner, rootdir=rootdir))
    if notes:
        texts.append("\n".join(line for note in notes for line in note_lines(note, "httpleak_audit fails it", rootdir)))
    everything = findings + tuple(finding for row in rows for finding in row.findings)
    return LeakError("\n\n".join(texts), everything)


def _short(file: str, rootdir: str) -> str:
    return file.removeprefix(rootdir.rstrip("/") + "/")


def finish_report(guard: Guard, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Note failures of the test's own, shorten a leak's report to its text, and let the last report carry the row."""
    if report.failed and not (call.excinfo is not None and call.excinfo.errisinstance(LeakError)):
        item.stash[FAILED] = True
    check = guard.check_of(item)
    if check is not None and call.when != "setup":
        check.finished = report.passed if call.when == "call" else check.finished and not item.stash.get(FAILED, False)
    if call.excinfo is not None and not take_raised(guard, item, call.excinfo) and report.failed:
        _shorten(call.excinfo, report)
    if call.when == "teardown":
        guard.deliver(item, report, direct=False)
        item.stash[FAILED] = False


def _shorten(excinfo: pytest.ExceptionInfo[BaseException], report: pytest.TestReport) -> None:
    error = excinfo.value
    shown: Any = excinfo.getrepr(style="value")
    findings = getattr(error, "findings", ())
    site = findings[0].created if findings else None
    if shown.reprcrash is not None:
        file, line = (shown.reprcrash.path, shown.reprcrash.lineno) if site is None else (site.file, site.line)
        shown.reprcrash = ReprFileLocation(file, line, str(error).partition("\n")[0])
        trace, _, description = shown.chain[-1]  # what crosses over to xdist's controller
        shown.chain = [*shown.chain[:-1], (trace, shown.reprcrash, description)]
    report.longrepr = shown


def take_raised(guard: Guard, item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether the test itself has raised an error, as a checked block does; its leaks then stand in the test's row."""
    is_ours = excinfo.traceback and excinfo.traceback[-1].frame.f_globals.get("__name__") == __name__
    if is_ours and isinstance(excinfo.value, LeakError):
        return False
    guard.take_raised(item, excinfo.value)
    return True
