"""Patches, and the wall around them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import operator
import types
import warnings
from typing import Any
from unittest import mock

import pytest

from pytest_httpleak import interruptions
from pytest_httpleak.patches import Patches, Wall


class Base:
    def inherited(self) -> str:
        return "inherited"


class Thing(Base):
    def method(self, value: int = 1) -> int:
        return value * 2


@pytest.fixture
def patches() -> Any:
    made = Patches()
    yield made
    made.undo()


def test_a_note_sees_the_result_and_the_arguments(patches: Patches) -> None:
    seen: list[Any] = []
    patches.after(Wall("w"), Thing, "method", lambda *args, **kwargs: seen.append((args[0], args[2:], kwargs)))
    assert Thing().method(3) == 6
    assert Thing().method(value=4) == 8
    assert seen == [(6, (3,), {}), (8, (), {"value": 4})]


def test_a_note_before_runs_although_the_call_raises(patches: Patches) -> None:
    seen: list[Any] = []
    patches.before(Wall("w"), Thing, "method", lambda *args: seen.append(len(args)))
    with pytest.raises(TypeError):
        Thing().method(None)  # type: ignore[arg-type]
    assert seen == [2]


def test_an_error_in_a_note_switches_it_off_and_is_named_once(patches: Patches) -> None:
    wall = Wall("the adapter for x")
    calls: list[int] = []

    def note(*args: object) -> None:
        calls.append(1)
        raise ZeroDivisionError("boom")

    patches.after(wall, Thing, "method", note)
    assert [Thing().method(1), Thing().method(2)] == [2, 4]
    assert (wall.on, len(calls)) == (False, 1)
    assert wall.error is not None
    assert wall.error.startswith(
        "the adapter for x was switched off for the rest of this run: ZeroDivisionError: boom at "
    )


def test_a_note_for_which_a_recursion_has_left_no_room_is_left_out(patches: Patches) -> None:
    wall = Wall("the adapter for x")
    seen: list[int] = []

    def note(_: object, thing: Thing, value: int) -> None:
        seen.append(value or note(_, thing, value))  # type: ignore[func-returns-value]

    patches.after(wall, Thing, "method", note)
    assert [Thing().method(value) for value in (1, 0, 2)] == [2, 0, 4]
    assert (wall.on, wall.error, seen) == (True, None, [1, 2])


def test_so_it_is_where_a_note_cannot_be_told_for_that() -> None:
    wall = Wall("the adapter for x")
    wall.fall(RecursionError("too deep"))
    assert (wall.on, wall.error) == (True, None)


class TimedOut(Exception):
    """What a thread that watches the time raises in another one."""


THROWN = """
import ctypes, threading
def note(*_):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(error))
    for _ in range(1000):
        pass
