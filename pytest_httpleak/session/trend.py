"""What was open after each test, and what each pool did: kept only where a report is to show it."""

from __future__ import annotations

import threading
from array import array

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.model.rows import TrendPoint
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import descriptors, tasks
from pytest_httpleak.session.poolfigures import pools_by_record

_KINDS = (Kind.FDS, Kind.SOCKETS, Kind.THREADS, Kind.TASKS)
# Pools that a report can show; those with the most requests are kept.
_MOST_POOLS = 500


class Trend:
    """Four numbers for each test, in the order in which the tests ran: 16 bytes and a reference to the test's name."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._names: list[str] = []
        self._numbers = array("I")
        self._pools: dict[int, PoolState] = {}

    def note(self, nodeid: str) -> None:
        """Count what is open now that this test is over."""
        watch = self._watch
        numbers = (
            descriptors.count() or 0,
            sum(1 for record in watch.table("sockets") if record.is_open()),
            threading.active_count(),
            sum(len(tasks.pending(loop)) for loop in watch.open_loops()),
        )
        self._names.append(nodeid)
        self._numbers.extend(numbers)
        self._pools.update(pools_by_record(watch))
        if len(self._pools) > 2 * _MOST_POOLS:
            self._pools = dict(sorted(self._pools.items(), key=lambda item: -item[1].requests)[:_MOST_POOLS])

    def points(self) -> list[TrendPoint]:
        """The numbers by test."""
        width = len(_KINDS)
        rows = (self._numbers[at : at + width] for at in range(0, len(self._numbers), width))
        return [
            TrendPoint(name, {kind.value: number for kind, number in zip(_KINDS, row, strict=True)})
            for name, row in zip(self._names, rows, strict=True)
        ]

    def pools(self) -> list[PoolState]:
        """The last figures of each pool that was ever seen open after a test, the busiest first."""
        return sorted(self._pools.values(), key=lambda state: -state.requests)[:_MOST_POOLS]
