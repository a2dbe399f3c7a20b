"""What a run has found, in the rows of its report."""

from __future__ import annotations

from pytest_httpleak.model.facts import Facts
from pytest_httpleak.model.findings import Finding, Site
from pytest_httpleak.model.kinds import Kind, Outcome


class AuditNote(Facts):
    """Something that allows a leak in production; informs, never fails by itself."""

    name: str
    message: str
    hint: str
    created: Site | None = None
    count: int = 1  # of places


class TestRow(Facts):
    """One checked test in the report."""

    nodeid: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    notes: tuple[AuditNote, ...] = ()
    attempts: int = 1
    repeated: int = 1
    finished: bool = True  # nothing has failed or skipped it before its end, but for a leak that it shows


class FixtureRow(Facts):
    """One fixture of a wider scope that left something behind."""

    name: str
    scope: str
    baseid: str
    file: str
    line: int
    outcome: Outcome
    findings: tuple[Finding, ...] = ()


class Growth(Facts):
    """One line that leaves more and more open, test after test: `first` after the beginning of the run, `last` at its end."""

    kind: Kind
    library: str
    type: str
    created: Site | None
    summary: str
    first: int
    last: int
    tests: int
    slope: float  # resources per test
    held_by: str | None = None
    hint: str = ""


class TrendPoint(Facts):
    """How many of each kind were open in the process after one test."""

    nodeid: str
    open: dict[str, int]
