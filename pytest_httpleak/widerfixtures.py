"""Fixtures of wider scopes than a test's: each answers for what it makes until it has been torn down."""

from __future__ import annotations

import functools
import opcode
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.nodes import Node

from pytest_httpleak.asking import attribute, is_a, module_of
from pytest_httpleak.owners import Owner
from pytest_httpleak.settings import Mode, settings_for
from pytest_httpleak.userfiles import is_user_file
from pytest_httpleak.values import Place, Values, places_of

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard
    from pytest_httpleak.model.kinds import Outcome
    from pytest_httpleak.model.rows import FixtureRow
    from pytest_httpleak.session.checks import Check


_STORE_GLOBAL = opcode.opmap["STORE_GLOBAL"]


class WiderFixtures:
    """Begins and ends the lives of wider fixtures, and keeps the rows of those that leak until a report carries them."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._session = guard.session
        self.pending: list[FixtureRow] = []  # of those that ended with the test
        self._untold: list[FixtureRow] = []  # those among them that no report says yet
        self.during: pytest.Item | None = None  # the test that is running, or whose teardown ends a fixture
        self.has_late_leaks = False

    def rows_to_tell(self, outcome: Outcome) -> list[FixtureRow]:
        """The rows of the fixtures that ended with this test and have that outcome; they are handed out once."""
        rows = [row for row in self._untold if row.outcome is outcome]
        self._untold = [row for row in self._untold if row.outcome is not outcome]
        return rows

    def take(self) -> list[FixtureRow]:
        """All rows of the fixtures that ended with this test, for its report."""
        pending, self.pending, self._untold = self.pending, [], []
        return pending

    @contextmanager
    def ending_with(self, item: pytest.Item) -> Iterator[None]:
        """Let the fixtures that are torn down in a block end with that test."""
        self.during = item
        try:
            yield
        finally:
            self.during = None

    @contextmanager
    def repeating(self) -> Iterator[None]:
        """Let nothing be told of the fixtures that a repetition of a test sets up again and ends."""
        pending, untold = list(self.pending), list(self._untold)
        try:
            yield
        finally:
            self.pending, self._untold = pending, untold

    def watch_nodes_above(self, item: pytest.Item) -> None:
        """Let what stands above a test, and is set up for it, answer for what its own set-up makes: a package's, for one.

        That lasts until the last test below is over, and is not judged.
        """
        for node in item.listchain()[len(item.session._setupstate.stack) : -1]:
            if type(node).setup is not Node.setup and "setup" not in node.__dict__:
                node.__dict__["setup"] = functools.partial(self._set_up, node)

    def _set_up(self, node: Node) -> None:
        __tracebackhide__ = True
        node.__dict__.pop("setup", None)
        owner, session = Owner(node.nodeid, "process"), self._session
        session.watch.push(owner)
        try:
            node.setup()
        finally:
            session.safely(session.watch.pop, owner)
            session.safely(session.ledger.adopt, owner)
            session.safely(session.accept_defaults)

    @contextmanager
    def setting_up(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[None]:
        """The set-up of a wider fixture, which answers for what it makes until it has been torn down."""
        begun: list[Check] = []
        places: list[Place] = []
        filled: list[tuple[Values, set[int]]] = []
        self._session.safely(self._begin, fixturedef, request, begun)
        self._session.safely(lambda: places.extend(_places(fixturedef, request)))
        self._session.safely(lambda: filled.extend(self._growing(fixturedef)))
        try:
            yield
        finally:
            for check in begun:
                self._session.safely(self._leave, fixturedef, request, check, places)
            for values, before in filled:
                self._session.safely(values.learn, before)

    def _growing(self, fixturedef: pytest.FixtureDef[Any]) -> list[tuple[Values, set[int]]]:
        """What the fixtures that this one asks for have given, and it may put something into."""
        keepers = self._session.watch.keepers if fixturedef.argnames else ()
        values = [each.values for each in keepers if each.name in fixturedef.argnames and each.values is not None]
        return [(each, each.elements()) for each in values if each.can_grow()]

    def _begin(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, begun: list[Check]) -> None:
        settings = settings_for(request.node, self._guard.settings)  # by the marks on its module or class
        check = self._session.begin(fixturedef.argname, fixturedef.scope, settings)
        begun.append(check)
        check.owner.cls = attribute(request, "cls") if fixturedef.scope == "class" else None
        # The first of its finalizers runs last.
        fixturedef.addfinalizer(lambda: self._session.safely(self._end, fixturedef, check))

    def _leave(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, check: Check, places: list[Place]
    ) -> None:
        """The fixture has been set up: whoever was being set up or run before answers again."""
        watch = self._session.watch
        watch.pop(check.owner)
        self._session.ledger.adopt(check.owner)
        self._session.accept_defaults()
        result = fixturedef.cached_result
        if result is not None and result[2] is None:
            names = [place.new_names() for place in places]
            check.owner.values = Values(result[0], names, lambda: _finalizers(fixturedef))
            watch.keepers.append(check.owner)
            check.finished = True
        # The last of its finalizers runs first.
        fixturedef.addfinalizer(lambda: self._session.safely(self._resume, request, check))

    def _resume(self, request: pytest.FixtureRequest, check: Check) -> None:
        """A wider fixture's teardown begins: it answers again for what is made."""
        item: Any = request.node
        if isinstance(item, pytest.Item) and not _has_own_fixtures(item):
            self._guard.end_test(item)  # of class scope outside any class: it ends with the test, judged before it
        self._session.resume(check)

    def _end(self, fixturedef: pytest.FixtureDef[Any], check: Check) -> None:
        watch = self._session.watch
        check.owner.values = None
        watch.keepers = [each for each in watch.keepers if each is not check.owner]
        self._session.accept_defaults()
        if self._guard.settings.mode is Mode.MARKED:
            self._session.drop(check)
            return
        self._session.end(check)
        collected = self._guard.results.collected
        if collected is not None and check.finished and not check.is_unchecked:
            collected.take_fixture(fixturedef)
        if not check.findings:
            return
        from pytest_httpleak.fixturerows import fixture_row

        row = fixture_row(fixturedef, check.findings)
        if self.during is None:  # torn down after the last test, as after -x: nobody's report is left to carry it
            self._guard.results.add_fixture(row)
            self.has_late_leaks = self.has_late_leaks or bool(check.leaks)
        else:
            self.pending.append(row)
            self._untold.append(row)


