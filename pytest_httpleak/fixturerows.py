"""Names a wider fixture in the report: by what its author has written, whatever pytest has put around it."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Final

import pytest

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.model.findings import Finding, outcome_of
from pytest_httpleak.model.rows import FixtureRow
from pytest_httpleak.userfiles import is_user_module

_MOST_WRAPPERS: Final = 100  # around a function: what stands in for one may say that it is around ever another one


def fixture_row(fixturedef: pytest.FixtureDef[Any], findings: tuple[Finding, ...]) -> FixtureRow:
    """The row of a fixture that left something behind."""
    name, code = fixturedef.argname, _code(fixturedef.func)
    file, line = ("", 0) if code is None else (code.co_filename, code.co_firstlineno)
    if name.startswith(("_xunit_", "_unittest_")):  # pytest's own, around what the user has written
        name, file, line = _written(_enclosed(fixturedef.func)) or (name, file, line)
    return FixtureRow(
        name=name,
        scope=fixturedef.scope,
        baseid=fixturedef.baseid,
        file=file,
        line=line,
        outcome=outcome_of(findings),
        findings=findings,
    )


def _written(functions: list[Any]) -> tuple[str, str, int] | None:
    """The user's function that sets up, or else the one that tears down, or else their class: others are unittest's."""
    codes = [
        (function, code) for function, code in zip(functions, map(_code, functions), strict=True) if code is not None
    ]
    codes.sort(key=lambda each: not each[1].co_name.lower().startswith("setup"))
    own = [code for function, code in codes if is_user_module(str(attribute(function, "__module__")), code.co_filename)]
    if not own:
        cls = next((each.__self__ for each in functions if is_a(attribute(each, "__self__"), type)), None)
        place = None if cls is None else _place(cls)
        if place is not None:
            return place
        own = [code for _, code in codes]
    return (own[0].co_name, own[0].co_filename, own[0].co_firstlineno) if own else None


def _place(cls: Any) -> tuple[str, str, int] | None:
    module = str(attribute(cls, "__module__"))
    file = attribute(sys.modules.get(module), "__file__")
    if not is_user_module(module, file):
        return None
    try:
        return cls.__qualname__, file, inspect.getsourcelines(cls)[1]
    except (OSError, SyntaxError, TypeError):  # without a source, or with another one by now
        return None


def _code(function: Any) -> Any:
    """The code of the function that the user has written, within what decorators have put around it."""
    for _ in range(_MOST_WRAPPERS):
        if hasattr(function, "__code__") and not hasattr(function, "__wrapped__"):
            break
        inner = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
        if inner is None:
            return getattr(getattr(function, "__func__", None), "__code__", None)
        function = inner
    return getattr(function, "__code__", None)


def _enclosed(function: Any) -> list[Any]:
    values = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return [value for value in values if callable(value) and not isinstance(value, type)]
