"""What goes with some objects is told from reference counts: it is right, or nothing is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_httpleak.probes import trialdeletion
from pytest_httpleak.probes.trialdeletion import deleted_with

KEPT: list[Any] = []


class Part:
    """What is looked for."""


class Whole:
    """Has a part, and itself."""

    def __init__(self, part: object) -> None:
        self.part, self.me = part, self

    def method(self) -> None:
        """Do nothing."""


class Slotted:
    """The same without a dict."""

    __slots__ = ("part",)

    def __init__(self, part: object) -> None:
        self.part = part


def in_closure(part: object) -> Callable[[], object]:
    return lambda: part


def as_default(part: object) -> Callable[[], object]:
    return lambda part=part: part


def in_generator(part: object) -> Any:
    def generator() -> Any:
        mine = part
        yield
        yield mine

    begun = generator()
    next(begun)
    return begun


WAYS: dict[str, Callable[[object], object]] = {
    "itself": lambda part: part,
    "list": lambda part: [part, part],
    "tuple": lambda part: (part, ("x", part)),
    "dict": lambda part: {"key": {part: part}},
    "cycle": Whole,
    "slot": Slotted,
    "method": lambda part: Whole(part).method,
    "partial": lambda part: partial(print, part),
    "closure": in_closure,
    "default": as_default,
    "generator": in_generator,
    "namespace": lambda part: SimpleNamespace(part=part),
}


def gone(box: list[dict[str, object]], **keywords: Any) -> list[str]:
    """The parts that go with what is in the box, by the names of their classes."""
    going = deleted_with([box[0]], **keywords)
    return [type(each).__name__ for each in going.values() if type(each) is Part]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_only_that_leads_to_goes(way: Callable[[object], object]) -> None:
    assert gone([{"value": way(Part())}]) == ["Part"]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_somebody_else_has_stays(way: Callable[[object], object]) -> None:
    part = Part()
    assert gone([{"value": way(part)}]) == []
    assert type(part) is Part


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_something_leads_to_that_somebody_else_has_stays(way: Callable[[object], object]) -> None:
    kept = way(Part())
    assert gone([{"value": [kept]}]) == []
    del kept


def test_what_somebody_else_has_keeps_nothing_that_has_it() -> None:
    part = Part()
    box = [[Whole(part)]]
    going = deleted_with([box[0]])
    assert id(part) not in going
    assert any(type(each) is Whole for each in going.values())


def test_what_a_variable_of_a_function_at_work_has_stays() -> None:
    def work() -> list[str]:
        mine = box[0]["value"]
        found = gone(box)
        assert type(mine) is Part
        return found

    box: list[dict[str, object]] = [{"value": Part()}]
    assert work() == []


def test_a_container_that_somebody_else_has_stays_with_all_that_is_in_it() -> None:
    box: list[dict[str, object]] = [{"value": Part()}]
    KEPT.append(box[0])
    try:
        assert gone(box) == []
    finally:
        KEPT.clear()


def test_what_a_method_in_the_test_refers_to_goes_with_both() -> None:
    item = {"instance": Whole(Part()), "method": None}
    item["method"] = item["instance"].method
    going = deleted_with(list(item.values()))
    assert [type(each) for each in going.values() if type(each) is Part] == [Part]


def test_of_more_than_is_looked_at_nothing_is_told() -> None:
    parts = [[] for _ in range(20)]
    assert gone([{"value": Part(), "more": [*parts]}], most=10) == []


def test_the_whole_process_is_not_looked_at(request: pytest.FixtureRequest) -> None:
    assert gone([{"value": Part(), "request": request, "module": pytest}], most=100) == ["Part"]


def test_where_references_are_not_counted_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trialdeletion, "_IS_COUNTED", False)
    assert gone([{"value": Part()}]) == []
