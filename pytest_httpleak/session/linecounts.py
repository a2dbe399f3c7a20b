"""How many resources are open of each line of code, whoever owns them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak import rules
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.ownership import Watch
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.looking import Looking
from pytest_httpleak.session.poolfigures import pools_by_record

KEEPS: Final = "pool with more and more idle connections"

# What is counted together: kind, library, and the line, or the type of what has none.
Key = tuple[Any, ...]


class LineCounts:
    """Counts what is open; `told` is the last suspect that was seen of each line."""

    def __init__(self, watch: Watch, ledger: Ledger, looking: Looking) -> None:
        self._watch = watch
        self._ledger = ledger
        self._looking = looking
        self.told: dict[Key, Suspect] = {}

    def now(self, *, thorough: bool = False) -> dict[Key, int]:
        """The counts of this moment, one cause being one, and how full the fullest pool of each line is.

        If `thorough`, without what a task or thread answers for that is told itself: worth the time once.
        """
        suspects, numbers = self._open()
        if thorough:
            suspects = self._looking.with_holdings(suspects)
        counts: dict[Key, int] = {}
        for suspect in rules.causes(suspects):
            key = (suspect.kind, suspect.library, suspect.created or suspect.type)
            counts[key] = counts.get(key, 0) + numbers.get(suspect.key, 1)
            self.told[key] = suspect
        for key, number, suspect in self._pools():
            counts[key] = max(counts.get(key, 0), number)
            self.told[key] = suspect
        return counts

    def name_keeper(self, key: Key) -> None:
        """Say of a line what refers to the last one of it: the registry. A search of the heap."""
        from pytest_httpleak.probes import references

        told = self.told[key]
        record = next((each for each in self._watch.everything() if id(each) == told.key), None)
        thing = None if record is None or KEEPS in key else record.ref()
        if thing is not None:
            self.told[key] = replace(told, held_by=references.held_by(thing))

    def _open(self) -> tuple[list[Suspect], dict[int, int]]:
        """Whatever would be a leak if its owner were over now; and of bare descriptors, by key, how many one stands for."""
        executors: set[int] = set()
        looked_at = (self._suspect(record, executors) for record in self._watch.everything())
        found = [suspect for suspect in looked_at if suspect is not None]
        for loop in self._watch.open_loops():
            for task in self._looking.pending(loop):
                known = self._watch.of_task(task)
                if known is not None and not known[0].is_of_protocol():
                    found.append(self._looking.tasks.suspect(task, known[0]))
        bare = self._ledger.census(self._looking.answered_for())
        return [*found, *(suspect for suspect, _ in bare)], {suspect.key: number for suspect, number in bare}

    def _suspect(self, record: Any, executors: set[int]) -> Suspect | None:
        """What a record is suspected of; of the workers of an executor, which has a bound, only the first."""
        executor = record.executor if getattr(record, "pooled", False) else record
        if executor is None or id(executor) in executors:
            return None
        blamed, record.blamed = record.blamed, False  # by a test that was allowed to leave it
        try:
            suspect: Suspect | None = record.look()
            if suspect is not None and executor is not record:  # and not where that worker is over
                executors.add(id(executor))
            return suspect
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._looking.wall.note(error)
            return None
        finally:
            record.blamed = blamed

    def _pools(self) -> Iterator[tuple[Key, int, Suspect]]:
        for identity, figures in pools_by_record(self._watch).items():
            if figures.created is not None:
                key = (Kind.CONNECTIONS, figures.library, figures.created, KEEPS)
                told = Suspect(
                    Kind.CONNECTIONS, figures.library, KEEPS, State.OPEN, repr(figures), identity, figures.created
                )
                yield key, figures.idle, told
