"""Markers on module, class, function and parameters, as merged for one test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.settings import (
    Mode,
    Pattern,
    RunSettings,
    add_options,
    default_settings,
    is_marked,
    marker_help,
    settings_for,
)

if TYPE_CHECKING:
    from pytest_httpleak.settings import Settings

RUN = RunSettings(
    mode=Mode.FAIL,
    default=default_settings(),
    reports=(),
    baseline=None,
    update_baseline=False,
    confirm=0,
    audit_fail=frozenset(),
    audit_off=False,
    strict_tolerances=False,
    github=False,
)
# The two plugins that are switched off collect garbage at the end of every inner run, which is most of its time.
HERMETIC = "-p no:cacheprovider -p no:unraisableexception -p no:threadexception --strict-markers"
Collect = Callable[..., dict[str, pytest.Item]]


class Probe:
    """What the plugin does with the marker, and no more."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        add_options(parser)

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", marker_help())


class Judge(Probe):
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            settings_for(item, RUN)


@pytest.fixture
def collect(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Collect:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.plugins = [Probe()]
    pytester.makeini(f"[pytest]\naddopts = {HERMETIC}\n")

    def items(source: str) -> dict[str, pytest.Item]:
        return {
            item.name: item for item in pytester.getitems("import pytest\nhttpleak = pytest.mark.httpleak\n" + source)
        }

    return items


def in_mode(mode: Mode) -> RunSettings:
    default = replace(default_settings(), mode=Mode.FAIL if mode is Mode.MARKED else mode)
    return replace(RUN, mode=mode, default=default)


def merged(collect: Collect, source: str, name: str = "test_it", run: RunSettings = RUN) -> Settings:
    return settings_for(collect(source)[name], run)


def complaint(collect: Collect, mark: str) -> str:
    with pytest.raises(pytest.UsageError) as caught:
        merged(collect, f"@{mark}\ndef test_it(): pass\n")
    return str(caught.value)


NESTED = """
pytestmark = httpleak(sockets=1, tasks=1, threads=1, grace=1, ignore="threads:module")

@httpleak(tasks=2, threads=2, ignore=["threads:class"])
class TestIt:
    @httpleak(threads=3, ignore=["threads:function"], reason="mine")
    def test_marked(self): pass

    def test_bare(self): pass

def test_alone(): pass
"""


def test_without_a_mark_the_default_itself_is_returned(collect: Collect) -> None:
    assert merged(collect, "def test_it(): pass") is RUN.default


def test_with_a_bare_mark_the_default_itself_is_returned(collect: Collect) -> None:
    assert merged(collect, "@httpleak\ndef test_it(): pass") is RUN.default


def test_without_a_mark_the_markers_are_asked_for_once_and_nothing_else_is(collect: Collect) -> None:
    class Item:
        asked = 0

        def iter_markers_with_node(self, name: str) -> list[object]:
            self.asked += 1
            return []

    item = Item()
    assert settings_for(item, RUN) is RUN.default  # type: ignore[arg-type]
    assert item.asked == 1


@pytest.mark.parametrize(
    ("source", "marked"),
    [
        ("def test_it(): pass", False),
        ('@pytest.mark.filterwarnings("error")\ndef test_it(): pass', False),
        ("@httpleak\ndef test_it(): pass", True),
        ('@pytest.mark.filterwarnings("error")\n@httpleak\ndef test_it(): pass', True),
        ("@httpleak\nclass TestIt:\n    def test_it(self): pass", True),
        ("pytestmark = httpleak\nclass TestIt:\n    def test_it(self): pass", True),
        ("@httpleak\nclass TestOther: pass\ndef test_it(): pass", False),
    ],
)
def test_a_test_is_marked_by_itself_its_classes_or_its_module(collect: Collect, source: str, marked: bool) -> None:
    assert is_marked(collect(source)["test_it"], {}) is marked


@pytest.mark.parametrize("found", [[], [pytest.mark.httpleak]])
def test_the_marks_around_tests_are_looked_for_once(found: list[object]) -> None:
    class Parent:
        asked = 0

        def iter_markers(self, name: str) -> list[object]:
            self.asked += 1
            return found

    class Item:
        own_markers = ()
        parent = Parent()

    parents: dict[int, bool] = {}
    assert [is_marked(Item(), parents) for _ in range(3)] == [bool(found)] * 3  # type: ignore[arg-type]
    assert Item.parent.asked == 1


def test_marks_merge_and_the_closest_wins_key_by_key(collect: Collect) -> None:
    settings = merged(collect, NESTED, "test_marked")
    assert settings.tolerate == {Kind.SOCKETS: 1, Kind.TASKS: 2, Kind.THREADS: 3}
    assert settings.grace == 1.0
    assert settings.reason == "mine"


def test_ignore_lists_add_up_from_the_module_inwards(collect: Collect) -> None:
    settings = merged(collect, NESTED, "test_marked")
    assert [pattern.glob for pattern in settings.ignore] == ["module", "class", "function"]


def test_a_mark_does_not_reach_the_neighbours(collect: Collect) -> None:
    items = collect(NESTED)
    assert settings_for(items["test_bare"], RUN).tolerate == {Kind.SOCKETS: 1, Kind.TASKS: 2, Kind.THREADS: 2}
    assert settings_for(items["test_alone"], RUN).tolerate == {Kind.SOCKETS: 1, Kind.TASKS: 1, Kind.THREADS: 1}


def test_marks_are_laid_over_the_default_of_the_run(collect: Collect) -> None:
    default = replace(
        RUN.default, tolerate={Kind.FDS: 5, Kind.TASKS: 5}, ignore=(Pattern(Kind.FDS, "ini"),), peaks={Kind.TASKS: 9}
    )
    settings = merged(
        collect,
        "@httpleak(tasks=1, ignore='fds:mark', peak_sockets=2)\ndef test_it(): pass",
        run=replace(RUN, default=default),
    )
    assert settings.tolerate == {Kind.FDS: 5, Kind.TASKS: 1}
    assert settings.peaks == {Kind.TASKS: 9, Kind.SOCKETS: 2}
    assert settings.ignore == (Pattern(Kind.FDS, "ini"), Pattern(Kind.FDS, "mark"))


def test_of_two_decorators_the_one_next_to_the_function_wins(collect: Collect) -> None:
    settings = merged(collect, "@httpleak(tasks=1, fds=1)\n@httpleak(tasks=2)\ndef test_it(): pass")
    assert settings.tolerate == {Kind.TASKS: 2, Kind.FDS: 1}


def test_the_marks_of_a_parameter_set_win_over_those_of_the_function(collect: Collect) -> None:
    source = """
@httpleak(tasks=1, fds=1)
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=httpleak(tasks=2))])
def test_it(n): pass
"""
    items = collect(source)
    assert settings_for(items["test_it[1]"], RUN).tolerate == {Kind.TASKS: 1, Kind.FDS: 1}
    assert settings_for(items["test_it[2]"], RUN).tolerate == {Kind.TASKS: 2, Kind.FDS: 1}


def test_one_mark_of_several_in_a_parameter_set_wins_over_those_of_the_function(collect: Collect) -> None:
    source = """
@httpleak(tasks=1, fds=1)
@pytest.mark.parametrize("n", [pytest.param(1, marks=[pytest.mark.filterwarnings("error"), httpleak(tasks=2)])])
def test_it(n): pass
"""
    assert merged(collect, source, "test_it[1]").tolerate == {Kind.TASKS: 2, Kind.FDS: 1}


@pytest.mark.parametrize("form", ["@httpleak({})\nclass {}:\n{}", "class {1}:\n    pytestmark = httpleak({0})\n{2}"])
def test_the_mark_of_a_class_wins_over_that_of_its_base(collect: Collect, form: str) -> None:
    source = (
        form.format("tasks=1, fds=1", "Base", "    pass\n")
        + "\n"
        + form.format("tasks=2", "TestIt(Base)", "    def test_it(self): pass\n")
    )
    assert merged(collect, source).tolerate == {Kind.TASKS: 2, Kind.FDS: 1}


def test_the_marks_of_a_class_win_over_those_of_its_base_for_parameters_too(collect: Collect) -> None:
    source = """
@httpleak(tasks=1, fds=1)
class Base: pass

@httpleak(threads=2)
@httpleak(tasks=2)
class TestIt(Base):
    @pytest.mark.parametrize("n", [1])
    def test_it(self, n): pass

    def test_plain(self): pass
"""
    items = collect(source)
    for name in ("test_it[1]", "test_plain"):
        assert settings_for(items[name], RUN).tolerate == {Kind.TASKS: 2, Kind.FDS: 1, Kind.THREADS: 2}


def test_a_mark_added_to_a_class_at_collection_lies_between_its_own_and_those_of_its_base(collect: Collect) -> None:
    source = """
@httpleak(tasks=1, fds=1)
class Base: pass

@httpleak(tasks=2)
class TestIt(Base):
    def test_it(self): pass
"""
    item = collect(source)["test_it"]
    parent = item.getparent(pytest.Class)
    assert parent is not None
    parent.add_marker(pytest.mark.httpleak(tasks=3, fds=3))
    assert settings_for(item, RUN).tolerate == {Kind.TASKS: 2, Kind.FDS: 3}


def test_a_mark_added_to_a_class_at_collection_is_merged_with_its_own(collect: Collect) -> None:
    item = collect("@httpleak(tasks=1)\nclass TestIt:\n    def test_it(self): pass")["test_it"]
    parent = item.getparent(pytest.Class)
    assert parent is not None
    parent.add_marker(pytest.mark.httpleak(fds=1))
    assert settings_for(item, RUN).tolerate == {Kind.TASKS: 1, Kind.FDS: 1}


@pytest.mark.parametrize(
    ("run_mode", "mark", "mode"),
    [
        (Mode.FAIL, "fail", Mode.FAIL),
        (Mode.FAIL, "warn", Mode.WARN),
        (Mode.FAIL, "off", Mode.OFF),
        (Mode.WARN, "fail", Mode.FAIL),
        (Mode.WARN, "warn", Mode.WARN),
        (Mode.WARN, "off", Mode.OFF),
        (Mode.MARKED, "fail", Mode.FAIL),
        (Mode.MARKED, "warn", Mode.WARN),
        (Mode.MARKED, "off", Mode.OFF),
        (Mode.OFF, "fail", Mode.OFF),
        (Mode.OFF, "warn", Mode.OFF),
        (Mode.OFF, "off", Mode.OFF),
    ],
)
def test_a_mark_chooses_its_mode_except_in_a_run_that_is_off(
    collect: Collect, run_mode: Mode, mark: str, mode: Mode
) -> None:
    assert merged(collect, f"@httpleak(mode={mark!r})\ndef test_it(): pass", run=in_mode(run_mode)).mode is mode


def test_a_closer_mark_turns_checking_on_again(collect: Collect) -> None:
    source = 'pytestmark = httpleak(mode="off", reason="legacy")\n@httpleak(mode="fail")\ndef test_it(): pass'
    settings = merged(collect, source)
    assert settings.mode is Mode.FAIL
    assert settings.reason == "legacy"


def test_a_misspelt_mark_is_inert_in_a_run_that_is_off(collect: Collect) -> None:
    run = in_mode(Mode.OFF)
    assert merged(collect, "@httpleak(socket=1)\ndef test_it(): pass", run=run) is run.default


def test_an_unknown_kind_is_a_usage_error_that_names_test_key_and_the_nearest(collect: Collect) -> None:
    assert complaint(collect, "httpleak(socket=1)") == (
        "test_an_unknown_kind_is_a_usage_error_that_names_test_key_and_the_nearest.py::test_it: "
        "httpleak marker got an unknown kind 'socket'; did you mean 'sockets'? "
        "Valid kinds: responses, clients, connections, loops, tasks, threads, sockets, fds"
    )


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("httpleak(sockets=-1)", "key 'sockets': -1 is not a whole number, 0 or more"),
        ("httpleak(sockets=True)", "key 'sockets': True is not a whole number, 0 or more"),
        ("httpleak(grace='1')", "key 'grace': '1' is not a number of seconds, 0 or more"),
        ("httpleak(ignore='worker')", "key 'ignore': unusable pattern 'worker'; write a kind and a glob"),
        ("httpleak(mode='marked')", "key 'mode': unknown mode 'marked'. Valid modes: fail, warn, off"),
        ("httpleak('responses')", "takes keys only, as in httpleak(sockets=1); it got 'responses'"),
        ("httpleak('responses', 'sockets')", "takes keys only, as in httpleak(sockets=1); it got 'responses'"),
        ("httpleak(1, sockets=1)", "takes keys only, as in httpleak(sockets=1); it got 1"),
    ],
)
def test_a_mark_that_cannot_be_used_is_a_usage_error(collect: Collect, mark: str, message: str) -> None:
    assert f".py::test_it: httpleak marker {message}" in complaint(collect, mark)


def test_a_wrong_mark_on_the_module_names_the_test(collect: Collect) -> None:
    with pytest.raises(pytest.UsageError, match=r"\.py::test_it: httpleak marker got an unknown key 'zzz'"):
        merged(collect, "pytestmark = httpleak(zzz=1)\ndef test_it(): pass")


def test_a_wrong_mark_ends_the_run_with_a_usage_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_a="import pytest\n@pytest.mark.httpleak(socket=1)\ndef test_b(): pass")
    result = pytester.runpytest_inprocess(*HERMETIC.split(), plugins=[Judge()])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: test_a.py::test_b: httpleak marker got an unknown kind 'socket'; did you mean*"]
    )


def test_a_right_mark_lets_the_run_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_a="import pytest\n@pytest.mark.httpleak(sockets=1)\ndef test_b(): pass")
    result = pytester.runpytest_inprocess(*HERMETIC.split(), plugins=[Judge()])
    result.assert_outcomes(passed=1)


def test_pytest_shows_the_marker_help(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--markers", plugins=[Probe()])
    result.stdout.fnmatch_lines(["@pytest.mark.httpleak(responses=N, *): check this test for leaked HTTP resources.*"])
