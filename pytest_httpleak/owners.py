"""Who answers for what is made, and the highest numbers that were open while they lived."""

from __future__ import annotations

import threading
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.records import Record
from pytest_httpleak.sites import Birth
from pytest_httpleak.values import Values

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect

# Records an owner may collect before the finished ones among them are dropped: a session's server makes them for hours.
_PRUNE_AT = 512


# From the longest to the shortest.
_SCOPES = ("process", "session", "package", "module", "class", "function", "block")
_OF_WIDER_FIXTURES = ("session", "package", "module", "class")


class Taken:
    """An audit note, as often as it was taken one time after the other from the same lines."""

    __slots__ = ("birth", "count", "hint", "message", "name")

    def __init__(self, name: str, message: str, hint: str, birth: Birth) -> None:
        self.name = name
        self.message = message
        self.hint = hint
        self.birth = birth
        self.count = 1

    def says(self, message: str, hint: str, birth: Birth) -> bool:
        """Whether it is the same once more: then neither another stack is kept, nor another place is told."""
        mine = self.birth
        is_same = birth is mine or (birth.frames == mine.frames and birth.parent is mine.parent)
        return is_same and message == self.message and hint == self.hint


class Owner:
    """The process, a fixture of a wider scope, a test, or a checked block: what it made, until it is judged."""

    __slots__ = (
        "cls",
        "descriptors",
        "grace",
        "inside",
        "left",
        "left_tasks",
        "name",
        "noted",
        "notes",
        "over",
        "parent",
        "peaks",
        "prune_at",
        "pruning",
        "raised",
        "records",
        "scope",
        "values",
    )

    def __init__(self, name: str, scope: str, parent: Owner | None = None) -> None:
        self.name = name
        self.scope = scope
        self.parent = parent
        self.records: list[Record] = []
        self.inside: list[Owner] = []  # blocks that are set aside with a wider fixture, until it is torn down
        self.left: list[Suspect] = []  # what ended with its loop: pending tasks, what generators had open
        self.left_tasks: dict[int, Record] = {}  # by key: such tasks, which may be kept after their end
        self.notes: list[Taken] = []  # audit notes
        self.noted = 0  # all that were taken, of the same as well
        self.raised: tuple[int, ...] = ()  # addresses of errors that have ended it: somebody else may keep them
        self.descriptors = 0  # bare ones that it was given, so that a look knows whether there is any to ask for
        self.grace = 0.5  # seconds
        self.over = False
        self.values: Values | None = None  # of a fixture that is set up
        self.cls: type | None = None  # of tests, where it is a fixture of that scope
        self.peaks: Peaks | None = None
        self.prune_at = _PRUNE_AT
        self.pruning = threading.Lock()

    def __repr__(self) -> str:
        return f"<Owner {self.scope} {self.name}>"

    def is_within(self, other: Owner) -> bool:
        """Whether that is a block of the other one's: around blocks is always a test or fixture, and no block."""
        return self.parent is other

    def outlives(self, other: Owner) -> bool:
        """Whether what this one has made may be used by what the other has, and is still there when that is judged.

        Of two fixtures of the same scope, the one that is given what the other has made is the first to be torn down.
        """
        if self is other or self.over:
            return False
        mine, others = _SCOPES.index(self.scope), _SCOPES.index(other.scope)
        return mine < others or (mine == others and self.scope in _OF_WIDER_FIXTURES)

    def values_now(self) -> list[object]:
        """The objects through which a fixture that is set up may make something."""
        return [] if self.values is None else self.values.now()

    def leave(self, suspects: list[Suspect], tasks: dict[int, Record]) -> None:
        """Take what ended with its loop."""
        self.left += suspects
        self.left_tasks |= tasks

    def keep(self, record: Record) -> None:
        """Take a record; now and then forget those of which nothing can be said any more."""
        self.records.append(record)
        if len(self.records) >= self.prune_at and self.pruning.acquire(blocking=False):
            try:
                self._prune()
            finally:
                self.pruning.release()

    def _prune(self) -> None:
        """Forget in the same list, at whose end other threads put theirs meanwhile."""
        known = list(self.records)
        self.records[: len(known)] = [record for record in known if not record.is_over()]
        self.prune_at = max(_PRUNE_AT, 2 * len(self.records))


class Peaks:
    """The highest numbers open at once, kept exactly: they can only rise at a birth, so that is when to count.

    `holders` are what was open then, as a test may set or change its limits while it runs. `busy` is set while what is made
    is not to count. Births of several threads are counted one after the other.
    """

    def __init__(self) -> None:
        self.holders: dict[Kind, list[Record]] = {}
        self.open: dict[Kind, list[Record]] = {}
        self.busy = False
        self._lock = threading.RLock()
        self._looking: set[int] = set()  # the threads that are at it
        self.clients_made: list[Record] = []

    def highest(self, kind: Kind) -> int:
        """The highest number of that kind open at once so far."""
        return len(self.holders.get(kind, ()))

    def clients(self) -> list[Record]:
        """The clients that were made, closed ones too; not the transports and pools inside them."""
        return [record for record in self.clients_made if not record.inner]

    def born(self, record: Record) -> None:
        """Count one birth against what of that kind is still open."""
        thread = get_ident()
        if self.busy or thread in self._looking:  # looking at a resource may make another one; that is not the test's
            return
        kind = record.kind
        if kind is Kind.CLIENTS:
            self.clients_made.append(record)
        self._looking.add(thread)
        try:  # without the lock, since a look may wait for another thread
            closed = {id(other) for other in self.open.get(kind, ()) if not other.is_open()}
        finally:
            self._looking.discard(thread)
        with self._lock:
            alive = [other for other in self.open.get(kind, ()) if other is not record and id(other) not in closed]
            alive.append(record)
            self.open[kind] = alive
            if len(alive) > self.highest(kind):
                self.holders[kind] = alive


class TaskRecord(Record):
    """A task that may be over: for the highest number pending at once, or as it was left; its loop tells which are pending."""

    kind = Kind.TASKS
    LIBRARY = "asyncio"

    def __init__(self, task: Any, birth: Birth | None) -> None:
        super().__init__()
        self.ref = weakref.ref(task)
        self.birth = birth

    def is_open(self) -> bool:
        task = self.ref()
        return task is not None and not task.done()
