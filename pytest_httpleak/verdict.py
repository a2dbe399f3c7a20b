"""Says a leak in pytest's reports: as the failure of the test, beside a failure of its own, or as a warning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pytest
from _pytest._code.code import ReprFileLocation

from pytest_httpleak.asking import attribute
from pytest_httpleak.errors import HttpLeakWarning, LeakError
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Outcome
from pytest_httpleak.model.rows import AuditNote, FixtureRow
from pytest_httpleak.protocol import FAILED, will_stop
from pytest_httpleak.reports.notes import note_lines
from pytest_httpleak.reports.text import leak_text, one_line, section_text

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard
    from pytest_httpleak.protocol import Failure

_TITLE: Final = "httpleak"
_LATE: Final = "httpleak at teardown"  # pytest shows such sections with the test's, whatever its teardown has come to

_EXPECTS: Final = "__unittest_expecting_failure__"
_UNCONFIRMED: Final = (
    "httpleak: --httpleak-confirm has no effect on tests that another plugin runs ({}): their leaks were not confirmed"
)


def raise_leaks(guard: Guard, item: pytest.Item) -> None:
    """Raise what a test and the fixtures that ended with it have leaked, where another plugin runs the tests."""
    __tracebackhide__ = True
    guard.after_teardown(item)
    check = guard.check_of(item)
    rows = guard.fixtures.rows_to_tell(Outcome.LEAKED)
    is_judged = check is not None and not item.stash.get(FAILED, False)
    leaks = check.own_leaks if check is not None and is_judged else ()
    notes = guard.failing_notes(check) if check is not None and is_judged else ()
    if leaks or rows or notes:
        raise leak_error(item.nodeid, leaks, rows, guard.session.rootdir, notes)


def judge(
    guard: Guard,
    item: pytest.Item,
    nextitem: pytest.Item | None,
    held: list[pytest.TestReport],
    failures: list[Failure],
) -> None:
    """Let the leaks fail the reports that are held back, or stand beside the failure that is there already."""
    rootdir = guard.session.rootdir
    _judge_test(guard, item, held, failures)
    if nextitem is not None and will_stop(item, held):
        _tear_down_all(guard, item, held)
    rows = guard.fixtures.rows_to_tell(Outcome.LEAKED)
    if rows:
        error = leak_error(item.nodeid, (), rows, rootdir)
        held[-1] = _erred(item, held[-1], error, failures) if held[-1].passed else _beside(held[-1], str(error))
    _warn_of_fixtures(guard, item, held[-1])


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


def _judge_test(guard: Guard, item: pytest.Item, held: list[pytest.TestReport], failures: list[Failure]) -> None:
    check, rootdir = guard.check_of(item), guard.session.rootdir
    if check is None:
        return
    leaks, notes = check.own_leaks, guard.failing_notes(check)
    # What a wider fixture raises when it is torn down with its last test is no failure of the test.
    is_of_others = check.cleanly and held[0].when == "call"
    own = next((each for each in (held[:-1] if is_of_others else held) if has_failed_itself(item, each)), None)
    if own is not None and leaks:
        _beside(own, section_text(leaks, owner=item.nodeid, rootdir=rootdir))
    elif own is None and (leaks or notes):
        # A test that was skipped while it was set up has no call report to fail.
        index = 0 if held[0].when == "call" else -1
        held[index] = _replaced(item, held[index], leak_error(item.nodeid, leaks, (), rootdir, notes), failures)
    _warn(item, held[0], check.warnings, guard.warning_notes(check), rootdir, owner=item.nodeid)
    for finding in check.leaks:
        held[0].user_properties.append(("httpleak", one_line(finding, rootdir=rootdir)))


def has_failed_itself(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Whether a test has a failure of its own, an expected one too; that it unexpectedly passed is none."""
    if report.failed:
        is_strict = isinstance(report.longrepr, str) and report.longrepr.startswith("[XPASS(strict)]")
        return not (is_strict or _is_unexpected_success(item, report))
    return report.skipped and hasattr(report, "wasxfail")


