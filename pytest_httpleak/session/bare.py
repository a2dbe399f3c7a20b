"""Bare descriptors as records, so that what they belong to can be asked for as for any other resource."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import pollers, references, ways
from pytest_httpleak.probes.holders import Holders
from pytest_httpleak.probes.paths import Root
from pytest_httpleak.records import Bystander


class BareRecord(Bystander):
    """A bare descriptor; what refers to it is what refers to the object that it belongs to."""

    __slots__ = ("fd", "give", "is_closed", "places")

    kind: ClassVar[Kind] = Kind.FDS
    LIBRARY = "os"

    def __init__(
        self,
        fd: int,
        find: Callable[[], Any],
        give: Callable[[Owner], None],
        is_closed: Callable[[], bool],
        places: dict[int, str],
    ) -> None:
        super().__init__()
        self.fd = fd
        self.ref = find
        self.give = give
        self.is_closed = is_closed
        self.places = places

    def place(self) -> str:
        return self.places.get(self.fd, "")

    def belong_to(self, owner: Any) -> None:
        self.give(owner)


def bare_records(watch: Watch, suspects: Iterable[Suspect], keepers: list[Owner]) -> dict[int, BareRecord]:
    """By the key of its suspect: a record of each descriptor that has no other."""
    bare = {-1 - suspect.key: suspect for suspect in suspects if suspect.key < 0}
    known = {fd: watch.fds[fd] for fd in bare if fd in watch.fds}
    holders = Holders((birth for birth, _, _ in known.values()), watch.holders)
    found = {}
    for fd, suspect in bare.items():
        find: Callable[[], Any]
        birth, _, identity = known.get(fd, (None, None, None))
        if birth is not None:
            find = functools.partial(holders.of, fd, birth, identity)
        elif suspect.kind is Kind.SOCKETS or pollers.is_wake_up(fd):
            find = functools.partial(_native_keeper, watch, fd, keepers)
        else:
            find = _unknown
        give = functools.partial(watch.give, fd, birth)
        is_closed = functools.partial(holders.is_closed, fd, identity)
        record = found[suspect.key] = BareRecord(fd, find, give, is_closed, holders.places)
        record.birth = birth
    return found


def _unknown() -> None:
    """What a descriptor belongs to that code in C has opened for itself."""


def _native_keeper(watch: Watch, fd: int, keepers: list[Owner]) -> object | None:
    """The object of a wider fixture for which code in C has opened a socket, or what it is woken by."""
    loops = watch.table("loops")
    if any(each.library != "asyncio" and not each.is_over() for each in loops):
        return None  # the poller may be that of a loop, where sockets are those of anybody's connections
    known = pollers.pollers_of(fd)  # none of what curl has, for one
    if known and not any(_is_wider(watch, poller) for poller in known):
        return None
    values = [value for each in reversed(keepers) for value in each.values_now()]
    ends = set(map(id, values))
    roots: list[Root | None] = []

    def is_kept(thing: object) -> bool:
        if references.GIVEN_UP not in roots:  # else the next search would take as long
            roots.append(references.process_wide(thing, ways.Way(ends=ends)))
        return roots[-1] not in (None, references.GIVEN_UP)

    return pollers.native_keeper(values, is_kept)


def _is_wider(watch: Watch, poller: int) -> bool:
    """Whether code in C has opened a poller while a wider fixture was set up."""
    birth, owner, identity = watch.fds.get(poller, (None, None, None))
    return birth is None and identity is not None and any(owner is each for each in watch.keepers)
