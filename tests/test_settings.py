"""Patterns, marker keys given at run time, and the table of options."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.settings import (
    Mode,
    Pattern,
    Settings,
    add_options,
    default_settings,
    marker_help,
    option_table,
    settings_from_keywords,
)
from pytest_httpleak.settings.values import LIMIT_KEYS, REPORT_SUFFIXES, TRUTH

if TYPE_CHECKING:
    from pytest_httpleak.settings import OptionRow

PLACE = "httpleak.tolerate()"


def settings(**keywords: object) -> Settings:
    return settings_from_keywords(default_settings(), keywords, PLACE)


def complaint(**keywords: object) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        settings(**keywords)
    return str(caught.value)


# -- patterns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "glob"),
    [
        ("threads:worker-*", Kind.THREADS, "worker-*"),
        ("fds:/var/log/*", Kind.FDS, "/var/log/*"),
        ("created:*/vendored/*", None, "*/vendored/*"),
        ("connections:http://127.0.0.1:*", Kind.CONNECTIONS, "http://127.0.0.1:*"),
        ("  tasks : heartbeat* ", Kind.TASKS, "heartbeat*"),
        ("sockets:?", Kind.SOCKETS, "?"),
    ],
)
def test_a_pattern_is_a_kind_or_created_and_a_glob(text: str, kind: Kind | None, glob: str) -> None:
    assert Pattern.parse(text) == Pattern(kind, glob)


@pytest.mark.parametrize("text", ["", ":", "threads", "threads:", "threads:  ", "worker-*"])
def test_a_pattern_without_kind_or_glob_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="unusable pattern") as caught:
        Pattern.parse(text)
    assert repr(text) in str(caught.value)
    assert "'threads:worker-*'" in str(caught.value)


@pytest.mark.parametrize(("text", "near"), [("thread:x", "threads"), ("create:x", "created"), ("FDS:x", "fds")])
def test_a_pattern_of_an_unknown_kind_is_refused_with_the_nearest_one(text: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"^unusable pattern '{text}': unknown kind .*; did you mean '{near}'"):
        Pattern.parse(text)


def test_a_pattern_of_a_kind_like_no_other_is_refused_with_all_kinds() -> None:
    with pytest.raises(ValueError, match=r"unknown kind ''\. Valid kinds: responses, clients, .*, created$"):
        Pattern.parse(":x")


@pytest.mark.parametrize("text", ["threads:worker-*", "created:*/vendored/*"])
def test_a_pattern_reads_as_it_was_written(text: str) -> None:
    assert str(Pattern.parse(text)) == text


def test_patterns_are_equal_to_patterns_of_the_same_words_alone() -> None:
    pattern = Pattern.parse("threads:worker-*")
    assert pattern == Pattern(Kind.THREADS, "worker-*")
    for other in (Pattern(Kind.TASKS, "worker-*"), Pattern(Kind.THREADS, "*"), "threads:worker-*"):
        assert pattern != other


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("threads:worker-*", True),
        ("threads:*", True),
        ("threads:second", True),
        ("threads:worker", False),
        ("threads:Worker-*", False),
        ("tasks:worker-*", False),
        ("created:*/vendored/*", True),
        ("created:app/vendored/pool.py", True),
        ("created:vendored/*", False),
        ("created:worker-*", False),
        ("threads:*/vendored/*", False),
    ],
)
def test_a_pattern_matches_any_name_of_its_kind_or_any_file_of_the_stack(text: str, is_match: bool) -> None:
    names = ("worker-1", "second")
    files = ("/home/me/app/vendored/pool.py", "app/vendored/pool.py", "tests/test_a.py")
    assert Pattern.parse(text).matches(Kind.THREADS, names, files) is is_match


@pytest.mark.parametrize("text", ["threads:*", "created:*"])
def test_a_pattern_matches_nothing_where_there_are_no_names_and_no_files(text: str) -> None:
    assert not Pattern.parse(text).matches(Kind.THREADS, (), ())


# -- the default -------------------------------------------------------------------------------------------------------


def test_by_default_every_kind_is_checked_and_a_leak_fails() -> None:
    assert default_settings() == Settings(
        mode=Mode.FAIL,
        tolerate={},
        ignore=(),
        grace=0.5,
        kinds=frozenset(Kind),
        peaks={},
        max_clients=None,
        reason=None,
    )


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        default_settings().grace = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings(sockets=1).tolerate[Kind.SOCKETS] = 2  # type: ignore[index]


# -- keys --------------------------------------------------------------------------------------------------------------


def test_no_keys_leave_the_base_itself() -> None:
    base = default_settings()
    assert settings_from_keywords(base, {}, PLACE) is base


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("count", [0, 1, 10**30])
def test_a_kind_is_tolerated_as_often_as_given(kind: Kind, count: int) -> None:
    assert settings(**{kind.value: count}).tolerate == {kind: count}


@pytest.mark.parametrize("kind", [Kind.RESPONSES, Kind.CONNECTIONS, Kind.SOCKETS, Kind.TASKS, Kind.THREADS])
@pytest.mark.parametrize("count", [0, 1])
def test_a_peak_is_limited_as_given(kind: Kind, count: int) -> None:
    assert settings(**{f"peak_{kind.value}": count}).peaks == {kind: count}


@pytest.mark.parametrize("kind", [Kind.CLIENTS, Kind.LOOPS, Kind.FDS])
def test_a_peak_of_other_kinds_is_refused(kind: Kind) -> None:
    assert f"unknown key 'peak_{kind.value}'" in complaint(**{f"peak_{kind.value}": 1})


@pytest.mark.parametrize("key", [*LIMIT_KEYS])
@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1]])
def test_a_number_of_another_type_is_a_type_error(key: str, value: object) -> None:
    with pytest.raises(TypeError) as caught:
        settings(**{key: value})
    assert str(caught.value) == f"{PLACE} key {key!r}: {value!r} is not a whole number, 0 or more"


@pytest.mark.parametrize("key", [*LIMIT_KEYS])
def test_a_negative_number_is_a_value_error(key: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number, 0 or more") as caught:
        settings(**{key: -1})
    assert str(caught.value) == f"{PLACE} key {key!r}: -1 is not a whole number, 0 or more"


@pytest.mark.parametrize("grace", [0, 0.0, 2, 0.25, sys.float_info.max])
def test_grace_is_a_number_of_seconds(grace: float) -> None:
    assert settings(grace=grace).grace == grace
    assert isinstance(settings(grace=grace).grace, float)


@pytest.mark.parametrize("grace", [True, "1", None, [1]])
def test_grace_of_another_type_is_a_type_error(grace: object) -> None:
    with pytest.raises(TypeError, match=r"key 'grace': .* is not a number of seconds, 0 or more"):
        settings(grace=grace)


@pytest.mark.parametrize("grace", [-0.001, -1, math.inf, math.nan, 10**400])
def test_grace_out_of_range_is_a_value_error(grace: float) -> None:
    with pytest.raises(ValueError, match=r"key 'grace': .* is not a number of seconds, 0 or more"):
        settings(grace=grace)


@pytest.mark.parametrize(
    "value",
    ["threads:a", ["threads:a"], ("threads:a",), ["threads:a", "threads:a"]],
    ids=["one", "list", "tuple", "twice"],
)
def test_ignore_takes_one_pattern_or_several(value: object) -> None:
    assert settings(ignore=value).ignore == (Pattern(Kind.THREADS, "a"),)


@pytest.mark.parametrize("value", [[], ()])
def test_ignore_may_be_empty(value: object) -> None:
    assert settings(ignore=value).ignore == ()


@pytest.mark.parametrize("value", [None, 1, {"threads:a"}, ["threads:a", 1], Pattern(Kind.THREADS, "a")])
def test_ignore_of_another_type_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=r"key 'ignore': .* is not a list of patterns"):
        settings(ignore=value)


def test_an_unusable_pattern_is_named_with_its_key() -> None:
    assert complaint(ignore=["threads:a", "thread:b"]).startswith(
        f"{PLACE} key 'ignore': unusable pattern 'thread:b': unknown kind 'thread'; did you mean 'threads'? Valid kinds"
    )


def test_ignore_adds_up_and_all_else_is_replaced() -> None:
    base = settings(ignore="threads:a", sockets=1, tasks=1, peak_tasks=5, grace=1, mode="warn", reason="one")
    both = settings_from_keywords(
        base, {"ignore": "threads:b", "tasks": 2, "peak_threads": 6, "grace": 2, "reason": "two"}, PLACE
    )
    assert both == replace(
        default_settings(),
        ignore=(Pattern(Kind.THREADS, "a"), Pattern(Kind.THREADS, "b")),
        tolerate={Kind.SOCKETS: 1, Kind.TASKS: 2},
        peaks={Kind.TASKS: 5, Kind.THREADS: 6},
        grace=2.0,
        mode=Mode.WARN,
        reason="two",
    )


def test_the_base_keeps_its_own_numbers() -> None:
    base = settings(sockets=1)
    settings_from_keywords(base, {"sockets": 2}, PLACE)
    assert base.tolerate == {Kind.SOCKETS: 1}


@pytest.mark.parametrize("mode", ["fail", "warn", "off", Mode.FAIL])
def test_the_mode_is_fail_warn_or_off(mode: str) -> None:
    assert settings(mode=mode).mode is Mode(mode)


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        ("of", "; did you mean 'off'?"),
        ("Fail", "; did you mean 'fail'?"),
        ("marked", "."),
        ("", "."),
        (None, "."),
        (["off"], "; did you mean 'off'?"),
    ],
)
def test_another_mode_is_refused_with_the_choices(mode: object, hint: str) -> None:
    assert complaint(mode=mode) == f"{PLACE} key 'mode': unknown mode {str(mode)!r}{hint} Valid modes: fail, warn, off"


def test_a_reason_is_a_text() -> None:
    assert settings(reason="legacy client").reason == "legacy client"


def test_a_reason_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"key 'reason': 12 is not a text$"):
        settings(reason=12)


def test_max_clients_is_a_number() -> None:
    assert settings(max_clients=1).max_clients == 1


def test_an_unknown_kind_is_a_type_error_with_the_nearest_one_and_all_kinds() -> None:
    with pytest.raises(TypeError) as caught:
        settings(socket=1)
    assert str(caught.value) == (
        f"{PLACE} got an unknown kind 'socket'; did you mean 'sockets'? "
        "Valid kinds: responses, clients, connections, loops, tasks, threads, sockets, fds"
    )


@pytest.mark.parametrize(
    ("key", "near"),
    [("peak_connection", "peak_connections"), ("max_client", "max_clients"), ("ignored", "ignore"), ("Grace", "grace")],
)
def test_an_unknown_key_is_a_type_error_with_the_nearest_one_and_all_keys(key: str, near: str) -> None:
    message = complaint(**{key: 1})
    assert message.startswith(f"{PLACE} got an unknown key {key!r}; did you mean {near!r}? Valid keys: responses, ")
    for valid in (*LIMIT_KEYS, "ignore", "mode", "reason", "grace"):
        assert valid in message


def test_a_key_like_no_other_is_refused_with_all_keys() -> None:
    assert complaint(zzz=1).startswith(f"{PLACE} got an unknown key 'zzz'. Valid keys: responses, clients, ")


@pytest.mark.parametrize(
    ("raw", "truth"),
    [
        *((word, True) for word in ("true", "yes", "on", "1", " On ", True)),
        *((word, False) for word in ("false", "no", "off", "0", " No ", False)),
    ],
)
def test_a_truth_is_a_word_or_a_bool(raw: object, truth: bool) -> None:
    assert TRUTH.read(raw) is truth


@pytest.mark.parametrize("raw", ["maybe", "", 1, None])
def test_a_truth_that_is_neither_is_a_type_error(raw: object) -> None:
    with pytest.raises(TypeError, match=r"is neither true nor false$"):
        TRUTH.read(raw)


# -- the table ---------------------------------------------------------------------------------------------------------


def rows(where: str) -> dict[str, OptionRow]:
    return {row.name: row for row in option_table() if row.where == where}


def test_the_table_lists_every_option_of_the_command_line() -> None:
    assert set(rows("command line")) == {
        "--httpleak={fail,warn,off}",
        "--httpleak-report=PATH",
        "--httpleak-baseline=PATH",
        "--httpleak-update-baseline",
        "--httpleak-confirm=N",
        "--httpleak-grace=SECONDS",
        "--httpleak-kinds=KIND,...",
    }


def test_the_table_lists_every_ini_key() -> None:
    assert set(rows("ini file")) == {
        "httpleak",
        *(f"httpleak_{key}" for key in ("tolerate", "ignore", "grace", "kinds", "baseline", "report", "confirm")),
        *(f"httpleak_{key}" for key in LIMIT_KEYS if key not in set(Kind)),
        *(f"httpleak_{key}" for key in ("audit", "strict_tolerances", "github")),
    }


def test_the_table_lists_every_key_of_the_marker() -> None:
    keys = {name.partition("=")[0] for name in rows("marker")}
    assert keys == {*LIMIT_KEYS, "ignore", "mode", "reason", "grace"}


def test_the_table_has_one_row_for_each_name_and_place() -> None:
    assert len({(row.name, row.where) for row in option_table()}) == len(option_table())


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("httpleak", ""),
        ("httpleak_grace", "0.5"),
        ("httpleak_confirm", "0"),
        ("httpleak_audit", "inform"),
        ("httpleak_github", "true"),
        ("httpleak_strict_tolerances", "false"),
        ("httpleak_kinds", ",".join(kind.value for kind in Kind)),
    ],
)
def test_the_table_gives_the_default_as_one_would_write_it(name: str, default: str) -> None:
    assert rows("ini file")[name].default == default


def test_every_row_explains_itself() -> None:
    assert all(row.help and not row.help.endswith(".") for row in option_table())


def test_the_help_for_reports_names_every_suffix() -> None:
    assert all(suffix in rows("command line")["--httpleak-report=PATH"].help for suffix in REPORT_SUFFIXES)


def test_the_marker_help_is_one_line_that_names_every_key() -> None:
    signature, colon, text = marker_help().partition(":")
    assert signature.startswith("httpleak(")
    assert signature.endswith(")")
    assert colon
    assert text
    assert "\n" not in marker_help()
    for name in rows("marker"):
        assert name in signature


class Declared:
    """Takes what a pytest parser is told, as far as ini types go."""

    def __init__(self) -> None:
        self.types: dict[str, object] = {}

    def getgroup(self, name: str, description: str) -> Declared:
        return self

    def addoption(self, flag: str, **_: object) -> None:
        pass

    def addini(self, name: str, text: str, *, type: object, default: object) -> None:  # noqa: A002 - pytest's name
        self.types[name] = type


@pytest.mark.parametrize(
    ("version", "grace", "confirm", "github"),
    [
        ((8, 2, 2), "string", "string", "bool"),
        ((9, 1, 9), "string", "string", "bool"),
        ((9, 2, 0), str | float, str | int, str | bool),
    ],
)
def test_ini_values_are_texts_or_native_where_pytest_can_tell_them_apart(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], grace: object, confirm: object, github: object
) -> None:
    parser = Declared()
    with monkeypatch.context() as patch:
        patch.setattr(pytest, "version_tuple", version)
        add_options(parser)  # type: ignore[arg-type]
    assert parser.types["httpleak_grace"] == grace
    assert parser.types["httpleak_confirm"] == confirm
    assert parser.types["httpleak_github"] == github
    assert parser.types["httpleak_kinds"] == "linelist"


def test_pytest_is_told_of_the_ini_keys_in_the_table_and_of_no_other() -> None:
    parser = Declared()
    add_options(parser)  # type: ignore[arg-type]
    assert set(parser.types) == set(rows("ini file"))


def test_the_place_opens_every_message() -> None:
    keywords: list[dict[str, Any]] = [{"zzz": 1}, {"sockets": -1}, {"sockets": "1"}, {"ignore": "x"}, {"mode": "x"}]
    assert all(complaint(**each).startswith(PLACE) for each in keywords)
