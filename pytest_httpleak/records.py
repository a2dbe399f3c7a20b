"""Records of resources, taken at birth: a weak reference, the birth and the owner; never the resource itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from pytest_httpleak.asking import own_attribute
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.sites import Birth

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Held, Suspect

# The task in which anyio's pytest plugin runs every fixture and test, and the one that waits for it, which a test's timeout
# leaves pending: for what these two tasks make, the test or fixture that is being run answers.
RUNNER_TASKS = frozenset(("TestRunner._run_tests_and_fixtures", "TestRunner._call_in_runner_task"))
# Tasks in which a runner ends its loop, and anyio's that waits for that end, to end its pool of processes with it.
LOOP_TASKS = frozenset(
    (
        "BaseEventLoop.shutdown_asyncgens",
        "BaseEventLoop.shutdown_default_executor",
        "_shutdown_process_pool_on_exit",
    )
)


class Owner(Protocol):
    """Who answers for what is made: the process, a fixture of a wider scope, a test, a checked block."""

    over: bool

    def outlives(self, other: Any) -> bool:
        """Whether what this one has made may be used by what the other has, and is still there when that is judged."""


WEBSOCKET: Final = (
    "aiohttp.ClientWebSocketResponse"  # what a finding calls one: it is meant to last, as no other response is
)


class Record:
    """One resource that was made while the watch was on. Subclasses know their library's own truth about it."""

    __slots__ = ("birth", "blamed", "inner", "key", "library", "maker", "owner", "ref")

    kind: ClassVar[Kind]
    LIBRARY: ClassVar[str] = ""
    INSIDE: ClassVar[str] = ""  # the way from the object that its users know to what they have of it
    library: str
    key: int
    ref: Callable[[], Any]
    owner: Any
    birth: Birth | None

    def __init__(self) -> None:
        self.library = self.LIBRARY
        self.blamed = False
        self.inner = False  # part of a client that is recorded itself
        self.birth = None
        self.owner = None
        self.maker: Callable[[], Any] | None = None

    def look(self) -> Suspect | None:
        """What this resource is suspected of at this moment, or None while all is well."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Whether the resource counts as open now, for the highest number open at once."""
        return self.ref() is not None

    def is_over(self) -> bool:
        """Whether nothing can be said of the resource any more, so that the record may be forgotten."""
        return False

    def place(self) -> str:
        """Where in what `ref` gives the resource is, in words: `.fd`; nothing where it is the resource itself."""
        return ""

    def kept_as(self) -> Any:
        """What a keeper has of it: the thing itself, most often."""
        return self.ref()

    def as_users_have_it(self) -> Any:
        """What users have of it, where its library has another part of it in its own books."""
        return self.ref()

    def belong_to(self, owner: Any) -> None:
        """Let another owner answer for it."""
        self.owner = owner
        owner.keep(self)

    def descriptors(self) -> Iterator[int]:
        """The open descriptors that this resource answers for."""
        return iter(())

    def is_idle_worker(self) -> bool | None:
        """Whether it is a thread that waits for its next job; None for anything else."""
        return None

    def freed(self, suspect: Suspect) -> Suspect | None:
        """What becomes of a suspicion that only the garbage collector has put right: nothing, or a leak by itself."""
        return None

    def destination(self) -> tuple[Record, str] | None:
        """The pool that a connection belongs to, and the origin that it leads to; None for anything else."""
        return None

    def is_standalone(self) -> bool:
        """Whether it is a connection without a pool, a client by itself."""
        return False

    def exchange(self) -> tuple[str, int | None] | None:
        """What a response was asked for with, and the status that it came with; None for anything else."""
        return None

    def in_flight(self) -> tuple[Held, ...]:
        """What a request that waits for its answer has, which is the leak of whoever waits for it."""
        return ()

    def lose_socket(self) -> None:
        """Note that a socket of this resource has just died open; its pool, say, may have died, too, when that is judged."""

    def orphaned(self, socket: Any) -> Suspect | None:
        """The suspect for a socket of this resource that was dropped while open, when nothing else speaks for it."""
        return None

    def suspect(
        self,
        state: State,
        type_name: str,
        summary: str,
        *,
        library: str | None = None,
        claims: frozenset[object] = frozenset(),
        names: tuple[str, ...] = (),
        holds: tuple[Held, ...] = (),
        always: bool = False,
        depth: int = 0,
        kind: Kind | None = None,
        hint: str = "",
    ) -> Suspect:
        """This record's facts as a suspect."""
        from pytest_httpleak.model.findings import Suspect  # here, as a clean run has none

        birth = self.birth
        return Suspect(
            kind=self.kind if kind is None else kind,
            library=self.library if library is None else library,
            type=type_name,
            state=state,
            summary=summary,
            key=id(self),
            created=None if birth is None else birth.site(),
            stack=() if birth is None else birth.stack(),
            names=names,
            claims=claims,
            always=always,
            holds=holds,
            depth=depth,
            hint=hint,
        )


class Bystander(Record):
    """The record of something that is never suspect itself: what it holds, or what works for it, is."""

    __slots__ = ()

    def look(self) -> Suspect | None:
        return None

    def is_open(self) -> bool:
        return False

    def is_over(self) -> bool:
        return self.ref() is None


def held(kind: Kind, summary: str, fd: int | None = None) -> Held:
    """Something that a resource keeps open with it, for its suspect."""
    from pytest_httpleak.model.findings import Held  # here, as a clean run has no suspect

    return Held(kind, summary, fd)


class Worker:
    """For whom a pooled thread works at the moment, and where the work was submitted."""

    __slots__ = ("birth", "owner")

    def __init__(self, owner: Any, birth: Birth | None) -> None:
        self.owner = owner
        self.birth = birth


def together(origins: Iterable[str]) -> str:
    """The origins that a pool has connections to, in words."""
    names = sorted(set(origins))
    more = f" and {len(names) - _ORIGINS} more" if len(names) > _ORIGINS else ""
    return ", ".join(names[:_ORIGINS]) + more or "(no connection)"


_ORIGINS = 3  # that are named of one pool


def type_name(thing: object) -> str:
    """The name of an object's class as its users write it."""
    return class_name(type(thing))


def class_name(cls: type) -> str:
    """The name of a class as its users write it: below the package that exports it, or else below its module."""
    module = str(cls.__module__)
    package = module.partition(".")[0]
    is_exported = own_attribute(sys.modules.get(package), cls.__qualname__) is cls
    return f"{package if is_exported else module}.{cls.__qualname__}"
