"""What an adapter knows of the watch that it reports births to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pytest_httpleak.records import Record
from pytest_httpleak.sites import Birth
from pytest_httpleak.tables import Table


class Recorder(Protocol):
    """What an adapter is given to report births to."""

    on: bool
    peaking: int  # by how many the highest number open at once is asked for
    root: Any  # the owner of what belongs to the process
    dying_sockets: dict[int, Any]  # by identity: records of sockets that the collector has begun to finalize
    changes: dict[str, Birth]  # by what was changed for the whole process: where

    def add(self, record: Record, *, opened: bool = True, depth: int = 4) -> None:
        """Give a record its birth, `depth` frames up, and its owner: whoever is responsible for what is made right now."""

    def add_lasting(self, record: Record, *, opened: bool = True) -> None:
        """The same for what answers for others: where a module that is imported makes it, all that is the process's."""

    def add_with(self, record: Record, other: Record) -> None:
        """The same for what is made on the way of another record, which has just been given its birth and owner."""

    def hand_over(self, record: Record, *, depth: int = 4) -> None:
        """Let whoever is running answer for a record that there is already, from here on."""

    def hand_over_unplaced(self, record: Record) -> bool:
        """The same but for the birth, which `place()` gives it before the running call is over; False where that may be late."""

    def place(self, record: Record) -> None:
        """Give a record that was handed over unplaced its birth."""

    def opened(self, record: Record) -> None:
        """Note that a resource is open from now on, for those that ask for the highest number open at once."""

    def owner(self) -> Any:
        """Whoever answers for what is made right now."""

    def maker(self) -> Callable[[], Any] | None:
        """A weak reference to the running task or helper thread; None for the main thread outside any task."""

    def birth(self) -> Birth:
        """The present call stack, or that of whoever made the running task or thread."""

    def table(self, name: str) -> Table:
        """The table of that name, shared by all adapters of this watch."""
