"""The tests that were collected and the wider fixtures that were judged, as far as the baseline names them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_httpleak.asking import attribute
from pytest_httpleak.fixturerows import fixture_row
from pytest_httpleak.model.findings import owner_without_parameters
from pytest_httpleak.reports.baseline import Baseline, name_of
from pytest_httpleak.reports.causes import owner_of_fixture
from pytest_httpleak.reports.judged import Judged, file_of, finished
from pytest_httpleak.reports.places import FIXTURE, file_of_test
from pytest_httpleak.reports.text_safety import plain

if TYPE_CHECKING:
    import pytest

    from pytest_httpleak.model.run import Run


class Collected:
    """A plugin of the runs with a baseline. Under xdist each worker has one, and the controller's takes what they hand over."""

    def __init__(self, baseline: Baseline, rootdir: str) -> None:
        self._rootdir = rootdir
        self._owners = {entry.owner for entry in baseline.entries.values()}
        self._has_fixtures = any(owner.startswith(FIXTURE) for owner in self._owners)
        self._items: list[pytest.Item] = []  # an id may yet change, as xdist's groups do it
        self._names: dict[pytest.FixtureDef[Any], str] = {}
        self._tests: dict[str, set[str]] = {}
        self._fixtures: set[str] = set()
        self._files: set[str] = set()

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Take a test, also one that will be deselected."""
        self._items.append(item)

    def take_fixture(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Take a fixture that was set up, torn down and judged."""
        if self._has_fixtures:
            self._fixtures.add(self._name(fixturedef))

    def take(self, data: dict[str, Any]) -> None:
        """Take what the one of a worker has."""
        for owner, nodeids in data["tests"].items():
            self._tests.setdefault(owner, set()).update(nodeids)
        self._fixtures.update(data["fixtures"])
        self._files.update(data["files"])

    def as_data(self) -> dict[str, Any]:
        """All that was taken, as plain data."""
        self._read_items()
        return {
            "tests": {owner: sorted(nodeids) for owner, nodeids in self._tests.items()},
            "fixtures": sorted(self._fixtures & self._owners),
            "files": sorted(self._files),
        }

    def judged(self, run: Run, kinds: Iterable[str], *, is_whole: bool, is_split: bool) -> Judged:
        """What the run has judged: nothing where something was switched off in it."""
        self._read_items()
        files = {file_of(owner) for owner in self._owners} - self._files
        removed = {file for file in files if not Path(self._rootdir, file).exists()}
        return Judged(
            tests=self._tests,
            finished=finished(run, is_split=is_split),
            fixtures=self._fixtures,
            kinds=() if run.disabled else frozenset(kinds),
            files=self._files,
            removed=removed,
            is_whole=is_whole,
        )

    def _read_items(self) -> None:
        for item in self._items:
            self._files.add(plain(file_of_test(item.nodeid)))
            for owner in self._owners_in(item):
                if owner in self._owners:
                    self._tests.setdefault(owner, set()).add(item.nodeid)
        self._items.clear()

    def _owners_in(self, item: pytest.Item) -> Iterator[str]:
        yield plain(owner_without_parameters(item.nodeid))
        if self._has_fixtures:
            known = attribute(attribute(item, "_fixtureinfo"), "name2fixturedefs") or {}
            for fixturedef in (each for definitions in known.values() for each in definitions):
                if fixturedef.scope != "function":
                    yield self._name(fixturedef)

    def _name(self, fixturedef: pytest.FixtureDef[Any]) -> str:
        name = self._names.get(fixturedef)
        if name is None:
            owner = owner_of_fixture(fixture_row(fixturedef, ()), self._rootdir)
            name = self._names[fixturedef] = name_of(owner)
        return name
