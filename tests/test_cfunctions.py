"""Functions of C: what stands for them is one to every question, and their warnings name the caller."""

from __future__ import annotations

import copy
import importlib
import inspect
import operator
import os
import pickle
import sqlite3
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from pytest_httpleak.session.core import Session


@pytest.mark.parametrize("name", ["os.open", "os.dup", "os.pipe", "builtins.open", "io.open", "sqlite3.connect"])
def test_a_function_of_c_stays_what_it_is_to_a_class_and_to_pickle(session: Session, name: str) -> None:
    module, _, attribute = name.partition(".")
    function = getattr(importlib.import_module(module), attribute)
    assert inspect.unwrap(function) is not function
    holder = type("Holder", (), {"function": function})()
    assert not inspect.ismethod(holder.function)
    if attribute == "open" and module != "os":  # those of `os` are known to pickle by the module that they come from
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", ["os.open", "os.dup", "os.pipe", "builtins.open", "io.open", "sqlite3.connect"])
def test_a_function_of_c_is_one_to_every_question(session: Session, name: str) -> None:
    module, _, attribute = name.partition(".")
    function = getattr(importlib.import_module(module), attribute)
    original = inspect.unwrap(function)
    assert original is not function
    assert inspect.isbuiltin(function)
    assert not isinstance(function, types.FunctionType)
    assert function == original
    assert function in {original, len}
    assert function != operator.add
    assert repr(function) == repr(original)
    assert function.__text_signature__ == original.__text_signature__
    assert function.__self__ is original.__self__
    assert mock.create_autospec(function)("whatever", other=1)
    assert pickle.loads(pickle.dumps(function)) == function
    assert copy.deepcopy(function) is copy.copy(function) is function


only_warned_of = pytest.mark.skipif(sys.version_info >= (3, 15), reason="an error from Python 3.15 on")


def read_by_lines() -> None:
    open(os.devnull, "rb", 1).close()  # noqa: PTH123


def read_by_lines_by_name() -> None:
    open(os.devnull, "rb", buffering=1).close()  # noqa: PTH123


def connect_by_place() -> None:
    sqlite3.connect(":memory:", 5.0).close()


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (read_by_lines, 1),
        (read_by_lines_by_name, 1),
        pytest.param(connect_by_place, 2 * (sys.version_info >= (3, 13)), marks=only_warned_of),
    ],
)
def test_a_warning_to_its_caller_names_that(session: Session, call: Callable[[], None], number: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    places = [(warning.filename, warning.lineno) for warning in caught]
    assert places == [(__file__, call.__code__.co_firstlineno + 1)] * number


def test_an_error_of_a_call_that_is_warned_of_is_shown_once_and_marks_nothing_in_the_line(session: Session) -> None:
    with warnings.catch_warnings(), pytest.raises(FileNotFoundError) as raised:
        warnings.simplefilter("ignore")
        open("/no/such", "rb", 1)  # noqa: PTH123, SIM115
    (shown,) = raised.traceback.filter(raised)
    assert shown.path == Path(__file__)
    last = traceback.extract_tb(raised.tb)[-1]
    assert (last.filename, last.lineno, last.name, last.colno) == (__file__, shown.lineno + 1, shown.name, None)


@pytest.mark.parametrize("call", [read_by_lines, pytest.param(connect_by_place, marks=only_warned_of)])
def test_a_warning_is_passed_over_for_the_callers_module(session: Session, call: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=__name__)
        call()
