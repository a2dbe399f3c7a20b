"""The figures of every pool at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_httpleak.ownership import Watch

if TYPE_CHECKING:
    from pytest_httpleak.model.pools import PoolState


def pools(watch: Watch) -> tuple[PoolState, ...]:
    """The figures of every pool that is open, those of one library together, in the order in which they were made."""
    return tuple(pools_by_record(watch).values())


def pools_by_record(watch: Watch) -> dict[int, PoolState]:
    """The same, by the identity of each pool's record; without one that another thread is just making."""
    states: dict[int, PoolState] = {}
    for record in watch.everything():
        state = getattr(record, "state", None) if record.owner is not None else None
        figures = None if state is None else state()
        if figures is not None:
            states[id(record)] = figures
    return states
