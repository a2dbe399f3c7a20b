"""The wrappers made to measure: what they tell, and that nothing of a call changes by them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_httpleak.patches import Patches, Wall
from pytest_httpleak.wrappers import Notes, number_of_arguments, wrapper_for, wrapper_of_first


class Pool:
    def put(self, conn: object) -> object:
        return conn

    def get(self, timeout: float | None = None) -> float | None:
        return timeout

    def close(self) -> str:
        return "closed"

    def ask(self, method: str, *, timeout: int = 1) -> tuple[str, int]:
        return method, timeout


@pytest.fixture
def patches() -> Iterator[Patches]:
    made = Patches()
    yield made
    made.undo()


def own(note: Callable[..., object]) -> Any:
    """The same note, as if it were the plugin's own."""
    note.__module__ = "pytest_httpleak.adapters.own"
    return note


@pytest.fixture
def told() -> list[Any]:
    """What the notes were told."""
    return []


def test_a_function_of_two_arguments_is_called_as_before(patches: Patches, told: list[Any]) -> None:
    patches.before(Wall("w"), Pool, "put", own(lambda pool, conn: told.append(conn)))
    patches.after(Wall("w"), Pool, "get", own(lambda result, pool, timeout: told.append((result, timeout))))
    pool = Pool()
    assert (pool.put(1), pool.put(conn=2), pool.get(), pool.get(3), pool.get(timeout=4)) == (1, 2, None, 3, 4)
    assert told == [1, 2, (None, None), (3, 3), (4, 4)]
    assert inspect.signature(Pool.get).parameters["timeout"].default is None
    with pytest.raises(TypeError):
        pool.put(connection=1)  # type: ignore[call-arg]


def test_the_note_of_somebody_else_is_told_the_arguments_as_they_came(patches: Patches, told: list[Any]) -> None:
    patches.before(Wall("w"), Pool, "put", own(lambda pool, conn: told.append(conn)))
    patches.before(Wall("v"), Pool, "put", lambda *args, **kwargs: told.append((args[1:], kwargs)))
    pool = Pool()
    pool.put(1)
    pool.put(conn=2)
    assert told == [((1,), {}), 1, ((), {"conn": 2}), 2]


def test_an_error_of_a_note_does_not_reach_the_caller(patches: Patches) -> None:
    def failing(*args: Any, **kwargs: Any) -> None:
        raise ValueError("mine")

    walls = [Wall(name) for name in ("put", "get", "close", "ask")]
    for wall in walls[:2]:
        patches.before(wall, Pool, wall.name, own(failing))
        patches.after(wall, Pool, wall.name, own(failing))
    patches.before_while(walls[2], Pool, "close", own(failing), there_are=[1])
    patches.after_of_first(walls[3], Pool, "ask", own(failing))
    pool = Pool()
    assert (pool.put(1), pool.get(2), pool.close(), pool.ask("GET")) == (1, 2, "closed", ("GET", 1))
    assert [wall.on for wall in walls] == [False] * 4
    assert (pool.put(1), pool.get(2), pool.close(), pool.ask("GET")) == (1, 2, "closed", ("GET", 1))


def test_a_note_that_waits_is_told_only_while_there_is_something(patches: Patches, told: list[Any]) -> None:
    records: list[int] = []
    patches.before_while(Wall("w"), Pool, "close", own(lambda pool: told.append("own")), records)
    Pool().close()
    assert told == []
    records.append(1)
    assert Pool().close() == "closed"
    assert told == ["own"]


@pytest.mark.parametrize("is_first", [True, False])
def test_beside_another_note_both_are_told_each_time(patches: Patches, told: list[Any], is_first: bool) -> None:
    def wait() -> None:
        patches.before_while(Wall("w"), Pool, "close", own(lambda pool: told.append("own")), [])

    if is_first:
        wait()
    patches.before(Wall("v"), Pool, "close", lambda pool: told.append("other"))
    if not is_first:
        wait()
    Pool().close()
    assert sorted(told) == ["other", "own"]


def test_a_note_of_the_first_argument_gets_no_other(patches: Patches, told: list[Any]) -> None:
    patches.after_of_first(Wall("w"), Pool, "ask", own(lambda result, pool, *rest, **more: told.append((rest, more))))
    assert Pool().ask("GET", timeout=2) == ("GET", 2)
    assert told == [((), {})]
    patches.after(Wall("v"), Pool, "ask", lambda result, pool, *rest, **more: told.append((rest, more)))
    assert Pool().ask("PUT", timeout=3) == ("PUT", 3)
    assert told[1:] == [(("PUT",), {"timeout": 3})] * 2


def test_a_wrapper_of_the_first_argument_is_for_one_note_after_the_call() -> None:
    def note(*args: Any) -> None: ...

    wall = Wall("w")
    assert wrapper_of_first(Notes(Pool.ask, (), ((wall, note),))) is not None
    assert wrapper_of_first(Notes(Pool.ask, ((wall, note),), ())) is None
    assert wrapper_of_first(Notes(Pool.ask, (), ((wall, note), (wall, note)))) is None


@pytest.mark.parametrize(
    ("function", "number"), [(Pool.close, 1), (Pool.put, 2), (Pool.get, 2), (Pool.ask, 0), (len, 0), (print, 0)]
)
def test_arguments_are_counted_where_their_number_is_fixed(function: Any, number: int) -> None:
    assert number_of_arguments(function) == number


def test_a_function_of_c_is_handed_all_that_comes() -> None:
    assert wrapper_for(Notes(int, (), ()))("11", base=2) == 3
