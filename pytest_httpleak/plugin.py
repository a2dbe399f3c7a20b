"""The hooks: each translates between pytest and the guard, and decides nothing."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak.settings import Mode, add_options, marker_help, read_run_settings

if TYPE_CHECKING:
    from pytest_httpleak.api import LeakCheck
    from pytest_httpleak.guard import Guard

# The guard is imported where it is wanted, so that a run without it does not pay for it.
_GUARD = pytest.StashKey["Guard"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_httpleak import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", marker_help())
    run = read_run_settings(config)
    if run.mode is not Mode.OFF:
        from pytest_httpleak.guard import Guard

        guard = config.stash[_GUARD] = Guard(config, run)
        config.pluginmanager.register(Hooks(guard), "httpleak-hooks")


def pytest_report_header(config: pytest.Config) -> str:
    guard = config.stash.get(_GUARD, None)
    return f"httpleak: {Mode.OFF.value if guard is None else guard.settings.mode.value}"


def pytest_unconfigure(config: pytest.Config) -> None:
    guard = config.stash.get(_GUARD, None)
    if guard is not None:
        guard.stop()


@pytest.fixture
def httpleak(request: pytest.FixtureRequest) -> LeakCheck:
    """Snapshots, checked blocks, run-time tolerances and pool figures for the leak check of this test."""
    from pytest_httpleak.api import LeakCheck

    guard = request.config.stash.get(_GUARD, None)
    if guard is None:
        return LeakCheck(None, None)
    check: LeakCheck = guard.interface(request.node, LeakCheck)
    return check


class Hooks:
    """The hooks of a run that is watched, so that one which is not pays for none of them."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        if self._guard.settings.mode is not Mode.MARKED or self._guard.is_controller:
            self._guard.start()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._guard.collected(items, self)

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        guard = self._guard
        return guard.protocol(item, nextitem) if guard.session.is_on and guard.is_checked(item) else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function" or not self._guard.session.is_on:
            return (yield)
        with self._guard.fixtures.setting_up(fixturedef, request):
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)  # within the terminal's, which shows the summary; around the runner's
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        result = yield
        self._guard.ending.finish(session, exitstatus)
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self._guard.ending.summarise(terminalreporter)
