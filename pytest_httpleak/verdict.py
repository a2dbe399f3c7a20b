"""Makes a leak the test's own failure: the call report is held back until the test has been judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from _pytest._code.code import ReprFileLocation
from _pytest.runner import call_and_report, show_test_item

from pytest_httpleak.errors import HttpLeakWarning, LeakError
from pytest_httpleak.guard import FAILED, ROW, Guard
from pytest_httpleak.model import Finding, FixtureRow
from pytest_httpleak.reports.text import leak_text, one_line, section_text


def run_protocol(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None, impl: Any) -> bool:
    """Run a test as pytest does, with its call report held back; False where another plugin wants to run it."""
    taken = _others_protocol(item, nextitem, impl)
    if taken is not None:
        return taken
    ihook = item.ihook
    ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    _run(guard, item, nextitem)
    ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _others_protocol(item: pytest.Item, nextitem: pytest.Item | None, impl: Any) -> bool | None:
    """Ask the plugins that would come after this one whether they run the test: re-run plugins do."""
    arguments = {"item": item, "nextitem": nextitem}
    impls = [each for each in item.ihook.pytest_runtest_protocol.get_hookimpls() if not each.hookwrapper and not each.wrapper]
    later = impls[: next(index for index, each in enumerate(impls) if each.plugin is impl)]
    for each in reversed(later):
        if each.plugin_name == "runner":
            continue
        result = each.function(**{name: arguments[name] for name in each.argnames})
        if result is not None:
            return bool(result)
    return None


def _run(guard: Guard, item: pytest.Item, nextitem: pytest.Item | None) -> None:
    ihook = item.ihook
    has_request = hasattr(item, "_request")
    if has_request and not item._request:  # a test that is run again
        item._initrequest()  # type: ignore[attr-defined]
    held: list[pytest.TestReport] = []
    guard.holding = item
    try:
        report = call_and_report(item, "setup", log=False)
        if not report.passed:
            held.append(report)
        else:
            ihook.pytest_runtest_logreport(report=report)
            setup_only = item.config.getoption("setuponly", False)
            if item.config.getoption("setupshow", False):
                _show(item, setup_only)
            if not setup_only:
                held.append(call_and_report(item, "call", log=False))
        if item.session.shouldfail or item.session.shouldstop or _will_stop(item, held):
            nextitem = None
        held.append(call_and_report(item, "teardown", log=False, nextitem=nextitem))
        _judge(guard, item, held)
        setattr(held[-1], ROW, guard.row(item))
    finally:
        guard.holding = None
        reports, held = held, []
        for report in reports:
            ihook.pytest_runtest_logreport(report=report)
        if has_request:
            item._request = False
            item.funcargs = None  # type: ignore[attr-defined]


def _show(item: pytest.Item, setup_only: bool) -> None:
    try:
        show_test_item(item, add_space=not setup_only)
    except TypeError:  # pytest before 9.1
        show_test_item(item)


def _will_stop(item: pytest.Item, held: Sequence[pytest.TestReport]) -> bool:
    """Whether `--maxfail` will end the run with what is held back; then every fixture is torn down with this test."""
    limit = item.config.getvalue("maxfail")
    failed = sum(1 for report in held if report.failed and not hasattr(report, "wasxfail"))
    return bool(failed and limit and item.session.testsfailed + failed >= limit)


def _judge(guard: Guard, item: pytest.Item, held: list[pytest.TestReport]) -> None:
    """Let the test's leaks fail its call report, or stand beside the failure that it has already."""
    check = guard.check_of(item)
    if check is None or not check.findings:
        return
    report = held[0]
    if check.leaks and report.when == "call" and not report.failed and not hasattr(report, "wasxfail"):
        held[0] = _failed(item, report, check.leaks, guard.session.rootdir)
    elif check.leaks:
        text = section_text(check.leaks, owner=item.nodeid, rootdir=guard.session.rootdir)
        report.sections.append(("httpleak", text))
    if check.warnings:
        _warn(item, held[0], check.warnings, guard.session.rootdir)
    for finding in check.leaks:
        held[0].user_properties.append(("httpleak", one_line(finding, rootdir=guard.session.rootdir)))


def _failed(
    item: pytest.Item, report: pytest.TestReport, leaks: tuple[Finding, ...], rootdir: str
) -> pytest.TestReport:
    error = leak_error(item.nodeid, leaks, (), rootdir)

    def leaked() -> None:
        __tracebackhide__ = True
        raise error

    call = pytest.CallInfo.from_call(leaked, when="call")
    call.start, call.stop, call.duration = report.start, report.stop, report.duration
    failed: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    failed.sections = list(report.sections)
    if failed.failed:
        item.ihook.pytest_exception_interact(node=item, call=call, report=failed)
    return failed


def _warn(
    item: pytest.Item, report: pytest.TestReport, findings: tuple[Finding, ...], rootdir: str
) -> None:
    report.sections.append(("httpleak", section_text(findings, owner=item.nodeid, rootdir=rootdir)))
    for finding in findings:
        try:
            item.warn(HttpLeakWarning(one_line(finding, rootdir=rootdir)))
        except HttpLeakWarning:  # filters make errors of warnings; this mode never fails a test
            continue


def leak_error(
    nodeid: str, findings: tuple[Finding, ...], rows: Sequence[FixtureRow], rootdir: str
) -> LeakError:
    """The error for a test's leaks, for those of wider fixtures that ended with it, or for both."""
    texts = [leak_text(findings, owner=nodeid, rootdir=rootdir)] if findings else []
    for row in rows:
        owner = f"fixture {row.name!r} (scope {row.scope}, {_short(row.file, rootdir)}:{row.line})"
        texts.append(leak_text(row.findings, owner=owner, rootdir=rootdir))
    everything = findings + tuple(finding for row in rows for finding in row.findings)
    return LeakError("\n\n".join(texts), everything)


def _short(file: str, rootdir: str) -> str:
    root = rootdir.rstrip("/") + "/"
    return file[len(root) :] if file.startswith(root) else file


def finish_report(guard: Guard, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Note failures of the test's own, shorten a leak's report to its text, and let the last report carry the row."""
    if report.failed and not (call.excinfo is not None and call.excinfo.errisinstance(LeakError)):
        item.stash[FAILED] = True
    if call.excinfo is not None and isinstance(call.excinfo.value, LeakError) and report.failed:
        _shorten(call.excinfo, report)
    if call.when == "teardown":
        if guard.holding is not item:
            setattr(report, ROW, guard.row(item))
        item.stash[FAILED] = False


def _shorten(excinfo: pytest.ExceptionInfo[BaseException], report: pytest.TestReport) -> None:
    error = excinfo.value
    last = excinfo.traceback[-1] if excinfo.traceback else None
    if last is None or not str(last.path).startswith(__file__.rpartition("verdict")[0]):
        return
    if last.frame.f_globals.get("__name__", "").endswith(".api"):
        return  # raised by a checked block in the test: its line is worth showing
    shown: Any = excinfo.getrepr(style="value")
    findings = getattr(error, "findings", ())
    site = findings[0].created if findings else None
    if site is not None and shown.reprcrash is not None:
        shown.reprcrash = ReprFileLocation(site.file, site.line, str(error).partition("\n")[0])
    report.longrepr = shown