def _places(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> list[Place]:
    """Where a fixture of that scope may put something for its tests, as `setUpClass` and `setup_module` do."""
    own = sys.modules.get(str(attribute(fixturedef.func, "__module__"))) if _sets_globals(fixturedef.func) else None
    name = {"class": "cls", "module": "module"}.get(fixturedef.scope)
    place = None if name is None else attribute(request, name)
    found = [] if place is None else places_of(place)
    return found if own is None or own is place else [*found, Place(own)]


def _sets_globals(function: Any) -> bool:
    """Whether a fixture's function says `global` of a name that it sets: most need no look at their module."""
    code = attribute(attribute(function, "__wrapped__", function), "__code__")
    return is_a(code, CodeType) and _STORE_GLOBAL in code.co_code[::2]


def _finalizers(fixturedef: pytest.FixtureDef[Any]) -> list[object]:
    """What the user's code has registered to be called at a fixture's end: of a function, what the user has written."""
    return [each for each in list(attribute(fixturedef, "_finalizers", ())) if _is_written(each)]


def _is_written(finalizer: Any) -> bool:
    function = finalizer.func if is_a(finalizer, functools.partial) else finalizer
    if is_a(function, MethodType) and module_of(function.__self__).startswith("_pytest."):  # that ends another fixture
        return False
    return not is_a(function, FunctionType) or is_user_file(function.__code__.co_filename)


def _has_own_fixtures(item: Any) -> bool:
    """Whether a fixture of function scope is still set up for a test."""
    definitions = getattr(getattr(item, "_request", None), "_fixture_defs", {}).values()
    return any(each.scope == "function" and each.cached_result is not None for each in definitions)
