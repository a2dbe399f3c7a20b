"""What a place of the process or the value of a wider fixture keeps: whoever made it has not leaked it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import WEBSOCKET, Record
from pytest_httpleak.userfiles import is_user_module

SEARCH: Final = 5.0  # seconds of processor time for one question whose answer decides

# Libraries whose clients, pools and connections have records.
KNOWN: Final = frozenset("aiohttp httpcore httpcore2 httpx httpx2 requests urllib3".split())

# Each question about what refers to a resource is a scan of the heap: a line that leaks a thousand may not take minutes.
# Beside a large heap fewer are asked: the first few, and no more once the thread has worked so many seconds since the first.
_QUESTIONS: Final = 20
_IN_ANY_CASE: Final = 4
_LONG: Final = 1.0

# Whether a place of that module, which something is kept in, excuses what those packages have made.
_Excuse = Callable[[str, frozenset[str]], bool]


class Terms(NamedTuple):
    """On what terms a resource of one kind is kept and not leaked.

    `excuse` is asked where one module or class attribute or cached function is the only holder. `of_clients` is what the object
    of any library excuses that is kept there and has made it: a client with its connections, if not of those that are known.
    """

    excuse: _Excuse
    in_containers: bool = True  # its library may keep it in a list or dict of its own
    in_cells: bool = False  # where that is its module's, it has one place for it: others list all there are
    by_attributes: bool = True  # an attribute of any object that lives longer will do, whoever has made it
    passing: str = ""  # a package in whose places it is kept for the moment, beside the one where it is at home
    of_clients: bool = False


def _anywhere(module: str, makers: frozenset[str]) -> bool:
    return True


def _in_a_library(module: str, makers: frozenset[str]) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and not is_user_module(module, file)


def _nowhere(module: str, makers: frozenset[str]) -> bool:
    return False


def _where_it_was_made(module: str, makers: frozenset[str]) -> bool:
    return module.partition(".")[0] in makers


_TERMS: Final = {
    Kind.CLIENTS: Terms(_anywhere),
    # Of connections and sockets a pool keeps those too that it has lost.
    Kind.CONNECTIONS: Terms(_anywhere, in_containers=False),  # those without a pool; of others see below
    Kind.SOCKETS: Terms(_in_a_library, in_containers=False, of_clients=True),
    # Some libraries list whatever threads of theirs are running.
    Kind.THREADS: Terms(_in_a_library, in_cells=True, of_clients=True),
    # What the tested code has opened may hang in a library's module, too.
    Kind.FDS: Terms(_where_it_was_made, of_clients=True),
    # One that the tested code has made and set is also in a place of asyncio's.
    Kind.LOOPS: Terms(_where_it_was_made, passing="asyncio"),
    # What a wider fixture's own object has at work, and has connected itself.
    Kind.TASKS: Terms(_nowhere, in_containers=False, by_attributes=False),
    Kind.RESPONSES: Terms(_nowhere, in_containers=False, by_attributes=False),
}


# What a client has checked out counts, wherever that client is.
_TAKEN: Final = Terms(_in_a_library, in_containers=False)


class Questions:
    """How often it was asked what refers to the resources of each line."""

    def __init__(self) -> None:
        self._asked: dict[Any, int] = {}
        self._began: dict[Any, float] = {}

    def may_ask(self, suspect: Suspect) -> bool:
        """Whether it may be asked once more, after so many of the same line."""
        place = suspect.kind, suspect.created
        asked = self._asked[place] = self._asked.get(place, 0) + 1
        now = Real.thread_time()
        began = self._began.setdefault(place, now)
        return asked <= _IN_ANY_CASE or (asked <= _QUESTIONS and now - began < _LONG)

    def answered(self, suspect: Suspect) -> None:
        """Let no more of that line be asked about, as one of them is shown; where there is a line."""
        if suspect.created is not None:
            self._asked[suspect.kind, suspect.created] = _QUESTIONS

    def start_again(self, suspect: Suspect) -> None:
        """Let each of that line be asked about: it makes what is kept. Hundreds of bare descriptors are a registry that grows."""
        if suspect.key >= 0:
            self._asked[suspect.kind, suspect.created] = 0
            self._began.pop((suspect.kind, suspect.created), None)


def resource_of(suspect: Suspect, records: dict[int, Record]) -> Any:
    """The resource itself, or None where there is none any more."""
    record = records.get(suspect.key)
    return None if record is None or suspect.state is State.COLLECTED else record.ref()


def keepers_of(watch: Watch, owner: Owner) -> list[Owner]:
    """The wider fixtures whose values may have made something while `owner` lived."""
    return [each for each in watch.keepers if each is not owner]


def may_be_excused(suspect: Suspect) -> bool:
    """Whether one of that kind can be."""
    return terms_of(suspect, None) is not None and suspect.state is not State.COLLECTED


def terms_of(suspect: Suspect, record: Record | None) -> Terms | None:
    """On what terms it may be kept; None where it may not be."""
    if suspect.kind is Kind.RESPONSES and suspect.type != WEBSOCKET:
        return None
    return _TAKEN if is_taken(suspect, record) else _TERMS.get(Kind.FDS if suspect.key < 0 else suspect.kind)


def is_taken(suspect: Suspect, record: Record | None) -> bool:
    """Whether it is a connection that is checked out of a pool."""
    return suspect.kind is Kind.CONNECTIONS and not (record is not None and record.is_standalone())


def is_idle_worker(record: Record | None) -> bool | None:
    """Whether a worker waits for its next job: it lives as long as its executor, pool or queue, a client of sorts.

    None for what is none.
    """
    return None if record is None else record.is_idle_worker()
