"""Who lives longer and keeps what looks leaked: each suspect of a test or fixture is asked about in its turn."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from pytest_httpleak.asking import attribute
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Place
from pytest_httpleak.probes import infrastructure, makers, references, tasks, unseen, ways
from pytest_httpleak.probes.paths import Root
from pytest_httpleak.records import Record
from pytest_httpleak.session.keeping import KNOWN, SEARCH, Questions, Terms, is_idle_worker, is_taken, terms_of
from pytest_httpleak.session.processclients import is_first, is_of_a_client, was_made_for_all
from pytest_httpleak.sites import Birth
from pytest_httpleak.socketrecords import SocketRecord
from pytest_httpleak.userfiles import file_of_class, is_installed_file


def excused(
    fixtures: list[Owner],
    suspects: list[Suspect],
    records: dict[int, Record],
    unsure: set[int],
    placed: set[int],
    *,
    test: CodeType | None,
    seconds: float = SEARCH,
    is_searched: bool = True,
    of_fixture: bool = False,
    own_class: type | None = None,
    places: dict[str, Place],
    handlers: Callable[[], list[Any]] = list,
) -> set[int]:
    """Keys of suspects that live as long as the process: first-use globals, and clients in an attribute of their own.

    So are those that the value of one of the wider fixtures has made when it needed them: that one answers for them then.
    `unsure` takes the keys of those of whom there was no time to find that out: `seconds` of processor time for each; `placed`
    those of the others that some module has.
    `test` is the code of the function that is judged. Where the heap may not be searched, only fixtures are asked. One that
    is over may have made it for another that gives a list, and ends what is in that. `own_class` is the class of tests whose
    fixture is over, with which what that has put into the class's attributes has to end. `places` are those of the process, with
    what was left to them. `handlers` are those that loggers write to for good: what they have is the process's.
    """
    kept = _Kept(
        fixtures,
        records,
        unsure,
        places,
        placed,
        test=test,
        seconds=seconds,
        is_searched=is_searched,
        of_fixture=of_fixture,
        aside=ways.namespace_of(own_class),
        handlers=handlers,
    )
    return {suspect.key for suspect in suspects if _is_a_tools_thread(suspect) or kept.has(suspect)}


class _Kept:
    """The suspects of one question, each asked about in its turn."""

    def __init__(
        self,
        fixtures: list[Owner],
        records: dict[int, Record],
        unsure: set[int],
        places: dict[str, Place],
        placed: set[int],
        *,
        test: CodeType | None,
        seconds: float,
        is_searched: bool,
        of_fixture: bool,
        aside: frozenset[int],
        handlers: Callable[[], list[Any]],
    ) -> None:
        self._fixtures, self._records, self._unsure, self._places = fixtures, records, unsure, places
        self._placed = placed
        self._test, self._seconds, self._is_searched, self._of_fixture = test, seconds, is_searched, of_fixture
        self._aside, self._ask_for_handlers = aside, handlers
        self._keepers = {id(value): each for each in fixtures for value in each.values_now()}
        self._questions, self._made_by = Questions(), _Makers(fixtures, test, seconds)
        self._given_up: set[Kind] = set()

    @functools.cached_property
    def _handlers(self) -> dict[int, Any]:
        return {id(handler): handler for handler in self._ask_for_handlers()}

    def has(self, suspect: Suspect) -> bool:
        """Whether somebody who lives longer keeps it; a wider fixture answers for it from then on."""
        record = self._records.get(suspect.key)
        terms = terms_of(suspect, record)
        if terms is None or record is None or not self._questions.may_ask(suspect):
            return False
        packages, codes = _makers(record.birth, terms), makers.codes_of(record.birth, self._test)
        ends = {} if is_taken(suspect, record) else self._keepers
        if suspect.key < 0 and not (ends or packages or codes):  # the test itself made it, and no fixture is wider
            return False
        is_asked = suspect.kind not in self._given_up and suspect.state is not State.COLLECTED
        thing = record.kept_as() if is_asked else None
        keeper, is_known = self._made_by.of(thing, record) if ends else (None, True)
        if keeper is None and thing is not None:
            keeper = self._who_has(thing, suspect, record)
        is_climbed = self._is_searched and thing is not None and keeper is None and terms.by_attributes
        root = (
            self._climbed(thing, suspect, record, terms=terms, packages=packages, codes=codes) if is_climbed else None
        )
        if root is references.GIVEN_UP:
            self._given_up.add(suspect.kind)
        if suspect.kind in self._given_up or (root is None and keeper is None and not is_known):
            self._unsure.add(suspect.key)
            return False
        keeper = self._keepers.get(id(root.end)) if root is not None else keeper
        if keeper is not None:
            self._questions.start_again(suspect)
            _give(keeper, suspect, self._records)
            return True
        if root is None:
            return False
        self._questions.start_again(suspect)
        if id(root.end) in self._handlers:  # but not what it was last given to log
            return not any(cls.__name__ == "LogRecord" for cls in root.through)
        # Asked of what is excused, too: the place remembers what it has kept.
        is_a_clients = self._is_a_clients(suspect, record, root, thing, codes=codes, of_clients=terms.of_clients)
        is_excused = terms.excuse(root.module, packages) or is_a_clients
        self._placed.update(() if is_excused or root.module not in sys.modules else (suspect.key,))
        return is_excused

    def _climbed(
        self,
        thing: object,
        suspect: Suspect,
        record: Record,
        *,
        terms: Terms,
        packages: frozenset[str],
        codes: set[CodeType],
    ) -> Root | None:
        """The place of the process, fixture or handler that keeps something, as a search of the heap finds it."""
        if suspect.kind is Kind.THREADS and id(_served_by(thing)) in self._handlers:
            return Root("", "", _served_by(thing))
        ends = {} if is_taken(suspect, record) else {**self._handlers, **self._keepers}
        way = ways.Way(packages=packages, ends=ends, in_cells=terms.in_cells, passing=terms.passing, aside=self._aside)
        return _place_of(record, thing, way, codes=codes, seconds=self._seconds)

    def _who_has(self, thing: object, suspect: Suspect, record: Record) -> Owner | None:
        """The fixture whose value has something, whoever has made it: for another fixture, or in a group of tasks."""
        if suspect.kind is Kind.TASKS and self._keepers and record.birth is not None:
            keeper = self._keeper_of_group(thing, record.birth)
            if keeper is not None:
                return keeper
        return _whose_values_contain(thing, self._fixtures) if self._of_fixture else None

    def _keeper_of_group(self, task: object, birth: Birth) -> Owner | None:
        """The fixture that gives the group, asyncio's or anyio's, which has the task, or an object around that."""
        group = tasks.group_of(task, birth)
        if group is None:
            return None
        root = references.process_wide(group, ways.Way(ends=self._keepers), seconds=self._seconds)
        return None if root is None else self._keepers.get(id(root.end))

    def _is_a_clients(
        self, suspect: Suspect, record: Record, root: Root, thing: object, *, codes: set[CodeType], of_clients: bool
    ) -> bool:
        """Whether what is kept there is an executor's idle worker, or the own connection of a client."""
        is_idle = is_idle_worker(record)
        if is_idle is not None:
            return is_idle
        return is_of_a_client(suspect, record, thing, codes, root, of_clients=of_clients) or (
            was_made_for_all(codes, root, thing, self._test, of_clients=of_clients)
            and is_first(self._places, root, suspect, record)
        )


