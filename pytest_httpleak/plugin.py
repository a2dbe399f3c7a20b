"""The hooks: each translates between pytest and the guard, and decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak import hookspecs
from pytest_httpleak.guard import GUARD, ROW, Guard
from pytest_httpleak.settings import Mode, add_options, marker_help, read_run_settings

if TYPE_CHECKING:
    from pytest_httpleak.api import LeakCheck


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", marker_help())
    run = read_run_settings(config)
    if run.mode is not Mode.OFF:
        guard = config.stash[GUARD] = Guard(config, run)
        config.pluginmanager.register(Hooks(guard), "httpleak-hooks")


def pytest_report_header(config: pytest.Config) -> str:
    guard = config.stash.get(GUARD, None)
    return f"httpleak: {Mode.OFF.value if guard is None else guard.settings.mode.value}"


def pytest_unconfigure(config: pytest.Config) -> None:
    guard = config.stash.get(GUARD, None)
    if guard is not None:
        guard.stop()


@pytest.fixture
def httpleak(request: pytest.FixtureRequest) -> Iterator[LeakCheck]:
    """Snapshots, checked blocks, run-time tolerances and pool figures for the leak check of this test."""
    from pytest_httpleak.api import LeakCheck

    guard = request.config.stash.get(GUARD, None)
    yield LeakCheck(None, None) if guard is None else guard.interface(request.node, LeakCheck)


class Hooks:
    """The hooks of a run that is watched, so that one which is not pays for none of them."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        if self._guard.settings.mode is not Mode.MARKED:
            self._guard.start()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._guard.collected(items)

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not self._guard.session.is_on or not self._guard.is_checked(item):
            return None
        verdict = sys.modules.get("pytest_httpleak.verdict") or _import_verdict()
        return verdict.run_protocol(self._guard, item, nextitem, self) or None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._guard.begin_test(item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        if fixturedef.scope == "function" or not self._guard.session.is_on:
            return (yield)
        with self._guard.fixture(fixturedef):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        try:
            result = yield
        except BaseException:
            self._guard.end_test(item)
            raise
        self._guard.after_teardown(item)
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if self._guard.session.is_on:
            _import_verdict().finish_report(self._guard, item, call, report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._guard.is_worker and hasattr(report, ROW):
            self._guard.take(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {}).get("httpleak")
        if output is not None:
            self._guard.take_from_worker(output)

    @pytest.hookimpl(wrapper=True, trylast=True)  # within the terminal's, which shows the summary; around the runner's
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        result = yield
        _import_finish().finish(self._guard, session, exitstatus)
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        _import_finish().summarise(self._guard, terminalreporter)


def _import_verdict() -> Any:
    from pytest_httpleak import verdict

    return verdict


def _import_finish() -> Any:
    from pytest_httpleak import finish

    return finish
