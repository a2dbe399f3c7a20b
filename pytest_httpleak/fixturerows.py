"""Names a wider fixture in the report: by what its author has written, whatever pytest has put around it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_httpleak.model.findings import Finding, outcome_of
from pytest_httpleak.model.rows import FixtureRow


def fixture_row(fixturedef: pytest.FixtureDef[Any], findings: tuple[Finding, ...]) -> FixtureRow:
    """The row of a fixture that left something behind."""
    name, code = fixturedef.argname, _code(fixturedef.func)
    if name.startswith(("_xunit_", "_unittest_")):  # pytest's own, around what the user has written
        inner = list(filter(None, map(_code, _enclosed(fixturedef.func))))
        inner.sort(key=lambda each: not each.co_name.lower().startswith("setup"))
        name, code = (inner[0].co_name, inner[0]) if inner else (name, code)
    return FixtureRow(
        name=name,
        scope=fixturedef.scope,
        baseid=fixturedef.baseid,
        file="" if code is None else code.co_filename,
        line=0 if code is None else code.co_firstlineno,
        outcome=outcome_of(findings),
        findings=findings,
    )


def _code(function: Any) -> Any:
    """The code of the function that the user has written, within what decorators have put around it."""
    while not hasattr(function, "__code__") or hasattr(function, "__wrapped__"):
        inner = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
        if inner is None:
            return getattr(getattr(function, "__func__", None), "__code__", None)
        function = inner
    return function.__code__


def _enclosed(function: Any) -> list[Any]:
    values = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return [value for value in values if callable(value) and not isinstance(value, type)]