def _whose_values_contain(thing: object, fixtures: list[Owner]) -> Owner | None:
    """The fixture whose values contain something; in its caller this would make a cell, which refers to the thing."""
    return next((each for each in fixtures if each.values is not None and each.values.contain(thing)), None)


def _place_of(record: Record, thing: object, way: ways.Way, *, codes: set[CodeType], seconds: float) -> Root | None:
    """The place that keeps something. A server has its thread's function, not the thread, which a cached function may start."""
    root = references.process_wide(thing, way, seconds=seconds)
    if root is references.GIVEN_UP:
        return root
    if root is not None and record.place():  # it has led to the object that has the number of a descriptor
        return root._replace(through=(*root.through, type(thing)))
    root = root or unseen.place_of(thing, way.packages, codes if record.kind is Kind.FDS else set())
    served = _served_by(thing) if record.kind is Kind.THREADS else None
    if root is not None or served is None:
        return root
    root = references.process_wide(served, way, seconds=seconds)
    if root is None or root is references.GIVEN_UP:
        return root
    root = root._replace(through=(*root.through, type(served)))
    if root.code in codes:
        return root
    # Of a client alone: who has the object that serves has not started the thread.
    is_a_librarys = root.end is None and is_installed_file(file_of_class(root.through[0]) or "")
    return root._replace(module="") if is_a_librarys else None


def _served_by(thread: object) -> object:
    """The object whose method a thread runs; None where it runs a function."""
    return attribute(attribute(thread, "_target"), "__self__")


def _makers(birth: Birth | None, terms: Terms) -> frozenset[str]:
    """The packages in whose containers something may be kept by whoever has made it.

    What the pools of the known libraries keep is asked of their records.
    """
    makers = frozenset() if birth is None else birth.makers()
    return makers if terms.in_containers or (terms.of_clients and makers.isdisjoint(KNOWN)) else frozenset()


def _give(keeper: Owner, suspect: Suspect, records: dict[int, Record]) -> None:
    """Let a wider fixture answer for something, and for the sockets that it holds: it may be dropped while they are open."""
    record = records[suspect.key]
    owner = record.owner
    record.belong_to(keeper)
    for each in records.values():
        if isinstance(each, SocketRecord) and each.owner is owner and each.claims() <= suspect.claims:
            each.belong_to(keeper)


def _is_a_tools_thread(suspect: Suspect) -> bool:
    return suspect.kind is Kind.THREADS and any(map(infrastructure.is_tool_thread, suspect.names[:1]))


class _Makers:
    """The wider fixtures whose values keep, in whatever way they like, what functions of their own have made.

    So a factory does that closes in its fixture's teardown what it has made; what a test puts there is another thing.
    """

    def __init__(self, fixtures: list[Owner], test: CodeType | None, seconds: float) -> None:
        values = [(each, value) for each in reversed(fixtures) for value in each.values_now()]
        self._fixtures = [fixture for fixture, _ in values]
        self._inside = makers.Inside([value for _, value in values])
        self._test = test
        self._left = seconds  # of processor time, for all questions

    def of(self, thing: object, record: Record) -> tuple[Owner | None, bool]:
        """The one that has made `thing` and keeps it, if there is one, and whether that could be told."""
        codes = makers.codes_of(record.birth if self._fixtures and thing is not None else None, self._test)
        if not codes:
            return None, True
        began = Real.thread_time()
        place, is_known = self._inside.keeper(thing, codes, seconds=self._left)
        self._left -= Real.thread_time() - began
        return None if place is None else self._fixtures[place], is_known
