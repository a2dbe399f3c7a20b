"""The rows of a run as they come in: from the tests of this process, or from xdist's workers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak import __version__
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.kinds import Outcome
from pytest_httpleak.model.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpleak.collected import Collected
    from pytest_httpleak.model.pools import PoolState
    from pytest_httpleak.model.rows import AuditNote, FixtureRow, Growth, TestRow, TrendPoint
    from pytest_httpleak.session.trend import Trend

# Where a report carries its test's row, also on the way from an xdist worker to the controller.
ROW = "httpleak_row"
CLEAN = "clean"

# Audit notes of a test of which there is nothing else to say.
Notes = tuple["AuditNote", ...]

# By test function and kind: how many leaks are tolerated, how many there were, and whether a tolerance can fail the run.
Needs = dict[str, dict[str, list[int]]]


class Results:
    """What has been found so far. Of a test that ran more than once the last run counts."""

    def __init__(self, rootdir: str) -> None:
        self._rootdir = rootdir
        self._rows: dict[str, TestRow | Notes] = {}  # of a clean test only its notes, as nearly all are
        self._fixtures: list[FixtureRow] = []
        self._errors: list[str] = []
        self._trend: list[TrendPoint] = []
        self._pools: list[PoolState] = []
        self._growth: list[Growth] = []
        self._seconds = 0.0
        self._workers = 0
        self._lost_workers = False
        self.usage_error = ""
        self.remarks: list[str] = []  # for the summary in the terminal
        self._began = Real.perf_counter()
        self.needed: Needs = {}
        self.collected: Collected | None = None  # where there is a baseline

    def take(self, report: pytest.TestReport) -> None:
        """Take the rows that a report carries."""
        data = getattr(report, ROW)
        if data == CLEAN:
            self.add_clean(report.nodeid)
            return
        from pytest_httpleak.model.data import fixture_row_from_data, test_row_from_data

        row = test_row_from_data(data["test"]) if "test" in data else None
        self.add(row, [fixture_row_from_data(each) for each in data["fixtures"]], data.get("tolerances", {}))

    def add(self, row: TestRow | None, fixtures: list[FixtureRow], needs: Needs) -> None:
        """Take a test's row, those of the fixtures that ended with it, and what tolerances were needed for."""
        if row is not None:
            self._rows[row.nodeid] = row
        for place, kinds in needs.items():
            self._note_need(place, kinds)
        self._fixtures += fixtures

    def add_clean(self, nodeid: str, notes: Notes = ()) -> None:
        """Take a test of which there is nothing to say but these notes."""
        self._rows[nodeid] = notes

    def _note_need(self, place: str, kinds: dict[str, list[int]]) -> None:
        known = self.needed.setdefault(place, {})
        for kind, (allowed, *others) in kinds.items():
            known[kind] = [allowed, *map(max, others, known.get(kind, (allowed, 0, 0))[1:])]

    def add_fixture(self, row: FixtureRow) -> None:
        """Take the row of a fixture that ended after the last test."""
        self._fixtures.append(row)

    def remark(self, text: str) -> None:
        """Let the summary say this, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def take_from_worker(self, output: dict[str, Any] | None) -> None:
        """Take what an xdist worker found outside its tests' reports; None from one that has crashed."""
        if output is None:
            self._lost_workers = True
            return
        from pytest_httpleak.model.data import fixture_row_from_data, growth_from_data, pool_from_data
        from pytest_httpleak.model.rows import TrendPoint

        self._workers += 1
        self.usage_error = self.usage_error or output["usage_error"]
        for text in output["remarks"]:
            self.remark(text)
        self._seconds += output["seconds"]
        self._fixtures += [fixture_row_from_data(each) for each in output["fixtures"]]
        self._errors += [each for each in output["errors"] if each not in self._errors]
        self._trend += [TrendPoint(name, numbers) for name, numbers in output["trend"]]
        self._pools += [pool_from_data(each) for each in output["pools"]]
        self._growth += [growth_from_data(each) for each in output["growth"]]
        if self.collected is not None:
            self.collected.take(output["collected"])

    def output(self, seconds: float, errors: list[str], trend: Trend | None, growth: list[Growth]) -> dict[str, Any]:
        """What a worker hands to the controller at its end."""
        from pytest_httpleak.model.data import fixture_row_as_data, growth_as_data, pool_as_data

        return {
            "usage_error": self.usage_error,
            "remarks": self.remarks,
            "seconds": seconds,
            "fixtures": [fixture_row_as_data(row) for row in self._fixtures],
            "errors": errors,
            "trend": [] if trend is None else [(point.nodeid, point.open) for point in trend.points()],
            "pools": [] if trend is None else [pool_as_data(each) for each in trend.pools()],
            "growth": [growth_as_data(each) for each in growth],
            "collected": None if self.collected is None else self.collected.as_data(),
        }

    def run(
        self,
        seconds: float,
        errors: list[str],
        trend: Trend | None,
        growth: list[Growth],
        *,
        complete: bool,
        every_row: bool = True,
    ) -> Run:
        """All that the run has found; the clean tests are counted, and have rows of their own if `every_row` is true."""
        run = Run(
            version=__version__,
            python=sys.version.partition(" ")[0],
            platform=sys.platform,
            rootdir=self._rootdir,
            seconds=Real.perf_counter() - self._began,
        )
        run.processes = max(1, self._workers)
        run.fixtures = list(self._fixtures)
        run.pools = self._pools + ([] if trend is None else trend.pools())
        run.trend = self._trend + ([] if trend is None else trend.points())
        run.growth = together([*self._growth, *growth])
        run.disabled = list(dict.fromkeys([*errors, *self._errors]))
        for row in self._told(clean=every_row):
            run.count(row)
        if not every_row:
            clean = sum(1 for row in self._rows.values() if not row)
            run.summary.checked += clean
            run.summary.clean += clean
        run.summary.complete = complete and not self._lost_workers
        run.summary.seconds_in_plugin = round(seconds + self._seconds, 6)
        return run

    def _told(self, *, clean: bool) -> Iterator[TestRow]:
        """The rows of all tests, or of those of which there is something to say."""
        for nodeid, row in self._rows.items():
            if not isinstance(row, tuple):
                yield row
            elif row or clean:
                from pytest_httpleak.model.rows import TestRow  # here, as a clean run shows none

                yield TestRow(nodeid, Outcome.CLEAN, (), row, 1, 1, True)


def together(found: list[Growth]) -> list[Growth]:
    """What has grown in several workers is one cause, and its slope that of their tests together."""
    if not found:
        return []
    from pytest_httpleak.model.facts import replace

    merged: dict[tuple[object, ...], Growth] = {}
    for each in found:
        key = (each.kind, each.library, each.created or each.type)
        other = merged.get(key)
        if other is not None:
            tests = other.tests + each.tests
            slope = round((other.slope * other.tests + each.slope * each.tests) / tests, 2)
            each = replace(each, first=other.first + each.first, last=other.last + each.last, tests=tests, slope=slope)  # noqa: PLW2901  # the sum of the two takes the place of the second
        merged[key] = each
    return sorted(merged.values(), key=lambda each: -each.slope)
