"""What a value must look like: one form for each sort of value, shared by command line, ini file and marker."""

from __future__ import annotations

import enum
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.settings.patterns import Pattern
from pytest_httpleak.settings.wording import nearest, unknown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Mode(enum.StrEnum):
    """What a leak does. MARKED is never written by users: it is the run in which nobody chose a mode."""

    FAIL = "fail"
    WARN = "warn"
    OFF = "off"
    MARKED = "marked"


class Audit:
    """Which audit notes fail a test, and whether notes are taken at all."""

    __slots__ = ("fail", "is_off")

    def __init__(self, fail: frozenset[str], *, is_off: bool) -> None:
        self.fail = fail
        self.is_off = is_off


class Form(Generic[T]):
    """One sort of value.

    `check` takes a Python value, as in a marker, and raises TypeError or ValueError with a sentence that stands
    alone. `convert` comes before it for the command line and the ini file: it turns text into a Python value, and
    leaves alone what it cannot turn, so that every wrong value is worded by `check`. `metavar` is how help shows it;
    `native` is the type it has in a TOML file where it need not be text.
    """

    __slots__ = ("check", "convert", "metavar", "native")

    def __init__(
        self,
        metavar: str,
        check: Callable[[object], T],
        convert: Callable[[object], object] = lambda raw: raw,
        native: type = str,
    ) -> None:
        self.metavar = metavar
        self.check = check
        self.convert = convert
        self.native = native

    def read(self, raw: object) -> T:
        """Read what the command line or the ini file holds."""
        return self.check(self.convert(raw))


MODES = (Mode.FAIL, Mode.WARN, Mode.OFF)
PEAK_KINDS = (Kind.RESPONSES, Kind.CONNECTIONS, Kind.SOCKETS, Kind.TASKS, Kind.THREADS)
KIND_NAMES = tuple(kind.value for kind in Kind)
LIMIT_KEYS = (*KIND_NAMES, *(f"peak_{kind.value}" for kind in PEAK_KINDS), "max_clients")
REPORT_SUFFIXES = (".json", ".html", ".sarif", ".md", ".prom")
AUDIT_NAMES = (
    "no-timeout",
    "unbounded-pool",
    "pool-overflow",
    "client-per-request",
    "global-default-changed",
    "unbounded-retry",
)

_AUDIT_WORDS = {
    "off": Audit(frozenset(), is_off=True),
    "inform": Audit(frozenset(), is_off=False),
    "fail": Audit(frozenset(AUDIT_NAMES), is_off=False),
}
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_DIGITS = frozenset("0123456789")
# More than any limit needs, and clear of the interpreter's bound on long integer texts.
_MOST_DIGITS = 18


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError(f"{raw!r} is not a text")
    return raw