"""


@pytest.mark.parametrize("error", [TimedOut, TimeoutError])
def test_what_another_thread_has_thrown_in_goes_on_its_way(patches: Patches, error: type[Exception]) -> None:
    wall = Wall("the adapter for x")
    ours: dict[str, Any] = {"__name__": "somewhere", "error": error}
    exec(compile(THROWN, interruptions.__file__, "exec"), ours)
    patches.after(wall, Thing, "method", ours["note"])
    with pytest.raises(error):
        Thing().method(1)
    assert wall.on


def test_signature_and_name_stay(patches: Patches) -> None:
    before = inspect.signature(Thing.method)
    patches.after(Wall("w"), Thing, "method", lambda *_: None)
    assert inspect.signature(Thing.method) == before
    assert Thing.method.__qualname__ == "Thing.method"


def test_undo_puts_back_the_very_same_function() -> None:
    found, patches = Thing.__dict__["method"], Patches()
    patches.after(Wall("w"), Thing, "method", lambda *_: None)
    patches.before(Wall("w"), Thing, "method", lambda *_: None)
    patches.undo()
    assert Thing.__dict__["method"] is found


def test_undo_leaves_no_copy_of_what_was_inherited() -> None:
    patches = Patches()
    patches.after(Wall("w"), Thing, "inherited", lambda *_: None)
    patches.undo()
    assert "inherited" not in vars(Thing)


def test_undo_leaves_a_later_wrapper_of_somebody_else_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = Patches()
    patches.after(Wall("w"), Thing, "method", lambda *_: None)
    ours = Thing.__dict__["method"]
    monkeypatch.setattr(Thing, "method", lambda self, value=1: ours(self, value) + 1)
    theirs = Thing.__dict__["method"]
    patches.undo()
    assert Thing.__dict__["method"] is theirs
    assert Thing().method(2) == 5


def test_what_stands_for_a_function_of_c_is_not_bound_either(patches: Patches, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("some")
    module.add = operator.add  # type: ignore[attr-defined]
    module.double = lambda value: value * 2  # type: ignore[attr-defined]
    for name in ("add", "double"):
        for _ in range(2):  # two notes, as two adapters have
            patches.after(Wall("x"), module, name, lambda result, *args: None)

    class Holder:
        add = module.add
        double = module.double

    assert Holder().add(1, 2) == module.add(1, 2) == 3
    assert Holder.double(4) == module.double(4) == 8
    with pytest.raises(TypeError, match="2 were given"):
        Holder().double(4)
    patches.undo()
    assert module.add is operator.add


class Guard:
    """Has taken the place of a function, and is told what to do by its attributes."""

    allows = True

    def __call__(self, value: int) -> int:
        if not self.allows:
            raise PermissionError
        return value


@pytest.mark.parametrize("found", [Guard(), None])
def test_what_is_no_function_is_left_alone(patches: Patches, found: Any) -> None:
    module: Any = types.ModuleType("some")
    module.function = found
    patches.after(Wall("x"), module, "function", lambda result, *args: None)
    assert module.function is found


def test_what_stands_for_a_coroutine_function_is_one(patches: Patches) -> None:
    class Client:
        async def send(self) -> str:
            return "sent"

        async def close(self) -> None:
            pass

        def get(self) -> str:
            return "got"

    calls: list[str] = []
    patches.after(Wall("x"), Client, "send", lambda result, client: calls.append("send"))
    patches.before(Wall("x"), Client, "close", lambda client: calls.append("close"))
    patches.replace(Client, "get", lambda original: lambda client: str(original(client)))
    client = Client()
    assert inspect.iscoroutinefunction(client.send)
    assert inspect.iscoroutinefunction(Client.close)
    assert not inspect.iscoroutinefunction(client.get)
    assert asyncio.run(client.send()) == "sent"
    assert asyncio.run(client.close()) is None
    assert calls == ["send", "close"]
    assert isinstance(mock.MagicMock(spec=Client).send, mock.AsyncMock)
    with mock.patch.object(Client, "send") as send:
        assert isinstance(send, mock.AsyncMock)


def warn() -> None:
    warnings.warn("old", DeprecationWarning, stacklevel=2)


def log(value: int) -> None:
    logging.getLogger("patches").warning("old", stacklevel=2)


@pytest.mark.parametrize("times", [1, 2])
def test_who_calls_a_deprecated_function_is_told_as_without(patches: Patches, times: int) -> None:
    module: Any = types.ModuleType("some")
    module.warn = warn
    for _ in range(times):
        patches.after(Wall("x"), module, "warn", lambda result: None)
    assert module.warn is not warn
    with pytest.warns(DeprecationWarning, match="old") as caught:
        module.warn()
    assert [warning.filename for warning in caught] == [__file__]


def test_who_calls_what_is_only_told_at_times_is_told_as_without(patches: Patches) -> None:
    module: Any = types.ModuleType("some")
    module.warn = lambda value: warnings.warn("old", DeprecationWarning, stacklevel=2)
    original = module.warn
    patches.before_while(Wall("x"), module, "warn", lambda value: None, [1])
    assert module.warn is not original
    with pytest.warns(DeprecationWarning, match="old") as caught:
        module.warn(1)
    assert [warning.filename for warning in caught] == [__file__]


def test_who_calls_what_logs_is_told_as_without(patches: Patches, caplog: pytest.LogCaptureFixture) -> None:
    module: Any = types.ModuleType("some")
    module.log = log
    patches.before(Wall("x"), module, "log", lambda value: None)
    module.log(1)
    assert [record.pathname for record in caplog.records] == [__file__]


def test_the_code_of_a_wrapper_says_that_it_comes_from_no_file(patches: Patches) -> None:
    module: Any = types.ModuleType("some")
    module.warn = warn
    patches.after(Wall("x"), module, "warn", lambda result: None)
    assert module.warn.__code__.co_filename.startswith("<")  # else coverage would look for its source
    assert inspect.getsource(module.warn) == inspect.getsource(warn)
