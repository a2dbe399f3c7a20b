"""The row of a test of which there is something to say, with those of the fixtures that ended with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_httpleak.model.findings import outcome_of, owner_without_parameters
from pytest_httpleak.model.kinds import Kind, Outcome, State
from pytest_httpleak.model.rows import FixtureRow, TestRow
from pytest_httpleak.results import Needs
from pytest_httpleak.session.checks import Check
from pytest_httpleak.settings import Mode

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard


def rows(guard: Guard, nodeid: str, check: Check | None) -> tuple[TestRow | None, list[FixtureRow], Needs]:
    """The rows of a test and of the fixtures that ended with it, and what its own tolerances were needed for."""
    fixtures = guard.fixtures.take()
    if check is None:
        return None, fixtures, {}
    outcome = Outcome.UNCHECKED if check.is_unchecked else outcome_of(check.findings)
    if guard.failing_notes(check):
        outcome = Outcome.LEAKED
    elif guard.warning_notes(check) and outcome is not Outcome.LEAKED:
        outcome = Outcome.WARNED
    row = TestRow(nodeid, outcome, check.findings, check.notes, check.runs, check.repeated, check.finished)
    is_tolerant = check.settings.tolerate != guard.settings.default.tolerate
    return row, fixtures, {owner_without_parameters(nodeid): _needs_of(check)} if is_tolerant else {}


def as_data(row: TestRow | None, fixtures: list[FixtureRow], needs: Needs) -> dict[str, Any]:
    """What `Results.add` takes as plain data, for a report that another process may read."""
    from pytest_httpleak.model.data import fixture_row_as_data, test_row_as_data

    data: dict[str, Any] = {"fixtures": [fixture_row_as_data(each) for each in fixtures]}
    if row is not None:
        data["test"] = test_row_as_data(row)
    if needs:
        data["tolerances"] = needs
    return data


def _needs_of(check: Check) -> dict[str, list[int]]:
    """By kind: how many leaks are tolerated, how many there were (or may have been, if not judged), and whether that can fail."""
    tolerate, fails = check.settings.tolerate, check.settings.mode is Mode.FAIL
    if not check.finished or check.is_unchecked:
        return {kind.value: [allowed, allowed, fails] for kind, allowed in tolerate.items()}
    found: dict[Kind, int] = {}
    for finding in check.findings:
        if finding.state is not State.PEAK and not any(finding is each for each in check.of_blocks):
            found[finding.kind] = found.get(finding.kind, 0) + finding.count
    return {kind.value: [allowed, found.get(kind, 0), fails] for kind, allowed in tolerate.items()}
