"""Command line, `-p httpleak` and ini file, as joined for one run of a real pytest configuration."""

from __future__ import annotations

import errno
import fnmatch
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.settings import (
    Mode,
    Pattern,
    RunSettings,
    add_options,
    default_settings,
    option_table,
    read_run_settings,
)
from pytest_httpleak.settings.values import AUDIT_NAMES

Configure = Callable[..., pytest.Config]


class Probe:
    """What the plugin does with its options, and no more; its name is not the plugin's."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        add_options(parser)


class Reader(Probe):
    def pytest_configure(self, config: pytest.Config) -> None:
        read_run_settings(config)

    def pytest_report_header(self, config: pytest.Config) -> str:
        return f"mode: {read_run_settings(config).mode}"


@pytest.fixture
def configure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Configure:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    pytester.plugins = [Probe()]
    # A stand-in for what `-p httpleak` finds, also where the plugin is installed: here only options are looked at.
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: [])
    pytester.makepyfile(httpleak="")
    pytester.syspathinsert()

    def configuration(*args: str, ini: str = "", name: str = "pytest.ini", section: str = "[pytest]") -> pytest.Config:
        if ini:
            (pytester.path / name).write_text(f"{section}\n{ini}\n", encoding="utf-8")
        return pytester.parseconfig("-p", "no:cacheprovider", *args)

    return configuration


def complaint(config: pytest.Config) -> str:
    with pytest.raises(pytest.UsageError) as caught:
        read_run_settings(config)
    return str(caught.value)


# -- which mode --------------------------------------------------------------------------------------------------------


def test_a_plugin_that_is_only_installed_checks_marked_tests_and_fails_them(configure: Configure) -> None:
    settings = read_run_settings(configure())
    assert settings.mode is Mode.MARKED
    assert settings.default.mode is Mode.FAIL


def test_a_run_in_which_nothing_is_set_has_the_defaults(configure: Configure) -> None:
    assert read_run_settings(configure()) == RunSettings(
        mode=Mode.MARKED,
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


def test_what_is_not_given_on_the_command_line_is_unset_there(configure: Configure) -> None:
    flags = [row.name.partition("=")[0] for row in option_table() if row.where == "command line"]
    config = configure("--httpleak-update-baseline")
    assert [flag for flag in flags if config.getoption(flag) is not None] == ["--httpleak-update-baseline"]
    config = configure()
    assert [flag for flag in flags if config.getoption(flag) is not None] == []


@pytest.mark.parametrize("mode", ["fail", "warn", "off"])
@pytest.mark.parametrize(("args", "ini"), [("--httpleak={}", ""), ("", "httpleak = {}"), ("-ohttpleak={}", "")])
def test_each_place_chooses_the_mode(configure: Configure, args: str, ini: str, mode: str) -> None:
    settings = read_run_settings(configure(*filter(None, [args.format(mode)]), ini=ini.format(mode)))
    assert settings.mode is Mode(mode)
    assert settings.default.mode is Mode(mode)


@pytest.mark.parametrize(
    ("args", "ini", "mode"),
    [
        (["--httpleak=warn"], "httpleak = off", Mode.WARN),
        (["--httpleak=off"], "httpleak = fail", Mode.OFF),
        (["--httpleak=warn", "-p", "httpleak"], "", Mode.WARN),
        (["-p", "httpleak", "--httpleak=off"], "httpleak = fail", Mode.OFF),
        (["-p", "httpleak"], "", Mode.FAIL),
        (["-p", "httpleak"], "httpleak = warn", Mode.FAIL),
        (["-p", "httpleak"], "httpleak = off", Mode.FAIL),
        ([], "addopts = -p httpleak", Mode.FAIL),
        ([], "addopts = -p httpleak\nhttpleak = warn", Mode.FAIL),
        ([], "addopts = --httpleak=warn\nhttpleak = off", Mode.WARN),
        (["--httpleak=off"], "addopts = --httpleak=warn", Mode.OFF),
        (["-p", "no:httpleak"], "httpleak = warn", Mode.WARN),
        (["-o", "httpleak=off"], "httpleak = warn", Mode.OFF),
        (["-o", "httpleak="], "httpleak = warn", Mode.MARKED),
    ],
)
def test_the_closer_place_wins(configure: Configure, args: list[str], ini: str, mode: Mode) -> None:
    assert read_run_settings(configure(*args, ini=ini)).mode is mode


def test_a_bad_mode_in_the_ini_file_is_told_where_the_plugin_is_named_too(configure: Configure) -> None:
    with pytest.raises(pytest.UsageError, match="httpleak: unknown mode 'yes'"):
        read_run_settings(configure("-p", "httpleak", ini="httpleak = yes"))


def test_the_environment_may_name_the_plugin(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p httpleak")
    assert read_run_settings(configure(ini="httpleak = off")).mode is Mode.FAIL


def test_the_environment_loses_to_the_command_line(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--httpleak=fail")
    assert read_run_settings(configure("--httpleak=warn")).mode is Mode.WARN


@pytest.mark.parametrize("name", ["pytest_httpleak", "pytest_httpleak.plugin"])
def test_the_plugin_may_be_named_by_its_modules(configure: Configure, name: str) -> None:
    config = configure()
    config.option.plugins = [*config.option.plugins, name]
    assert read_run_settings(config).mode is Mode.FAIL


def test_another_plugin_of_a_like_name_chooses_nothing(configure: Configure, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(httpleaks="")
    assert read_run_settings(configure("-p", "httpleaks")).mode is Mode.MARKED


# -- what a wrong value is told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("--httpleak=fial", "--httpleak: unknown mode 'fial'; did you mean 'fail'? Valid modes: fail, warn, off"),
        ("--httpleak=marked", "--httpleak: unknown mode 'marked'. Valid modes: fail, warn, off"),
        ("--httpleak=", "--httpleak: unknown mode ''. Valid modes: fail, warn, off"),
        (
            "--httpleak-kinds=responses,socket",
            (
                "--httpleak-kinds: unknown kind 'socket'; did you mean 'sockets'? "
                "Valid kinds: responses, clients, connections, loops, tasks, threads, sockets, fds"
            ),
        ),
        (
            "--httpleak-kinds=,",
            (
                "--httpleak-kinds: no kind is named. "
                "Valid kinds: responses, clients, connections, loops, tasks, threads, sockets, fds"
            ),
        ),
        ("--httpleak-report=", "--httpleak-report: the path is empty"),
        ("--httpleak-baseline= ", "--httpleak-baseline: the path is empty"),
        (
            "--httpleak-report=out.txt",
            (
                "--httpleak-report: 'out.txt': unknown report form '.txt'. "
                "Valid report forms: .json, .html, .sarif, .md, .prom"
            ),
        ),
        (
            "--httpleak-report=out.jsn",
            (
                "--httpleak-report: 'out.jsn': unknown report form '.jsn'; did you mean '.json'? "
                "Valid report forms: .json, .html, .sarif, .md, .prom"
            ),
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_the_choices(configure: Configure, arg: str, message: str) -> None:
    assert complaint(configure(arg)) == message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("httpleak", "fial", "unknown mode 'fial'; did you mean 'fail'? Valid modes: fail, warn, off"),
        ("httpleak_grace", "soon", "'soon' is not a number of seconds, 0 or more"),
        ("httpleak_confirm", "two", "'two' is not a whole number, 0 or more"),
        ("httpleak_peak_connections", "-1", "'-1' is not a whole number, 0 or more"),
        ("httpleak_max_clients", "1.5", "'1.5' is not a whole number, 0 or more"),
        ("httpleak_report", "out.txt", "'out.txt': unknown report form '.txt'. Valid report forms: "),
        ("httpleak_ignore", "thread:x", "unusable pattern 'thread:x': unknown kind 'thread'; did you mean 'threads'?"),
        ("httpleak_tolerate", "socket=1", "unknown kind 'socket'; did you mean 'sockets'? Valid kinds: responses, "),
        (
            "httpleak_tolerate",
            "peak_task=1",
            "unknown key 'peak_task'; did you mean 'peak_tasks'? Valid keys: responses",
        ),
        ("httpleak_tolerate", "zzz=1", "unknown key 'zzz'. Valid keys: responses, clients, "),
        ("httpleak_tolerate", "sockets", "'sockets' has no number; write sockets=1"),
        ("httpleak_tolerate", "sockets=", "'sockets': '' is not a whole number, 0 or more"),
        ("httpleak_tolerate", "sockets=-1", "'sockets': '-1' is not a whole number, 0 or more"),
        ("httpleak_tolerate", "sockets=1 sockets=2", "'sockets' is given twice"),
        (
            "httpleak_audit",
            "no-timeouts",
            "unknown audit name 'no-timeouts'; did you mean 'no-timeout'? Valid audit names: ",
        ),
        (
            "httpleak_audit",
            "infrom",
            "unknown audit name 'infrom'; did you mean 'inform'? Valid audit names: off, inform, fail, no-timeout, ",
        ),
        ("httpleak_audit", "fail no-timeout", "'fail' stands alone; it cannot be combined with other words"),
    ],
)
def test_a_wrong_ini_value_is_named_with_file_and_key(
    configure: Configure, pytester: pytest.Pytester, key: str, value: str, message: str
) -> None:
    told = complaint(configure(ini=f"{key} = {value}"))
    assert told.startswith(f"{pytester.path / 'pytest.ini'}: {key}: {message}")


@pytest.mark.parametrize("key", ["httpleak_github", "httpleak_strict_tolerances"])
def test_a_truth_that_is_none_is_named_with_file_and_key(
    configure: Configure, pytester: pytest.Pytester, key: str
) -> None:
    told = complaint(configure(ini=f"{key} = maybe"))
    assert told.startswith(f"{pytester.path / 'pytest.ini'}: {key}: ")
    assert "'maybe'" in told


def test_a_wrong_value_given_with_o_is_not_blamed_on_the_file(configure: Configure) -> None:
    told = complaint(configure("-o", "httpleak_grace=soon", ini="httpleak_grace = 1"))
    assert told == "-o httpleak_grace: 'soon' is not a number of seconds, 0 or more"


def test_a_wrong_value_of_the_file_is_not_blamed_on_an_o_that_pytest_takes_for_another_key(
    configure: Configure, pytester: pytest.Pytester
) -> None:
    told = complaint(configure("-o", "httpleak_grace =1", ini="httpleak_grace = soon"))
    assert told.startswith(f"{pytester.path / 'pytest.ini'}: httpleak_grace: 'soon' is not a number")


def test_a_wrong_mode_is_not_hidden_by_the_name_of_the_plugin(configure: Configure) -> None:
    assert complaint(configure("-p", "httpleak", "--httpleak=fial")).startswith("--httpleak: unknown mode 'fial'")


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_what_pytest_refuses_to_read_is_a_usage_error_with_its_place(
    configure: Configure, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    config = configure(ini="httpleak_grace = 1")

    def refuse(name: str) -> object:
        raise error(f"{name} expects a string")

    with monkeypatch.context() as patch:
        patch.setattr(config, "getini", refuse)
        told = complaint(config)
    assert told == f"{pytester.path / 'pytest.ini'}: httpleak: httpleak expects a string"


def test_a_wrong_value_ends_the_run_with_a_usage_error(configure: Configure, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--httpleak=fial", plugins=[Reader()])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --httpleak: unknown mode 'fial'; did you mean 'fail'?*"])


def test_a_right_value_lets_the_run_go_on(configure: Configure, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--httpleak=warn", plugins=[Reader()])
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["mode: warn"])


# -- numbers and lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "grace"),
    [("0", 0.0), ("2", 2.0), ("0.25", 0.25), (".5", 0.5), ("1.", 1.0), ("1e-2", 0.01), ("1E+1", 10.0)],
)
@pytest.mark.parametrize("place", ["option", "ini"])
def test_grace_is_a_number_of_seconds(configure: Configure, place: str, text: str, grace: float) -> None:
    args, ini = ([f"--httpleak-grace={text}"], "") if place == "option" else ([], f"httpleak_grace = {text}")
    assert read_run_settings(configure(*args, ini=ini)).default.grace == grace


@pytest.mark.parametrize(
    "text", ["-1", "+1", "nan", "inf", "Infinity", "1e999", "1_0", "0,5", "½", "\u0661", "soon", "", " 1", "1s"]
)
def test_grace_that_is_no_finite_number_is_refused(configure: Configure, text: str) -> None:
    assert complaint(configure(f"--httpleak-grace={text}")).startswith("--httpleak-grace: ")


@pytest.mark.parametrize("text", ["1.2.3", "1e", ".", "+1"])
def test_grace_that_only_looks_like_a_number_is_named_as_it_was_written(configure: Configure, text: str) -> None:
    told = complaint(configure(f"--httpleak-grace={text}"))
    assert told == f"--httpleak-grace: {text!r} is not a number of seconds, 0 or more"


def test_the_option_for_grace_wins_over_the_ini_file(configure: Configure) -> None:
    assert read_run_settings(configure("--httpleak-grace=0", ini="httpleak_grace = 2")).default.grace == 0.0


@pytest.mark.parametrize(("text", "confirm"), [("0", 0), ("1", 1), ("007", 7), ("9" * 18, int("9" * 18))])
@pytest.mark.parametrize("place", ["option", "ini"])
def test_confirm_is_a_whole_number(configure: Configure, place: str, text: str, confirm: int) -> None:
    args, ini = ([f"--httpleak-confirm={text}"], "") if place == "option" else ([], f"httpleak_confirm = {text}")
    assert read_run_settings(configure(*args, ini=ini)).confirm == confirm


@pytest.mark.parametrize("text", ["-1", "1.0", "1_0", "+1", "²", "", "9" * 19, "9" * 5000])
def test_confirm_that_is_no_whole_number_is_refused(configure: Configure, text: str) -> None:
    told = complaint(configure(f"--httpleak-confirm={text}"))
    assert told == f"--httpleak-confirm: {text!r} is not a whole number, 0 or more"


def test_the_option_for_confirm_wins_over_the_ini_file(configure: Configure) -> None:
    assert read_run_settings(configure("--httpleak-confirm=0", ini="httpleak_confirm = 2")).confirm == 0


@pytest.mark.parametrize("text", ["tasks,fds", "tasks, fds", "tasks fds", "fds,tasks,fds,"])
@pytest.mark.parametrize("place", ["option", "ini"])
def test_kinds_are_separated_by_commas_or_blanks(configure: Configure, place: str, text: str) -> None:
    args, ini = ([f"--httpleak-kinds={text}"], "") if place == "option" else ([], f"httpleak_kinds = {text}")
    kinds = read_run_settings(configure(*args, ini=ini)).default.kinds
    assert kinds == {Kind.TASKS, Kind.FDS}
    assert {type(kind) for kind in kinds} == {Kind}


def test_kinds_may_stand_on_lines_of_their_own(configure: Configure) -> None:
    assert read_run_settings(configure(ini="httpleak_kinds =\n  tasks\n  fds")).default.kinds == {Kind.TASKS, Kind.FDS}


def test_an_empty_ini_value_counts_as_unset(configure: Configure) -> None:
    ini = "\n".join(f"httpleak{key} =" for key in ("", "_kinds", "_grace", "_report", "_baseline", "_audit"))
    assert read_run_settings(configure(ini=ini)) == read_run_settings(configure("-c", os.devnull))


@pytest.mark.parametrize("text", ["responses=1 threads=2", "responses=1,threads=2", "responses = 1\n  threads = 2"])
def test_tolerances_of_the_run_are_read_by_kind(configure: Configure, text: str) -> None:
    settings = read_run_settings(configure(ini=f"httpleak_tolerate = {text}"))
    assert settings.default.tolerate == {Kind.RESPONSES: 1, Kind.THREADS: 2}


def test_tolerances_may_hold_limits_too(configure: Configure) -> None:
    default = read_run_settings(configure(ini="httpleak_tolerate = fds=3 peak_tasks=50 max_clients=1")).default
    assert default.tolerate == {Kind.FDS: 3}
    assert default.peaks == {Kind.TASKS: 50}
    assert default.max_clients == 1


@pytest.mark.parametrize("kind", [Kind.RESPONSES, Kind.CONNECTIONS, Kind.SOCKETS, Kind.TASKS, Kind.THREADS])
def test_each_limit_has_an_ini_key_of_its_own(configure: Configure, kind: Kind) -> None:
    assert read_run_settings(configure(ini=f"httpleak_peak_{kind.value} = 7")).default.peaks == {kind: 7}


def test_the_number_of_clients_has_an_ini_key_of_its_own(configure: Configure) -> None:
    assert read_run_settings(configure(ini="httpleak_max_clients = 0")).default.max_clients == 0


def test_the_key_of_its_own_wins_over_the_line_of_tolerances(configure: Configure) -> None:
    default = read_run_settings(configure(ini="httpleak_tolerate = peak_tasks=1\nhttpleak_peak_tasks = 2")).default
    assert default.peaks == {Kind.TASKS: 2}


def test_ignore_patterns_stand_on_lines_of_their_own(configure: Configure) -> None:
    default = read_run_settings(configure(ini="httpleak_ignore =\n  threads:a b\n  created:*/c/*\n")).default
    assert default.ignore == (Pattern(Kind.THREADS, "a b"), Pattern(None, "*/c/*"))


@pytest.mark.parametrize(
    ("text", "fail", "is_off"),
    [
        ("off", [], True),
        ("inform", [], False),
        ("fail", AUDIT_NAMES, False),
        ("no-timeout", ["no-timeout"], False),
        ("no-timeout, pool-overflow", ["no-timeout", "pool-overflow"], False),
        ("no-timeout\n  pool-overflow", ["no-timeout", "pool-overflow"], False),
    ],
)
def test_audit_notes_inform_fail_or_are_off(configure: Configure, text: str, fail: list[str], is_off: bool) -> None:
    settings = read_run_settings(configure(ini=f"httpleak_audit = {text}"))
    assert settings.audit_fail == set(fail)
    assert settings.audit_off is is_off


@pytest.mark.parametrize(
    ("text", "is_strict"), [("true", True), ("Yes", True), ("1", True), ("false", False), ("off", False)]
)
def test_tolerances_are_strict_on_demand(configure: Configure, text: str, is_strict: bool) -> None:
    assert read_run_settings(configure(ini=f"httpleak_strict_tolerances = {text}")).strict_tolerances is is_strict


@pytest.mark.parametrize(
    ("environment", "ini", "is_github"),
    [
        (None, "", False),
        ("true", "", True),
        ("1", "httpleak_github = true", True),
        ("true", "httpleak_github = false", False),
        (None, "httpleak_github = true", False),
        ("", "", False),
        ("false", "", False),
    ],
)
def test_annotations_are_for_runs_at_github_that_want_them(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, environment: str | None, ini: str, is_github: bool
) -> None:
    config = configure(ini=ini)
    if environment is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", environment)
    assert read_run_settings(config).github is is_github


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".html", ".sarif", ".md", ".prom"])
def test_a_report_may_have_each_suffix(configure: Configure, pytester: pytest.Pytester, suffix: str) -> None:
    settings = read_run_settings(configure(f"--httpleak-report=out{suffix}"))
    assert settings.reports == (pytester.path / f"out{suffix}",)


@pytest.mark.parametrize("name", ["out", ".json", "out.json.gz", "out.JSON", "json"])
def test_a_report_of_another_suffix_is_refused(configure: Configure, name: str) -> None:
    assert f"--httpleak-report: {name!r}: unknown report form" in complaint(configure(f"--httpleak-report={name}"))


def test_several_reports_are_kept_in_order_and_each_once(configure: Configure, pytester: pytest.Pytester) -> None:
    args = [f"--httpleak-report={name}" for name in ("b.md", "new/a.json", "b.md")]
    assert read_run_settings(configure(*args)).reports == (pytester.path / "b.md", pytester.path / "new" / "a.json")


def test_reports_of_the_command_line_replace_those_of_the_ini_file(
    configure: Configure, pytester: pytest.Pytester
) -> None:
    config = configure("--httpleak-report=cli.md", ini="httpleak_report =\n  one.json\n  two.json")
    assert read_run_settings(config).reports == (pytester.path / "cli.md",)


def test_paths_in_the_ini_file_start_from_its_folder_and_options_from_the_current_one(
    configure: Configure, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    ini = "httpleak_report =\n  out/one.json\n  two.md\nhttpleak_baseline = known.json"
    (pytester.path / "pytest.ini").write_text(f"[pytest]\n{ini}\n", encoding="utf-8")
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)
    settings = read_run_settings(configure("--httpleak-baseline=mine.json"))
    assert settings.reports == (pytester.path / "out" / "one.json", pytester.path / "two.md")
    assert settings.baseline == below / "mine.json"


def test_a_path_given_with_o_where_there_is_no_file_starts_from_the_current_folder(
    configure: Configure, pytester: pytest.Pytester
) -> None:
    config = configure("-o", "httpleak_baseline=known.json")
    assert config.inipath is None
    assert read_run_settings(config).baseline == pytester.path / "known.json"


def test_an_absolute_path_stays(configure: Configure, tmp_path: Path) -> None:
    assert read_run_settings(configure(f"--httpleak-report={tmp_path / 'a.md'}")).reports == (tmp_path / "a.md",)


def test_a_path_from_home_is_expanded(configure: Configure) -> None:
    assert read_run_settings(configure("--httpleak-report=~/a.md")).reports == (Path.home() / "a.md",)


def test_a_home_of_nobody_is_refused(configure: Configure) -> None:
    told = complaint(configure("--httpleak-report=~nobody-of-this-name/a.md"))
    assert told.startswith("--httpleak-report: '~nobody-of-this-name/a.md': ")


@pytest.mark.parametrize("option", ["report", "baseline"])
def test_a_file_that_exists_may_be_written_over(configure: Configure, pytester: pytest.Pytester, option: str) -> None:
    (pytester.path / "old.json").touch()
    settings = read_run_settings(configure(f"--httpleak-{option}=old.json"))
    assert [*settings.reports, settings.baseline][0] == pytester.path / "old.json"


@pytest.mark.parametrize("option", ["report", "baseline"])
def test_a_directory_in_place_of_the_file_is_refused(
    configure: Configure, pytester: pytest.Pytester, option: str
) -> None:
    path = pytester.mkdir("a.json")
    told = complaint(configure(f"--httpleak-{option}=a.json"))
    assert told == f"--httpleak-{option}: {str(path)!r} cannot be a file: it is a directory"


@pytest.mark.parametrize("option", ["report", "baseline"])
@pytest.mark.parametrize("name", ["file/a.json", "file/new/a.json"])
def test_a_file_in_place_of_a_directory_is_refused(
    configure: Configure, pytester: pytest.Pytester, option: str, name: str
) -> None:
    (pytester.path / "file").touch()
    told = complaint(configure(f"--httpleak-{option}={name}"))
    folder = f"{str(pytester.path / 'file')!r} is not a directory"
    assert told == f"--httpleak-{option}: {str(pytester.path / name)!r} cannot be a file: {folder}"


def test_a_path_that_the_system_refuses_is_a_usage_error(configure: Configure) -> None:
    told = complaint(configure(f"--httpleak-report={'x' * 5000}.json"))
    assert told.endswith(f"cannot be a file: {os.strerror(errno.ENAMETOOLONG)}")


def test_a_path_on_a_drive_that_does_not_exist_is_refused(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("--httpleak-report=a.json")

    def missing(path: Path) -> object:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", missing)
        told = complaint(config)
    assert told.endswith("cannot be a file: its drive does not exist")


@pytest.mark.parametrize("ini", ["", "httpleak_baseline ="])
def test_updating_a_baseline_without_a_path_is_refused(configure: Configure, ini: str) -> None:
    assert complaint(configure("--httpleak-update-baseline", ini=ini)) == (
        "--httpleak-update-baseline needs a file to write: "
        "add --httpleak-baseline=PATH or set httpleak_baseline in the ini file"
    )


@pytest.mark.parametrize(
    ("args", "ini"), [(["--httpleak-baseline=known.json"], ""), ([], "httpleak_baseline = known.json")]
)
def test_updating_a_baseline_with_a_path_is_fine(
    configure: Configure, pytester: pytest.Pytester, args: list[str], ini: str
) -> None:
    settings = read_run_settings(configure("--httpleak-update-baseline", *args, ini=ini))
    assert settings.update_baseline is True
    assert settings.baseline == pytester.path / "known.json"


# -- where pytest reads from -------------------------------------------------------------------------------------------


def test_pyproject_may_hold_lists(configure: Configure) -> None:
    ini = (
        'httpleak = "warn"\nhttpleak_kinds = ["tasks", "fds"]\nhttpleak_tolerate = ["fds=1"]\nhttpleak_grace = 2\n'
        'httpleak_github = false\nhttpleak_confirm = 3\nhttpleak_audit = ["no-timeout", "pool-overflow"]'
    )
    settings = read_run_settings(configure(ini=ini, name="pyproject.toml", section="[tool.pytest.ini_options]"))
    assert settings.mode is Mode.WARN
    assert settings.default.kinds == {Kind.TASKS, Kind.FDS}
    assert settings.default.tolerate == {Kind.FDS: 1}
    assert settings.default.grace == 2.0
    assert settings.confirm == 3
    assert settings.audit_fail == {"no-timeout", "pool-overflow"}


def test_a_wrong_value_in_pyproject_names_it(configure: Configure, pytester: pytest.Pytester) -> None:
    config = configure(ini='httpleak = "on"', name="pyproject.toml", section="[tool.pytest.ini_options]")
    assert complaint(config).startswith(f"{pytester.path / 'pyproject.toml'}: httpleak: unknown mode 'on'")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("httpleak_kinds", "unknown kind '1'. Valid kinds: "),
        ("httpleak_tolerate", "unknown key '1'. Valid keys: "),
        ("httpleak_ignore", "[1] is not a list of patterns"),
        ("httpleak_report", "1 is not a text"),
        ("httpleak_audit", "unknown audit name '1'. Valid audit names: "),
    ],
)
def test_a_list_in_pyproject_that_holds_no_text_is_named_with_file_and_key(
    configure: Configure, pytester: pytest.Pytester, key: str, message: str
) -> None:
    config = configure(ini=f"{key} = [1]", name="pyproject.toml", section="[tool.pytest.ini_options]")
    assert complaint(config).startswith(f"{pytester.path / 'pyproject.toml'}: {key}: {message}")


@pytest.mark.skipif(pytest.version_tuple < (9, 2), reason="TOML values of more than one type came with pytest 9.2")
@pytest.mark.parametrize(
    ("grace", "confirm", "strict"), [("0.25", "3", "true"), ('"0.25"', '"3"', '"yes"')], ids=["native", "text"]
)
def test_toml_may_hold_native_values_or_texts(configure: Configure, grace: str, confirm: str, strict: str) -> None:
    ini = f"httpleak_grace = {grace}\nhttpleak_confirm = {confirm}\nhttpleak_strict_tolerances = {strict}"
    settings = read_run_settings(configure(ini=ini, name="pytest.toml"))
    assert settings.default.grace == 0.25
    assert settings.confirm == 3
    assert settings.strict_tolerances is True


@pytest.mark.skipif(pytest.version_tuple < (9, 2), reason="TOML values of more than one type came with pytest 9.2")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("httpleak_grace = -1.5", "-1.5 is not a number of seconds, 0 or more"),
        ("httpleak_grace = nan", "nan is not a number of seconds, 0 or more"),
        ("httpleak_confirm = -1", "-1 is not a whole number, 0 or more"),
    ],
)
def test_a_native_value_out_of_range_is_named_with_file_and_key(
    configure: Configure, pytester: pytest.Pytester, line: str, message: str
) -> None:
    key = line.partition(" ")[0]
    told = complaint(configure(ini=line, name="pytest.toml"))
    assert told == f"{pytester.path / 'pytest.toml'}: {key}: {message}"


@pytest.mark.parametrize("args", [["--httpleak=warn"], ["-p", "httpleak"]])
def test_workers_read_the_same_mode(configure: Configure, pytester: pytest.Pytester, args: list[str]) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        probe="""
            import contextlib
            from pytest_httpleak.settings import add_options

            def pytest_addoption(parser):
                # Where the plugin is installed, `-p httpleak` finds it, and it has declared them already.
                with contextlib.suppress(ValueError):
                    add_options(parser)
        """,
        test_it="""
            import pytest
            from pytest_httpleak.settings import read_run_settings

            def test_mode(request):
                config = request.config
                assert hasattr(config, "workerinput")
                print("mode:", read_run_settings(config).mode)
        """,
    )
    expected = read_run_settings(configure(*args)).mode
    pytester.plugins = []  # a process of its own is given them by name
    result = pytester.runpytest_subprocess(*args, "-p", "probe", "-p", "xdist", "-n1", "-p", "no:cacheprovider", "-rP")
    result.stdout.fnmatch_lines([f"mode: {expected}"])
    result.assert_outcomes(passed=1)


def test_pytest_help_lists_the_options_and_ini_keys(configure: Configure, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--help", plugins=[Probe()])
    result.stdout.fnmatch_lines(
        [
            "leaked HTTP resources (pytest-httpleak):",
            "*--httpleak={fail,warn,off}*",
            "*--httpleak-report=PATH*",
            "*--httpleak-update-baseline*",
            "*--httpleak-kinds=KIND,...*",
            "*httpleak (string*",
            "*httpleak_tolerate (linelist)*",
            "*httpleak_peak_connections (string*",
        ]
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("--httpleak-grace", "seconds to wait for what looks leaked to settle*(default: 0.5)*"),
        ("--httpleak-baseline", "leaks recorded in this file are reported as known and do not fail; new ones do --"),
    ],
)
def test_pytest_help_says_what_an_option_does_and_its_default_if_it_has_one(
    configure: Configure, pytester: pytest.Pytester, name: str, text: str
) -> None:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--help", plugins=[Probe()])
    shown = " ".join(result.stdout.str().partition("leaked HTTP resources")[2].split())
    assert fnmatch.fnmatch(shown, f"*{name}=* {text}*")
