"""Compares what a function leaked with the comments beside its own lines: `# leak: KIND [xN] [STATE]`."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings, settings_from_keywords
from pytest_httpleak.values import Values

Leaks = Callable[..., tuple[Finding, ...]]
Found = Counter[tuple[int, str, str]]

_COMMENT = re.compile(r"#\s*leak:\s*(?P<kind>[a-z]+)(?:\s+x(?P<count>\d+))?(?:\s+(?P<state>[a-z]+))?\s*$")
_STATES = {"tasks": "pending", "threads": "running"}


def expected(function: Callable[..., Any]) -> Found:
    """What the comments in a function say: how many leaks at which line, of which kind and state."""
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    found: Found = Counter()
    for number, line in enumerate(lines, first):
        match = _COMMENT.search(line)
        if match:
            state = match["state"] or _STATES.get(match["kind"], "open")
            found[number, match["kind"], state] += int(match["count"] or 1)
    return found


def seen(findings: tuple[Finding, ...]) -> Found:
    """What the findings say, in the same form; a finding without a line of its own has the line 0."""
    found: Found = Counter()
    for finding in findings:
        line = 0 if finding.created is None else finding.created.line
        found[line, finding.kind.value, finding.state.value] += finding.count
    return found


class Marked:
    """Runs functions as tests would be run, and holds what they leak to the comments beside their lines."""

    def __init__(self, session: Session, leaks: Leaks, kept: list[Any]) -> None:
        self.session = session
        self.kept = kept
        self.found = leaks

    def __call__(self, function: Callable[..., Any], *helpers: Callable[..., Any]) -> tuple[Finding, ...]:
        """The findings of a function, which are those that its comments, and those of its helpers, announce."""
        findings = self.found(function)
        wanted: Found = sum((expected(each) for each in (function, *helpers)), Counter())
        assert seen(findings) == wanted, findings
        return findings

    @contextmanager
    def fixture(self, *functions: Callable[..., Any], scope: str = "module") -> Iterator[Life]:
        """A fixture of a wider scope: set up at the beginning of the block, torn down and judged at its end."""
        life = Life(self.session, scope)
        yield life
        life.end()
        wanted: Found = sum((expected(each) for each in functions), Counter())
        assert seen(life.check.findings) == wanted, life.check.findings


class Life:
    """The life of one wider fixture: what is made in `during()` is its own."""

    def __init__(self, session: Session, scope: str) -> None:
        settings = settings_from_keywords(default_settings(), {"grace": 0.02}, "a fixture")
        self.session = session
        self.check: Check = session.begin("wide", scope, settings)
        self._suspend()

    def _suspend(self) -> None:
        self.session.watch.pop(self.check.owner)
        self.session.ledger.adopt(self.check.owner)

    @contextmanager
    def during(self) -> Iterator[None]:
        """Set-up or tear-down: what is made now belongs to the fixture."""
        self.session.watch.push(self.check.owner)
        yield
        self._suspend()

    def make(self, function: Callable[[], Any]) -> Any:
        """The result of a function that is called in the fixture's set-up."""
        with self.during():
            return function()

    def keep(self, value: object) -> None:
        """Let that be the fixture's value."""
        self.check.owner.values = Values(value)
        self.session.watch.keepers.append(self.check.owner)

    def end(self) -> None:
        """Judge the fixture."""
        self.check.owner.values = None
        self.session.watch.keepers = [each for each in self.session.watch.keepers if each is not self.check.owner]
        self.session.watch.push(self.check.owner)
        self.session.end(self.check)


def in_kinds(session: Session, function: Callable[[], object], *kinds: Kind) -> tuple[Finding, ...]:
    """What a function has leaked, where only these kinds are watched."""
    check = session.begin("test_x", "function", replace(default_settings(), kinds=frozenset(kinds), grace=0.1))
    function()
    session.end(check)
    return check.findings


def closed(things: list[Any]) -> None:
    """Close whatever tests have kept, last first."""
    while things:
        thing = things.pop()
        for name in ("close", "clear"):
            close = getattr(thing, name, None)
            if close is not None:
                close()
                break
        else:
            pytest.fail(f"nothing closes {thing!r}")


def wake(session: Session) -> None:
    """Let a watch that was silenced see again."""
    session.watch.on = True
    for wall in session.watch.walls:
        wall.on = True
