"""What a run has judged of the tests and fixtures that a baseline names: only of that can a leak be said to be gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_httpleak.model.kinds import Outcome
from pytest_httpleak.reports.places import FIXTURE, file_of_test

if TYPE_CHECKING:
    from pytest_httpleak.model.run import Run


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run has come to, by the names that a baseline has for owners.

    `tests` are the ids of those that were collected and are the owner's: a test with all of its parameters, or all that
    ask for a fixture. Those in `finished` and in `fixtures` were judged at their end, for these `kinds`; `files` had tests,
    `removed` are not there. `is_whole` is false where only some tests of the suite have run: others may ask for a fixture.
    """

    tests: Mapping[str, Collection[str]]
    finished: Collection[str]
    fixtures: Collection[str]
    kinds: Collection[str]
    files: Collection[str]
    removed: Collection[str]
    is_whole: bool

    def can_tell(self, owner: str, kind: str) -> bool:
        """Whether an owner would have shown all that it leaks of a kind, or does not exist any more."""
        if kind not in self.kinds:
            return False
        if owner not in self.tests and owner not in self.fixtures:
            return self.is_whole and (file_of(owner) in self.files or file_of(owner) in self.removed)
        is_over = (self.is_whole and owner in self.fixtures) or not owner.startswith(FIXTURE)
        return is_over and all(nodeid in self.finished for nodeid in self.tests.get(owner, ()))


def finished(run: Run, *, is_split: bool) -> set[str]:
    """The ids of the tests that were judged at the end of all that they do, with all of their parameters.

    In a run that `is_split` a test may have run with only some of them.
    """
    done = {row.nodeid for row in run.tests if row.finished and row.outcome is not Outcome.UNCHECKED}
    return {nodeid for nodeid in done if not nodeid.endswith("]")} if is_split else done


def file_of(owner: str) -> str:
    """The file that a test or a fixture is in."""
    return owner.rpartition(", ")[2].removesuffix(")") if owner.startswith(FIXTURE) else file_of_test(owner)