def _truth(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise TypeError(f"{raw!r} is neither true nor false")
    return raw


def _truth_from_text(raw: object) -> object:
    return _TRUTHS.get(raw.strip().lower(), raw) if isinstance(raw, str) else raw


def _count(raw: object) -> int:
    complaint = f"{raw!r} is not a whole number, 0 or more"
    # A bool is an int to Python, but `sockets=True` is somebody who meant something else.
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise TypeError(complaint)
    if raw < 0:
        raise ValueError(complaint)
    return raw


def _count_from_text(raw: object) -> object:
    is_number = isinstance(raw, str) and 0 < len(raw) <= _MOST_DIGITS and _DIGITS.issuperset(raw)
    return int(raw) if is_number else raw  # type: ignore[call-overload]  # a text


def _seconds(raw: object) -> float:
    complaint = f"{raw!r} is not a number of seconds, 0 or more"
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise TypeError(complaint)
    # The upper bound turns away infinity and integers that no float can hold; nan fails both comparisons.
    if not 0 <= raw <= sys.float_info.max:
        raise ValueError(complaint)
    return float(raw)


def _seconds_from_text(raw: object) -> object:
    # Neither a sign in front, nor the words and underscores that `float` takes too.
    if not isinstance(raw, str) or raw[:1] not in {*_DIGITS, "."} or not _DIGITS.union(".eE+-").issuperset(raw):
        return raw
    try:
        return float(raw)
    except ValueError:
        return raw


def _mode(raw: object) -> Mode:
    if raw in MODES:
        return Mode(str(raw))
    raise ValueError(unknown("mode", str(raw), MODES))


def _words(raw: object) -> list[str]:
    """Split at blanks, commas and line breaks, whether the text came whole or in lines."""
    text = " ".join(map(str, raw)) if isinstance(raw, list) else str(raw)
    return text.replace(",", " ").split()


def _kinds(raw: object) -> frozenset[Kind]:
    words = _words(raw)
    if not words:
        raise ValueError(f"no kind is named. Valid kinds: {', '.join(KIND_NAMES)}")
    for word in words:
        if word not in KIND_NAMES:
            raise ValueError(unknown("kind", word, KIND_NAMES))
    return frozenset(map(Kind, words))


def _patterns(raw: object) -> tuple[Pattern, ...]:
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{raw!r} is not a list of patterns")
    return tuple(map(Pattern.parse, texts))


def _limits(raw: object) -> dict[str, int]:
    limits: dict[str, int] = {}
    for word in re.sub(r"\s*=\s*", "=", " ".join(_words(raw))).split():
        key, equals, number = word.partition("=")
        if key not in LIMIT_KEYS:
            raise ValueError(unknown_key(key))
        if not equals:
            raise ValueError(f"{word!r} has no number; write {word}=1")
        if key in limits:
            raise ValueError(f"{key!r} is given twice")
        try:
            limits[key] = _count(_count_from_text(number))
        except TypeError as error:
            raise ValueError(f"{key!r}: {error}") from None
    return limits


def unknown_key(key: str, valid: tuple[str, ...] = LIMIT_KEYS) -> str:
    """Word the answer to a key that is none of `valid`; it speaks of kinds where the key looks like one."""
    if "_" not in key and nearest(key, valid) in KIND_NAMES:
        return unknown("kind", key, KIND_NAMES)
    return unknown("key", key, valid)


def _audit(raw: object) -> Audit:
    words = _words(raw)
    if len(words) == 1 and words[0] in _AUDIT_WORDS:
        return _AUDIT_WORDS[words[0]]
    for word in words:
        if word in _AUDIT_WORDS:
            raise ValueError(f"{word!r} stands alone; it cannot be combined with other words")
        if word not in AUDIT_NAMES:
            raise ValueError(unknown("audit name", word, (*_AUDIT_WORDS, *AUDIT_NAMES)))
    return Audit(frozenset(words), is_off=False)


def _paths(raw: object) -> tuple[Path, ...]:
    return tuple(map(_path, raw if isinstance(raw, list) else [raw]))


def _path(raw: object) -> Path:
    text = _text(raw).strip()
    if not text:
        raise ValueError("the path is empty")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text!r}: {error}") from None


def _reports(raw: object) -> tuple[Path, ...]:
    paths = _paths(raw)
    for path in paths:
        if path.suffix not in REPORT_SUFFIXES:
            raise ValueError(f"{str(path)!r}: {unknown('report form', path.suffix, REPORT_SUFFIXES)}")
    return paths


TEXT = Form("TEXT", _text)
TRUTH = Form("BOOL", _truth, _truth_from_text, bool)
COUNT = Form("N", _count, _count_from_text, int)
SECONDS = Form("SECONDS", _seconds, _seconds_from_text, float)
MODE = Form(f"{{{','.join(MODES)}}}", _mode)
KINDS = Form("KIND,...", _kinds)
PATTERNS = Form("[PATTERN, ...]", _patterns)
LIMITS = Form("KEY=N ...", _limits)
AUDIT = Form("{off,inform,fail} or NAME ...", _audit)
PATH = Form("PATH", _paths)
REPORTS = Form("PATH", _reports)
