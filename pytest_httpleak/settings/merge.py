"""What counts for one test or fixture: the run's default with its markers and run-time calls laid over it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak.model.facts import Facts, replace
from pytest_httpleak.settings import options
from pytest_httpleak.settings.options import MARKER_KEYS
from pytest_httpleak.settings.values import Mode, unknown_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_httpleak.model.kinds import Kind
    from pytest_httpleak.settings.options import Option
    from pytest_httpleak.settings.patterns import Pattern

MARKER = "httpleak"


class Settings(Facts):
    """What counts for one test or fixture.

    `mode` is never MARKED. `tolerate` and `peaks` are counts by kind, and hold only what was set; `grace` is in
    seconds; `max_clients` is None where clients are not counted.
    """

    mode: Mode
    tolerate: Mapping[Kind, int]
    ignore: tuple[Pattern, ...]
    grace: float
    kinds: frozenset[Kind]
    peaks: Mapping[Kind, int]
    max_clients: int | None
    reason: str | None


class RunSettings(Facts):
    """What counts for the whole run.

    `default` is what counts for a test without marks. Paths are absolute. `confirm` is a number of repetitions, 0 for
    none. Audit notes named in `audit_fail` fail a test, the others inform; `audit_off` means that none is taken.
    `github` is true where annotations are wanted and the run is GitHub's.
    """

    mode: Mode
    default: Settings
    reports: tuple[Path, ...]
    baseline: Path | None
    update_baseline: bool
    confirm: int
    audit_fail: frozenset[str]
    audit_off: bool
    strict_tolerances: bool
    github: bool


def default_settings() -> Settings:
    """Return what counts where nobody set anything, as outside pytest: every kind is checked, and a leak fails."""
    return Settings(
        mode=Mode.FAIL,
        tolerate=MappingProxyType({}),
        ignore=(),
        grace=options.GRACE.form.read(options.GRACE.default),
        kinds=options.KINDS.form.read(options.KINDS.default),
        peaks=MappingProxyType({}),
        max_clients=None,
        reason=None,
    )


def is_marked(item: pytest.Item, parents: dict[int, bool]) -> bool:
    """Whether a test has a mark of its own, or of its module or classes; `parents` keeps what is known of those."""
    if any(mark.name == MARKER for mark in item.own_markers):
        return True
    parent: Any = item.parent
    known = parents.get(id(parent))
    if known is None:
        known = parents[id(parent)] = parent is not None and any(parent.iter_markers(MARKER))
    return known


def settings_for(item: pytest.Item | pytest.Collector, run: RunSettings) -> Settings:
    """Lay the marks on the item's module, class and function over the run's default; a wider fixture's are its collector's.

    A run that is off stays off, whatever its markers say or misspell. Without a mark the run's default itself is
    returned. Raises pytest.UsageError for a mark that cannot be used.
    """
    if run.mode is Mode.OFF:
        return run.default
    marks = list(item.iter_markers_with_node(MARKER))
    return _with_marks(item, run.default, _farthest_first(item, marks)) if marks else run.default


def with_later_marks(item: pytest.Item, settings: Settings, before: Sequence[pytest.Mark]) -> Settings:
    """Lay over a test's settings the marks that it was given while it ran, by `request.node.add_marker()`.

    `before` are those that it had when it began. Raises pytest.UsageError for a mark that cannot be used.
    """
    later = [mark for mark in item.own_markers if mark.name == MARKER and not any(mark is one for one in before)]
    return _with_marks(item, settings, later)


def _with_marks(item: pytest.Item | pytest.Collector, settings: Settings, marks: Iterable[pytest.Mark]) -> Settings:
    place = f"{item.nodeid}: httpleak marker"
    try:
        for mark in marks:
            settings = settings_from_keywords(settings, _keywords(mark, place), place)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(str(error)) from None
    return settings


def settings_from_keywords(base: Settings, keywords: Mapping[str, object], place: str) -> Settings:
    """Lay marker keys over the base; `place` opens the message where one of them cannot be used.

    Raises TypeError for an unknown key or a value of a wrong type, and ValueError for a value out of range.
    """
    chosen: list[tuple[Option[Any], Any]] = []
    for key, raw in keywords.items():
        option = MARKER_KEYS.get(key)
        if option is None:
            raise TypeError(f"{place} got an {unknown_key(key, tuple(MARKER_KEYS))}")
        try:
            chosen.append((option, option.form.check(raw)))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{place} key {key!r}: {error}") from None
    return laid_over(base, chosen)


def laid_over(base: Settings, chosen: Iterable[tuple[Option[Any], Any]]) -> Settings:
    """Lay checked values over the base: ignore lists add up, numbers by kind and all else replace."""
    changes: dict[str, Any] = {}
    for option, value in chosen:
        before = changes.get(option.field, getattr(base, option.field))
        if option is options.IGNORE:
            changes[option.field] = tuple(dict.fromkeys((*before, *value)))
        elif option.kind is not None:
            changes[option.field] = MappingProxyType({**before, option.kind: value})
        else:
            changes[option.field] = value
    return replace(base, **changes) if changes else base


def _keywords(mark: pytest.Mark, place: str) -> Mapping[str, object]:
    if mark.args:
        raise TypeError(f"{place} takes keys only, as in httpleak(sockets=1); it got {mark.args[0]!r}")
    return mark.kwargs


def _farthest_first(item: pytest.Item | pytest.Collector, found: list[tuple[Any, pytest.Mark]]) -> list[pytest.Mark]:
    """Put the marks in the order in which they are laid over one another.

    pytest lists the nodes from the function outwards, and the decorators of one function from the nearest outwards.
    Within one node it departs from that twice, which is put right here: a base class comes before the class that
    inherits from it, and the marks of a parameter set come after those of the whole function.
    """
    if len(found) > 1:
        nodes = [node for node, _ in found]
        found = sorted(found, key=lambda pair: (nodes.index(pair[0]), _distance(item, *pair)))
    return [mark for _, mark in reversed(found)]


def _distance(item: pytest.Item | pytest.Collector, node: Any, mark: pytest.Mark) -> int:
    if node is item and (callspec := getattr(item, "callspec", None)) is not None:
        return 0 if any(mark is one for one in callspec.marks) else 1
    if isinstance(node, pytest.Class):
        for distance, cls in enumerate(node.obj.__mro__):
            if any(mark is one for one in _own_marks(cls)):
                return distance
    return 0


def _own_marks(cls: type) -> list[object]:
    marks = cls.__dict__.get("pytestmark", [])
    return [getattr(mark, "mark", mark) for mark in (marks if isinstance(marks, list) else [marks])]
