"""What grows test after test, whoever owns it and however much of it each test may leave: one cause with its slope."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final

from pytest_httpleak.asking import collect
from pytest_httpleak.model.rows import Growth
from pytest_httpleak.ownership import Watch
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.linecounts import KEEPS, Key, LineCounts
from pytest_httpleak.session.looking import Looking

# What grows has become more after so many different tests; what is made at first use becomes more after one or two.
_FEWEST_RISES: Final = 8
# What must be added before it is worth another look: one part in so many of what is there.
_SHARE: Final = 16

_HINTS: Final = {
    KEEPS: "read each response to its end so that its connection is used again, or limit how many the pool keeps",
    "": "something keeps one more of these for each {}: close it where it is made, or bound what keeps it",
}


class GrowthWatch:
    """Counts what is open by the line that made it, after tests that have left something, or more open than ever.

    The looks come at ever greater distances, and keep two numbers for each line whose count has changed. A test that has
    opened nothing pays for none of this.
    """

    def __init__(self, watch: Watch, ledger: Ledger, looking: Looking) -> None:
        self._watch = watch
        self._ledger = ledger
        self._lines = LineCounts(watch, ledger, looking)
        self._test = 0  # the number of the last test that was looked after
        self._weight = 0  # how many records and descriptors there were at that time
        self._heavier = 0  # so many are worth a look
        self._later = 0  # and so is any other number after the test of this one
        self._left = 0  # tests that have left something
        self._more_left = 1  # so many of them are worth a look
        self._looks = 0
        self._lasting: list[dict[int, Any]] = []  # the records of those tables that are weighed
        self._tables = 0  # of how many tables they were chosen
        self._counts: dict[Key, array[int]] = {}  # test, number, test, number, ...

    def note(self, test: int, *, has_left: bool, is_last: bool) -> None:
        """Look after the test of that number, if it is worth it."""
        self._left += has_left
        tables = self._watch.tables()
        if len(tables) != self._tables:
            self._tables = len(tables)
            self._lasting = [table.records for table in tables if not table.passing]
        weight = sum(map(len, self._lasting)) + (self._ledger.count or 0)
        is_heavy = weight >= self._heavier or (weight != self._weight and test >= self._later)
        if not is_last and not is_heavy and self._left < self._more_left:
            return
        if is_last and self._looks < _FEWEST_RISES - 1:  # then nothing can have become more often enough
            return
        self._weight, self._test = weight, test
        self._heavier = max(self._heavier, weight + 1 + weight // _SHARE)
        self._more_left = self._left + 1 + self._left // _SHARE
        self._later = test + 1 + test // _SHARE
        self._look(is_last=is_last)

    def found(self) -> list[Growth]:
        """What has grown, the steepest first."""
        grown = [self._growth(key) for key, counts in self._counts.items() if grows(counts)]
        return sorted(grown, key=lambda each: (-each.slope, -each.last))

    def _look(self, *, is_last: bool) -> None:
        self._looks += 1
        self._count(self._lines.now())
        if is_last and any(grows(each) for each in self._counts.values()):
            # Now it is worth the time to leave out what nothing refers to any more, and what another one answers for.
            collect()
            self._count(self._lines.now(thorough=True))
            for key, counts in self._counts.items():
                if grows(counts):
                    self._lines.name_keeper(key)

    def _count(self, counts: dict[Key, int]) -> None:
        for key in counts.keys() | self._counts.keys():
            self._put(self._counts.setdefault(key, array("L")), counts.get(key, 0))

    def _put(self, counts: array[int], number: int) -> None:
        if counts and counts[-2] == self._test:
            counts[-1] = number
        elif not counts or counts[-1] != number:
            counts.extend((self._test, number))

    def _growth(self, key: Key) -> Growth:
        counts, told = self._counts[key], self._lines.told[key]
        return Growth(
            kind=told.kind,
            library=told.library,
            type=told.type,
            created=told.created,
            summary=told.summary,
            first=counts[1],
            last=counts[-1],
            tests=counts[-2] - counts[0] + 1,
            slope=round(slope(counts), 2),
            held_by=told.held_by,
            hint=hint_for(told.type, "test"),
        )


def hint_for(type_name: str, each: str) -> str:
    """How to mend what grows with each test or call, by the type that it is told with."""
    return _HINTS.get(type_name, _HINTS[""]).format(each)


def grows(counts: Sequence[int]) -> bool:
    """Whether a count has become more again and again, and is as high as ever: not what comes and goes."""
    highest = rises = 0
    for number in counts[1::2]:
        if number > highest:
            highest, rises = number, rises + 1
    return rises >= _FEWEST_RISES and counts[-1] == highest


def slope(counts: Sequence[int]) -> float:
    """How many more there are with each test, by the straight line that comes closest to the counts of all tests between."""
    levels: list[int] = []
    for index in range(0, len(counts) - 2, 2):
        levels += [counts[index + 1]] * (counts[index + 2] - counts[index])
    levels.append(counts[-1])
    middle, mean = (len(levels) - 1) / 2, sum(levels) / len(levels)
    above = sum((test - middle) * (level - mean) for test, level in enumerate(levels))
    return above / sum((test - middle) ** 2 for test in range(len(levels)))
