"""What `httpleak.ignore()` does: leaves an object, and what it holds, to someone else."""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodDescriptorType
from typing import Any, Final

from pytest_httpleak.asking import attribute, defined_in, is_a, mro_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import descriptors, tasks
from pytest_httpleak.probes.holders import Holders
from pytest_httpleak.session.holdings import inside, is_task
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.weakrefs import Address

_HIGHEST_DESCRIPTOR: Final = 2**31 - 1  # a C int
_SEARCH: Final = 2.0  # seconds of processor time


def ignore(thing: object, watch: Watch, ledger: Ledger) -> None:
    """Leave an object, with the resources, tasks and descriptors that it holds, to the process."""
    if is_a(thing, int):
        _leave([thing], ledger)
        return
    things = inside(thing)
    _leave_records(thing, things, watch)
    _leave_tasks(thing, things, watch)
    _leave_heirs(things, watch)
    _leave([*_held(things, watch), _number(thing), *map(_stock_number, things.values())], ledger)


def _leave(fds: list[Any], ledger: Ledger) -> None:
    for fd in fds:
        if is_a(fd, int) and 0 <= fd <= _HIGHEST_DESCRIPTOR:  # a stand-in's `fileno()` may give anything
            ledger.disown(fd)


def _leave_records(thing: object, things: dict[int, Any], watch: Watch) -> None:
    """Of loops, the one that runs here is run by whoever has called the code that asks, and not by what knows it."""
    running = watch.running_loop()
    for table in watch.tables():
        for key in table.records.keys() & things.keys():
            record = table.records.get(key)
            if record is not None and (things[key] is thing or things[key] is not running):
                record.owner = watch.root


def _leave_tasks(thing: object, things: dict[int, Any], watch: Watch) -> None:
    """The tasks, with those that end with them.

    Not the one that is running, nor one that waits for it, which whoever has made a group of tasks is known by: what they
    make from now on is somebody's.
    """
    current = watch.task_at_work()
    for task in things.values():
        if not is_task(task) or id(task) not in watch.tasks or task.done():
            continue
        ending = [task, *tasks.below(task)]
        if task is not thing and any(each is current for each in ending):
            continue
        for key in map(id, ending):
            known = watch.tasks.get(key)
            if known is not None:
                watch.tasks[key] = known[0], watch.root, known[2]


def _leave_heirs(things: dict[int, Any], watch: Watch) -> None:
    """Connections to databases that may yet take over a descriptor."""
    for address, (identity, place, birth, _) in list(watch.heirs.items()):
        connection = things.get(address) if isinstance(place, Address) else place()
        if connection is not None and things.get(address) is connection:
            watch.heirs[address] = identity, place, birth, watch.root


def _held(things: dict[int, Any], watch: Watch) -> Iterator[int]:
    """The descriptors that are open for one of these things, or by a number that it keeps of what it has opened.

    The former first: of a thousand objects with a number each, the search for whose it is may be given up.
    """
    fds = {fd: (birth, which) for fd, (birth, of, which) in list(watch.fds.items()) if of is not watch.root}
    holders = Holders((birth for birth, _ in fds.values()), watch.holders, lambda: [*things.values()])
    end = Real.thread_time() + _SEARCH
    for fd, (birth, identity) in sorted(fds.items(), key=lambda each: each[0] not in watch.holders):
        if Real.thread_time() > end:
            return
        if id(holders.of(fd, birth, identity)) in things and descriptors.identity(fd) == identity:
            yield fd


def _number(thing: object) -> Any:
    """What an object says that its descriptor is."""
    try:
        return attribute(thing, "fileno")()
    except Exception as error:  # noqa: BLE001  # it has none, is closed, or is a file that is none
        pass_on(error)
        return None


def _stock_number(thing: object) -> Any:
    """The same of a class in C: another one's may open the file that it is asked for, as those of `tempfile` do."""
    own = next((names for names in map(defined_in, mro_of(type(thing))) if "fileno" in names), {})
    return _number(thing) if is_a(own.get("fileno"), MethodDescriptorType) else None
