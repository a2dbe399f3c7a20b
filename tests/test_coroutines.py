"""What a suspended coroutine waits in, also where an object of somebody's own class is around it."""

from __future__ import annotations

import contextlib
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import pytest

from pytest_httpleak import coroutines


class Around:
    """As a request of aiohttp's: a coroutine of its own class, around another one."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts[1:]
        self.inside = parts[0]

    def send(self, value: Any) -> Any:
        return self.inside.send(value)  # type: ignore[attr-defined]

    def throw(self, *error: Any) -> Any:
        return self.inside.throw(*error)  # type: ignore[attr-defined]


class Strange(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Boom:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


async def _nothing() -> None:
    """Is never awaited."""


def _counting() -> Iterator[int]:
    yield 1


@pytest.fixture
def suspended() -> Iterator[Any]:
    coroutine = _nothing()
    yield coroutine
    coroutine.close()


def test_what_is_around_a_coroutine_waits_in_that(suspended: Any) -> None:
    around = Around(suspended)
    assert list(coroutines.awaits(around)) == [suspended]
    assert coroutines.frame_of_task(around) is suspended.cr_frame


def test_of_what_is_around_a_coroutine_nothing_else_is_asked(suspended: Any) -> None:
    assert list(coroutines.awaits(Around(suspended, Boom(), mock.Mock()))) == [suspended]
    around = Around(suspended)
    around.client = mock.Mock()  # type: ignore[attr-defined]
    around.strange = Boom()  # type: ignore[attr-defined]
    assert list(coroutines.awaits(around)) == [suspended]


def test_what_has_several_is_around_none(suspended: Any) -> None:
    around = Around(suspended)
    around.other = _counting()  # type: ignore[attr-defined]
    assert list(coroutines.awaits(around)) == []
    assert coroutines.frame_of_task(around) is None


def test_a_class_is_not_asked_whether_it_is_around_one() -> None:
    assert list(coroutines.awaits(Strange("Thing", (), {})())) == []


@types.coroutine
def _pause() -> Iterator[None]:
    yield


async def _each() -> AsyncIterator[int]:
    await _pause()
    yield 1


async def _all() -> None:
    async for _ in _each():
        pass


def test_the_way_through_all_sorts_of_them_is_found(ending: contextlib.ExitStack) -> None:
    outer = _all()
    ending.callback(outer.close)
    outer.send(None)
    names = [coroutines.frame_of(each).f_code.co_name for each in coroutines.awaits(outer)]
    assert names == ["_all", "_each", "_pause"]


class Running:
    """A coroutine or generator that another thread runs: what it waits in must not be asked, as that may crash."""

    def __init__(self, sort: str) -> None:
        frame = mock.Mock(f_back=mock.Mock())
        self.asked: list[str] = []
        self.__dict__ |= {f"{sort}_running": True, f"{sort}_frame": frame}

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        raise AttributeError(name)


@pytest.mark.parametrize("sort", ["cr", "gi", "ag"])
def test_one_that_runs_is_not_asked_what_it_waits_in(sort: str) -> None:
    running = Running(sort)
    assert list(coroutines.awaits(running)) == [running]
    assert not {"cr_await", "gi_yieldfrom", "ag_await"} & {*running.asked}


def test_one_that_runs_waits_in_nothing() -> None:
    """In its own thread, too."""
    found = []

    async def inner() -> None:
        found.extend(coroutines.awaits(outer))

    async def around() -> None:
        await inner()

    outer = around()
    with pytest.raises(StopIteration):
        outer.send(None)
    assert found == [outer]
