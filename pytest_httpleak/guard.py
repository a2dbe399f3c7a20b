"""One pytest session under watch: which tests are checked, whose life begins and ends when, what becomes of a leak."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from importlib import import_module
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak.asking import attribute
from pytest_httpleak.clocks import Real
from pytest_httpleak.finish import Ending
from pytest_httpleak.itemteardowns import judge_last
from pytest_httpleak.protocol import is_of_finalizers, run_held
from pytest_httpleak.results import CLEAN, ROW, Results
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import Mode, RunSettings, Settings, is_marked, settings_for, with_later_marks
from pytest_httpleak.userfiles import set_tests
from pytest_httpleak.widerfixtures import WiderFixtures

if TYPE_CHECKING:
    from pytest_httpleak.model.rows import AuditNote
    from pytest_httpleak.session.trend import Trend

FIXTURE = "httpleak"

_TOO_LATE = (
    "{}: the fixture httpleak was asked for by `getfixturevalue()`, which is too late where only marked tests are checked: "
    "take `httpleak` as an argument, mark the test with `@pytest.mark.httpleak`, or run `pytest -p httpleak`"
)


class Guard:
    """The plugin's state in one pytest session."""

    def __init__(self, config: pytest.Config, run: RunSettings) -> None:
        self.config = config
        self.settings = run
        self.session = Session(rootdir=str(config.rootpath), audit=not run.audit_off)
        self.results = Results(str(config.rootpath))
        self.ending = Ending(self)
        self.baseline = self._load_baseline()
        self.session.is_alone = self.baseline is None and not run.confirm
        self.fixtures = WiderFixtures(self)
        self.session.let_go = self._let_go
        self.session.block_begins = lambda: self._register("BlockHooks")
        self.session.code_of_test = self._code_of_test
        self.session.item = lambda: self.fixtures.during
        self.session.runs_examples = self._runs_examples
        self.trend = self._new_trend()
        self.is_worker = hasattr(config, "workerinput")
        self.is_controller = not self.is_worker and config.getoption("dist", "no") != "no"
        self.holding: pytest.Item | None = None
        # Of a test that another plugin runs; as long as something can be put beside it.
        self.own_failure: pytest.TestReport | None = None
        self.runners: list[str] = []  # other plugins that may run the tests
        self._checks: dict[int, Check] = {}  # by item
        self._marks: dict[int, list[pytest.Mark]] = {}  # by item: those that it had before it was run
        self._settings: dict[str, Settings] = {}
        self._other_protocols: list[Any] = []

    def _new_trend(self) -> Trend | None:
        if not self.settings.reports:
            return None
        from pytest_httpleak.session.trend import Trend

        return Trend(self.session.watch)

    def _load_baseline(self) -> Any:
        if self.settings.baseline is None:
            return None
        from pytest_httpleak.collected import Collected
        from pytest_httpleak.gate import Everything, load_baseline

        baseline = load_baseline(self.settings.baseline)
        self.session.known = Everything() if self.settings.update_baseline else baseline
        self.results.collected = Collected(baseline, self.session.rootdir)
        self.config.pluginmanager.register(self.results.collected, "httpleak-collected")
        return baseline

    @property
    def has_files_to_write(self) -> bool:
        """Whether the end of the run has more to do than to show what was found."""
        return bool(self.settings.reports or self.baseline is not None or self.settings.github)

    # -- the run -------------------------------------------------------------------------------------------------------

    def begin_run(self) -> None:
        """Begin to watch before the tests are collected, unless it may turn out that none of them is checked."""
        if self.settings.mode is not Mode.MARKED or self.is_controller:
            self.start()

    def start(self) -> None:
        """Begin to watch, unless this process runs no tests."""
        if self.is_controller:
            self._register("ControllerHooks")
        elif not self.session.is_on and not self.config.getoption("collectonly", False):
            self.session.start(self._adapters())
            if hasattr(self.config.hook, "pytest_timeout_set_timer"):
                self._register("TimerHooks", "timers")

    def _register(self, name: str, module: str = "reporting_hooks") -> None:
        hooks = getattr(import_module(f"pytest_httpleak.{module}"), name)
        if self.config.pluginmanager.has_plugin(f"httpleak-{name}"):
            return
        with contextlib.suppress(ValueError):  # another thread was first
            self.config.pluginmanager.register(hooks(self), f"httpleak-{name}")

    def _adapters(self) -> list[Any]:
        return [each for group in self.config.hook.pytest_httpleak_adapters() for each in group]

    def stop(self) -> None:
        """Undo everything that was patched."""
        self.session.stop()

    def collected(self, items: list[pytest.Item], hooks: object) -> None:
        """Read every test's settings, so that wrong input is met before the first test; start if any is checked."""
        try:
            self._read_settings(items)
        except pytest.UsageError as error:
            if not self.is_worker:
                raise
            self.results.usage_error = str(error)  # the controller says it, as a worker that ends is a crash to it
            items.clear()
        if self.settings.mode is not Mode.MARKED or any(map(self.is_checked, items)):
            self.start()
        if self.session.is_on:
            set_tests({str(item.path) for item in items if isinstance(item, pytest.Function)} | self._conftests())
            no_functions = [item for item in items if not isinstance(item, pytest.Function)]
            if no_functions:
                from pytest_httpleak import doctests  # here, as most runs have none

                doctests.set_tests(no_functions)
        runs = [impl for impl in self.config.hook.pytest_runtest_protocol.get_hookimpls() if not _is_wrapper(impl)]
        others = [impl for impl in runs if impl.plugin is not hooks and impl.plugin_name != "runner"]
        if others:
            self.runners = [impl.plugin_name for impl in others]
            self._register("ForeignProtocolHooks")
        before = next((index for index, impl in enumerate(runs) if impl.plugin is hooks), 0)
        self._other_protocols = [impl for impl in reversed(runs[:before]) if impl.plugin_name != "runner"]

    def _conftests(self) -> set[str]:
        """The files of all `conftest.py` that are loaded, which may be of an installed package whose tests are run."""
        files = (str(attribute(plugin, "__file__", "")) for plugin in self.config.pluginmanager.get_plugins())
        return {file for file in files if file.endswith(f"{os.sep}conftest.py")}

    def _read_settings(self, items: list[pytest.Item]) -> None:
        parents: dict[int, bool] = {}
        for item in items:
            if is_marked(item, parents):
                self._settings[item.nodeid] = settings_for(item, self.settings)

    def is_checked(self, item: pytest.Item) -> bool:
        """Whether a leak of that test is looked for at all."""
        if self.settings.mode is not Mode.MARKED:
            return True
        return item.nodeid in self._settings or item.get_closest_marker("httpleak") is not None or uses_fixture(item)

    def settings_of(self, item: pytest.Item) -> Settings:
        """What counts for that test."""
        return self._settings.get(item.nodeid, self.settings.default) if self._settings else self.settings.default

    # -- tests ---------------------------------------------------------------------------------------------------------

    def begin_test(self, item: pytest.Item) -> None:
        """A test's set-up begins: from now on it answers for what is made. A re-run is a new life."""
        if not self.session.is_on:
            return
        began = Real.perf_counter()
        self.fixtures.during = item
        self.session.safely(self._begin, item)
        self.session.seconds += Real.perf_counter() - began

    def _begin(self, item: pytest.Item) -> None:
        check = self._checks[id(item)] = self.session.begin(item.nodeid, "function", self.settings_of(item))
        self._marks[id(item)] = item.own_markers[:]
        if uses_fixture(item):  # which may be asked for the highest numbers from here on
            self.session.want_peaks(check)
        self.fixtures.watch_nodes_above(item)
        judge_last(self, item)

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test with its call report held back, unless one of the plugins that would come next takes it."""
        arguments = {"item": item, "nextitem": nextitem}
        for impl in self._other_protocols:
            result = impl.function(**{name: arguments[name] for name in impl.argnames})
            if result is not None:
                return bool(result)
        run_held(self, item, nextitem)
        return True

    def _let_go(self) -> None:
        """Let the test runner keep no more of a test's log than the text, and nothing that the records refer to."""
        from pytest_httpleak.logged import lighten_records

        if self.fixtures.during is not None:
            lighten_records(self.fixtures.during)

    def _code_of_test(self) -> CodeType | None:
        from pytest_httpleak.probes.makers import code_of  # here, as a clean run does without

        return code_of(attribute(self.fixtures.during, "function"))

    def _runs_examples(self) -> bool:
        return attribute(attribute(self.fixtures.during, "function"), "is_hypothesis_test") is True

    def check_of(self, item: pytest.Item) -> Check | None:
        """The check of a test that is running."""
        return self._checks.get(id(item))

    def put_check(self, item: pytest.Item, check: Check) -> None:
        """Let this check stand for the test."""
        self._checks[id(item)] = check

    def interface(self, item: pytest.Item, make: Callable[[Session, Check | None], Any]) -> Any:
        """What the fixture gives a test, which from now on has its peaks counted."""
        check = self._checks.get(id(item))
        if check is None and self.settings.mode is Mode.MARKED and not self.session.is_forked:
            raise pytest.UsageError(_TOO_LATE.format(item.nodeid))
        if check is None or check.settings.mode is Mode.OFF:
            return make(self.session, None)
        self.session.want_peaks(check)
        return make(self.session, check)

    def end_test(self, item: pytest.Item) -> None:
        """Judge the test, if that has not been done."""
        check = self._checks.get(id(item))
        if check is None or check.judged:
            return
        before = self._marks.pop(id(item), item.own_markers)
        if before != item.own_markers:
            check.settings = with_later_marks(item, check.settings, before)
        if self.is_checked(item):
            self.session.end(check)
        else:
            self.session.drop(check)

    def after_teardown(self, item: pytest.Item) -> None:
        """The test's teardown is over: judge it now if its own `teardown` was never called, as after a failed set-up."""
        item.__dict__.pop("teardown", None)
        self.end_test(item)
        self.fixtures.during = None

    def take_raised(self, item: pytest.Item, error: object) -> bool:
        """Let the leaks of checked blocks that are among what has ended a test stand in its row; whether they are all of it."""
        from pytest_httpleak.errors import LeakError

        check = self._checks.get(id(item))
        self.note_raised(item, error)
        if isinstance(error, BaseExceptionGroup):
            taken = [self.take_raised(item, each) for each in error.exceptions]  # each of them, whatever the others are
            return all(taken)
        if check is None or not isinstance(error, LeakError) or error.taken not in ("", item.nodeid):
            return False
        error.taken = item.nodeid
        check.take_from_block(tuple(each for each in error.findings if not any(each is it for it in check.of_blocks)))
        return True

    def note_raised(self, item: pytest.Item, error: object) -> None:
        """Note where an error is that has ended a test or a subtest, without keeping it: what its traceback keeps is dropped."""
        check = self._checks.get(id(item))
        if check is not None:
            check.owner.raised += (id(error),)

    def note_trouble(self, item: pytest.Item, error: BaseException) -> None:
        """Note an error of a test's teardown: that of a hook, or a warning that is one, is no wider fixture's."""
        check = self._checks.get(id(item))
        if check is not None and not is_of_finalizers(error):
            check.cleanly = False

    def abandon(self, item: pytest.Item) -> None:
        """The run is being ended in the middle of a test, which is not judged."""
        item.__dict__.pop("teardown", None)
        check = self._checks.pop(id(item), None)
        if check is not None:
            self.session.drop(check)
        self.fixtures.during = None

    def has_findings(self, item: pytest.Item) -> bool:
        """Whether there is anything to say of a test or of the fixtures that ended with it."""
        check = self._checks.get(id(item))
        return bool(self.fixtures.pending) or (check is not None and bool(check.findings or self._asked_notes(check)))

    def failing_notes(self, check: Check) -> tuple[AuditNote, ...]:
        """The audit notes of a test that fail it, as the ini key `httpleak_audit` asks."""
        return self._asked_notes(check) if check.settings.mode is Mode.FAIL else ()

    def warning_notes(self, check: Check) -> tuple[AuditNote, ...]:
        """Those that would fail it, but for the mode in which nothing fails."""
        return self._asked_notes(check) if check.settings.mode is Mode.WARN else ()

    def _asked_notes(self, check: Check) -> tuple[AuditNote, ...]:
        fail = self.settings.audit_fail
        return tuple(note for note in check.notes if note.name in fail) if fail else ()

    def deliver(self, item: pytest.Item, report: pytest.TestReport, *, direct: bool) -> None:
        """Take a test's row, and those of the fixtures that ended with it, or let its last report carry them."""
        check = self._checks.pop(id(item), None)
        if self.trend is not None:
            self.session.safely(self.trend.note, item.nodeid)
        is_here = direct and not self.is_worker
        if self.fixtures.pending or (check is not None and self._has_something_to_say(check, is_here=is_here)):
            from pytest_httpleak.testrows import as_data, rows  # here, as a clean run has none

            found = rows(self, item.nodeid, check)
            if is_here:
                self.results.add(*found)
            else:
                setattr(report, ROW, as_data(*found))
        elif check is not None:
            if is_here:
                self.results.add_clean(item.nodeid, check.notes)
            else:
                setattr(report, ROW, CLEAN)

    def _has_something_to_say(self, check: Check, *, is_here: bool) -> bool:
        """Whether a test's row has more in it than notes that inform; these another process is told with a row."""
        if check.findings or not check.finished or check.is_unchecked:
            return True
        if check.notes and (not is_here or self._asked_notes(check)):
            return True
        return check.settings.tolerate is not self.settings.default.tolerate


def _is_wrapper(impl: Any) -> bool:
    return bool(impl.hookwrapper or impl.wrapper)


def uses_fixture(item: pytest.Item) -> bool:
    """Whether a test asks for the fixture `httpleak`."""
    return FIXTURE in getattr(item, "fixturenames", ())