def _is_unexpected_success(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Whether unittest has failed a test for not having failed: whatever else it raises is what was expected."""
    cls = attribute(item, "cls")
    is_expected = any(attribute(each, _EXPECTS) is True for each in (cls, attribute(cls, item.name)))
    return is_expected and report.longreprtext.strip() == "Unexpected success"


def _replaced(
    item: pytest.Item, report: pytest.TestReport, error: LeakError, failures: list[Failure]
) -> pytest.TestReport:
    """The report of the same phase, failed by a leak: made as pytest makes it, so that `xfail` and `raises=` apply."""
    call = _call(report, error)
    if call.excinfo is not None and _is_unexpected_success(item, report):
        failing: Any = item
        failing.addExpectedFailure(None, (call.excinfo.type, call.excinfo.value, call.excinfo.tb))  # as unittest does
    failed = _reported(item, call)
    failed.sections = list(report.sections)
    if failed.failed and call.excinfo is not None:
        _shorten(call.excinfo, failed)
        failures.append((_at_its_line(item, call, error), failed))
    return failed


def _reported(item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:
    """The report as all plugins have it, or as pytest alone has it where a hook relies on what was torn down by now."""
    try:
        report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    except Exception as error:  # noqa: BLE001  # somebody's hook, which takes a picture of what the fixture has given, say
        pass_on(error)
        return pytest.TestReport.from_item_and_call(item, call)
    return report


def _erred(
    item: pytest.Item, report: pytest.TestReport, error: LeakError, failures: list[Failure]
) -> pytest.TestReport:
    """An error at teardown: of a fixture, so that no mark of the test which happens to be its last applies."""
    call = _call(report, error)
    erred = pytest.TestReport.from_item_and_call(item, call)
    erred.sections = list(report.sections)
    if call.excinfo is not None:
        _shorten(call.excinfo, erred)
        failures.append((_at_its_line(item, call, error), erred))
    return erred


def _call(report: pytest.TestReport, error: LeakError) -> pytest.CallInfo[None]:
    def leaked() -> None:
        __tracebackhide__ = True
        raise error

    call = pytest.CallInfo.from_call(leaked, when=report.when)
    call.start, call.stop, call.duration = report.start, report.stop, report.duration
    return call


def _at_its_line(item: pytest.Item, call: pytest.CallInfo[None], error: LeakError) -> pytest.CallInfo[None]:
    """Let a debugger begin at the line that has made the first leak: the one that has raised the error tells nothing."""
    site = next((finding.created for finding in error.findings if finding.created), None)
    if site is None:
        return call
    module = attribute(item, "module")
    names = dict(vars(module)) if attribute(module, "__file__") == site.file else {}
    try:
        code = compile("\n" * (site.line - 1) + "raise __leak__", site.file, "exec").replace(co_name=site.function)
        exec(code, {**names, "__leak__": error.with_traceback(None)})  # noqa: S102  # a frame has to run to be in a traceback
    except LeakError:
        call.excinfo = pytest.ExceptionInfo.from_current()
    except ValueError:  # a name that no file can have
        return call
    return call


def _beside(report: pytest.TestReport, text: str, title: str = _TITLE) -> pytest.TestReport:
    report.sections.append((title, text))
    return report


def _warn_of_fixtures(guard: Guard, item: pytest.Item, report: pytest.TestReport) -> None:
    rootdir = guard.session.rootdir
    for row in guard.fixtures.rows_to_tell(Outcome.WARNED):
        _warn(item, report, row.findings, (), rootdir, owner=_owner(row, rootdir), title=_LATE)


def _warn(
    item: pytest.Item,
    report: pytest.TestReport,
    findings: Sequence[Finding],
    notes: Sequence[AuditNote],
    rootdir: str,
    *,
    owner: str,
    title: str = _TITLE,
) -> None:
    if findings:
        _beside(report, section_text(findings, owner=owner, rootdir=rootdir), title)
    told = [note_lines(note, "httpleak_audit would fail it", rootdir) for note in notes]
    if told:
        _beside(report, "\n".join(line for lines in told for line in lines), title)
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
    texts += [leak_text(row.findings, owner=_owner(row, rootdir), rootdir=rootdir) for row in rows]
    if notes:
        texts.append("\n".join(line for note in notes for line in note_lines(note, "httpleak_audit fails it", rootdir)))
    everything = findings + tuple(finding for row in rows for finding in row.findings)
    return LeakError("\n\n".join(texts), everything)


def _owner(row: FixtureRow, rootdir: str) -> str:
    return f"fixture {row.name!r} (scope {row.scope}, {_short(row.file, rootdir)}:{row.line})"


def _short(file: str, rootdir: str) -> str:
    return file.removeprefix(rootdir.rstrip("/") + "/")


def finish_report(guard: Guard, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Note failures of the test's own, shorten a leak's report to its text, and let the last report carry the row."""
    is_own = report.failed and not (call.excinfo is not None and call.excinfo.errisinstance(LeakError))
    if is_own:
        item.stash[FAILED] = True
    if call.when != "teardown" or guard.own_failure is None:
        guard.own_failure = report if is_own else None
    check = guard.check_of(item)
    if check is not None and call.when != "setup":
        check.finished = report.passed if call.when == "call" else check.finished and not item.stash.get(FAILED, False)
    if call.excinfo is not None and not take_raised(guard, item, call.excinfo) and report.failed:
        _shorten(call.excinfo, report)
    if call.when == "teardown":
        if guard.has_findings(item):
            guard.session.safely(_tell_the_rest, guard, item, report)
        guard.deliver(item, report, direct=False)
        item.stash[FAILED] = False
        guard.own_failure = None


def _tell_the_rest(guard: Guard, item: pytest.Item, report: pytest.TestReport) -> None:
    """Let what does not fail a test that another plugin runs stand beside its own failure, or else in its last report."""
    check, rootdir, own = guard.check_of(item), guard.session.rootdir, guard.own_failure
    last, title = (report, _LATE) if own is None else (own, _TITLE)
    if check is not None:
        has_failed = item.stash.get(FAILED, False)
        if has_failed and check.own_leaks:
            _beside(last, section_text(check.own_leaks, owner=item.nodeid, rootdir=rootdir), title)
        _warn(item, last, check.warnings, guard.warning_notes(check), rootdir, owner=item.nodeid, title=title)
        if check.leaks and not has_failed and guard.settings.confirm:
            guard.results.remark(_UNCONFIRMED.format(", ".join(guard.runners)))
        report.user_properties += [("httpleak", one_line(finding, rootdir=rootdir)) for finding in check.leaks]
    rows = guard.fixtures.rows_to_tell(Outcome.LEAKED)  # of a teardown that has failed by itself
    if rows:
        _beside(report, str(leak_error(item.nodeid, (), rows, rootdir)))
    _warn_of_fixtures(guard, item, report)


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
