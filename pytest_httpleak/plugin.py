"""The hooks: each translates between pytest and the guard, and decides nothing. PYTEST_DONT_REWRITE."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak.loading import OwnModules

if TYPE_CHECKING:
    from pytest_httpleak.api import LeakCheck
    from pytest_httpleak.guard import Guard

# All else is imported where it is wanted: a run without the guard does not pay for it, and the rest is found faster then.
_GUARD = pytest.StashKey["Guard"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    with OwnModules():
        from pytest_httpleak.settings import add_options

    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    with OwnModules():
        from pytest_httpleak import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    from pytest_httpleak.settings import Mode, marker_help, read_run_settings

    config.addinivalue_line("markers", marker_help())
    run = read_run_settings(config)
    if run.mode is not Mode.OFF:
        with OwnModules():
            from pytest_httpleak.guard import Guard

        own_modules = OwnModules()
        own_modules.install()  # for what is imported later
        config.add_cleanup(own_modules.remove)
        guard = config.stash[_GUARD] = Guard(config, run)
        config.pluginmanager.register(Hooks(guard), "httpleak-hooks")


def pytest_report_header(config: pytest.Config) -> str:
    guard = config.stash.get(_GUARD, None)
    return f"httpleak: {'off' if guard is None else guard.settings.mode.value}"


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
        self._guard.begin_run()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._guard.collected(items, self)

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        guard = self._guard
        guard.ending.has_reached_last = nextitem is None
        return guard.protocol(item, nextitem) if guard.session.is_on and guard.is_checked(item) else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        __tracebackhide__ = True
        if fixturedef.scope == "function" or not self._guard.session.is_on:
            return (yield)
        with self._guard.fixtures.setting_up(fixturedef, request):
            return (yield)

    def pytest_keyboard_interrupt(self) -> None:
        self._guard.ending.is_interrupted = True

    @pytest.hookimpl(wrapper=True, trylast=True)  # within the terminal's, which shows the summary; around the runner's
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        __tracebackhide__ = True
        result = yield
        self._guard.ending.finish(session, exitstatus)
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self._guard.ending.summarise(terminalreporter)
