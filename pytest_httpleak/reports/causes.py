"""Groups findings by cause: one line of code that leaks in many tests is one thing to mend."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.findings import Finding, steady
from pytest_httpleak.model.kinds import State, Verdict
from pytest_httpleak.model.rows import FixtureRow, Growth
from pytest_httpleak.model.run import Run
from pytest_httpleak.reports.notes import counted
from pytest_httpleak.reports.places import FIXTURE, Owner, owner_of_test, relative_path
from pytest_httpleak.reports.text_safety import safe_name
from pytest_httpleak.reports.wording import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORST_FIRST: Final = tuple(Verdict(name) for name in ("leaked", "warned", "known", "tolerated", "ignored"))
_NUMBER: Final = re.compile(r"\d+")


@dataclass(slots=True)
class Cause:
    """One place that leaks one kind of resource, with everybody it happened to; `finding` is the first of them."""

    finding: Finding
    owners: list[Owner] = field(default_factory=list)
    resources: int = 0

    @property
    def extent(self) -> str:
        """`31 tests, 1 fixture, 32 HTTP responses`."""
        fixtures = sum(owner.is_fixture for owner in self.owners)
        tests = len(self.owners) - fixtures
        words = [counted(tests, "test")] if tests else []
        words += [counted(fixtures, "fixture")] if fixtures else []
        if self.finding.state is State.PEAK:
            return ", ".join(words)
        return ", ".join([*words, amount(self.finding.kind, self.resources)])


def owner_of_fixture(row: FixtureRow, rootdir: str) -> Owner:
    """A fixture as the owner of its findings, named with its scope and its line."""
    file = relative_path(row.file, rootdir)
    return Owner(f"{FIXTURE}{row.name}' ({row.scope} scope, {file}:{row.line})", file, row.line, is_fixture=True)


def each_finding(run: Run) -> Iterator[tuple[Owner, Finding]]:
    """All findings of a run with their owners: fixtures first, as one of them stands for many tests."""
    for fixture in run.fixtures:
        for finding in fixture.findings:
            yield owner_of_fixture(fixture, run.rootdir), finding
    for test in run.tests:
        for finding in test.findings:
            yield owner_of_test(test), finding


def causes(run: Run, *verdicts: Verdict) -> list[Cause]:
    """The causes of a run's findings with these verdicts (with none given: of all), worst first."""
    groups: dict[tuple[object, ...], Cause] = {}
    for owner, finding in each_finding(run):
        if verdicts and finding.verdict not in verdicts:
            continue
        cause = groups.setdefault(_key(finding), Cause(finding))
        cause.resources += finding.count
        if owner not in cause.owners[-1:]:  # rows are in order, so that only the last can be the same
            cause.owners.append(owner)
    for cause in groups.values():
        cause.owners = list(dict.fromkeys(cause.owners))
    return sorted(groups.values(), key=_badness)


def growing(run: Run) -> list[Growth]:
    """What grows test after test, save what fails its tests anyway: that is told of already."""
    told = {(finding.kind, finding.created) for _, finding in each_finding(run) if finding.verdict is Verdict.LEAKED}
    return [growth for growth in run.growth if (growth.kind, growth.created) not in told]


def first_names(owners: list[Owner], limit: int) -> str:
    """The first few owners by name, safe to show, and how many more there are."""
    names = ", ".join(safe_name(owner.name) for owner in owners[:limit])
    return names if len(owners) <= limit else f"{names} and {len(owners) - limit:,} more"


def _key(finding: Finding) -> tuple[object, ...]:
    key = (finding.verdict, finding.kind, finding.library, finding.state is State.PEAK)
    if finding.created is None:
        # Ports, descriptors and addresses differ from test to test.
        return (*key, finding.type, _NUMBER.sub("#", steady(finding.summary)))
    return (*key, finding.created)


def _badness(cause: Cause) -> tuple[object, ...]:
    finding = cause.finding
    where = "" if finding.created is None else finding.created.file
    line = 0 if finding.created is None else finding.created.line
    return (_WORST_FIRST.index(finding.verdict), -len(cause.owners), -cause.resources, where, line, finding.summary)
