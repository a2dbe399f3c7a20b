"""The frames of running threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_httpleak.probes import frames


class Thing:
    pass


@pytest.fixture
def thread() -> Iterator[threading.Thread]:
    stop = threading.Event()

    def work(thing: Thing) -> None:
        stop.wait()

    thread = threading.Thread(target=work, args=(Thing(),))
    thread.start()
    yield thread
    stop.set()
    thread.join()


def names_of(found: Iterator[Any]) -> set[str]:
    return {frame.f_code.co_name for frame in found}


def test_those_of_another_thread_are_given_and_none_of_this_one(thread: threading.Thread) -> None:
    names = names_of(frames.of_others(only=[thread.ident]))
    assert names >= {"work", "run"}
    assert "test_those_of_another_thread_are_given_and_none_of_this_one" not in names_of(frames.of_others())
    assert "work" not in names_of(frames.of_others(but=[thread.ident]))


def test_the_variables_of_a_frame_are_its_own(thread: threading.Thread) -> None:
    (frame,) = (frame for frame in frames.of_others(only=[thread.ident]) if frame.f_code.co_name == "work")
    assert type(dict(frames.locals_of(frame))["thing"]) is Thing


def test_nothing_is_kept_alive_by_asking() -> None:
    def ask() -> weakref.ref[Thing]:
        thing = Thing()
        for _ in frames.of_others():
            pass
        return weakref.ref(thing)

    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()
