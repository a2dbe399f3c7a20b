"""`--httpleak-confirm`: a leaking test is run again, and only a leak that repeats fails it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding, steady, unnumbered
from pytest_httpleak.model.kinds import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_httpleak.guard import Guard
    from pytest_httpleak.session.checks import Check


def confirm(guard: Guard, item: pytest.Item, first: Check, run_again: Callable[[], bool]) -> None:
    """Run the test again, up to as often as asked for, until each of its leaks has repeated; then say how often it did.

    Whatever the repetitions do besides leaking is not reported: the first run's result stands, unless that is a leak of a
    checked block that has not repeated. `run_again` says whether it was checked blocks that have ended the test: one that
    they end in the last repetition, too, has leaked in all its runs, if not at the same line.
    """
    leaks = first.leaks
    seen = Counter({_cause(finding): 1 for finding in leaks})
    runs, ended_by_blocks = 1, False
    for _ in range(guard.settings.confirm):
        _make_anew(item)
        with guard.fixtures.repeating():
            ended_by_blocks = run_again()
        runs += 1
        again = guard.check_of(item)
        seen.update({_cause(finding) for finding in (() if again is None else again.leaks)} & set(seen))
        if all(seen[_cause(finding)] > 1 for finding in leaks):
            break
    lasting = {id(finding) for finding in first.of_blocks} if ended_by_blocks else set()
    told = {
        id(finding): _confirmed(finding, seen[_cause(finding)], runs, lasts=id(finding) in lasting)
        for finding in first.findings
    }
    first.of_blocks = tuple(told[id(finding)] for finding in first.of_blocks)
    first.findings = tuple(told.values())
    first.runs, first.repeated = runs, max(seen.values())
    guard.put_check(item, first)


def _make_anew(item: Any) -> None:
    """Have pytest set up the test again from its beginning."""
    if hasattr(item, "_request"):
        item._initrequest()
    if getattr(item, "_instance", item) is None:  # pytest 8.2.2 makes no new instance of a `TestCase` over that
        del item._instance


def _cause(finding: Finding) -> Any:
    return finding.kind, finding.library, finding.created or unnumbered(steady(finding.summary))


def _confirmed(finding: Finding, times: int, runs: int, *, lasts: bool) -> Finding:
    if finding.verdict is not Verdict.LEAKED:
        return finding
    told = replace(finding, summary=f"{finding.summary}, in {times} of {runs} runs")
    return told if times > 1 or lasts else told.judged(Verdict.WARNED)
