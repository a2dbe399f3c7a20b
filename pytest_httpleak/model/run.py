"""All that one run has found, and the counts of its tests by outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_httpleak.model.kinds import Outcome

if TYPE_CHECKING:
    from pytest_httpleak.model.pools import PoolState
    from pytest_httpleak.model.rows import FixtureRow, Growth, TestRow, TrendPoint


class Summary:
    """Counts of checked tests by outcome, and what checking them cost."""

    __slots__ = ("checked", "clean", "complete", "known", "leaked", "seconds_in_plugin", "tolerated", "warned")

    def __init__(self) -> None:
        self.checked = 0
        self.clean = 0
        self.leaked = 0
        self.tolerated = 0
        self.known = 0
        self.warned = 0
        self.complete = True
        self.seconds_in_plugin = 0.0


class Run:
    """All that one pytest run found: what every report is made from."""

    __slots__ = (
        "disabled",
        "fixtures",
        "growth",
        "platform",
        "pools",
        "processes",
        "python",
        "rootdir",
        "seconds",
        "summary",
        "tests",
        "trend",
        "version",
    )

    def __init__(self, *, version: str, python: str, platform: str, rootdir: str, seconds: float = 0.0) -> None:
        self.version = version
        self.python = python
        self.platform = platform
        self.rootdir = rootdir
        self.seconds = seconds
        self.processes = 1  # that have run its tests, side by side
        self.summary = Summary()
        self.tests: list[TestRow] = []
        self.fixtures: list[FixtureRow] = []
        self.pools: list[PoolState] = []
        self.trend: list[TrendPoint] = []
        self.growth: list[Growth] = []
        self.disabled: list[str] = []

    def count(self, row: TestRow) -> None:
        """Take one test's row into the rows and the figures."""
        self.tests.append(row)
        outcome, summary = row.outcome, self.summary
        if outcome is Outcome.UNCHECKED:
            return
        summary.checked += 1
        if outcome is Outcome.CLEAN:  # as most are
            summary.clean += 1
        else:
            setattr(summary, outcome.value, getattr(summary, outcome.value) + 1)
