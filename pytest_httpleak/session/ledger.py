"""The descriptors that are accounted for, and those that a test or fixture has added to them."""

from __future__ import annotations

import _thread
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from pytest_httpleak import databases
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import descriptors
from pytest_httpleak.sites import Birth
from pytest_httpleak.weakrefs import Address, FileReference

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect

P = ParamSpec("P")
R = TypeVar("R")

# Open descriptors with their identities.
Open = dict[int, descriptors.Identity]

# Input and output are redirected, by the test runner not least; the numbers themselves are the process's.
_STANDARD = range(3)
# What loops in C wait with: pollers, wake-ups, timers, pipes for signals, and the null device in reserve for when none is
# left. What watches files has no brackets to its name: that is somebody's watcher, and no runtime's.
_WAITING = ("anon_inode:[", "pipe:", "/dev/null")

_UNBORN = (None, None, None)

# How often, and after how many seconds each time, it is looked whether another thread has recorded what it has opened.
_LOOKS, _PAUSE = 20, 0.001

# Files that a database keeps beside the one it was opened with: one cause, told by the first.
_COMPANIONS = ("-wal", "-shm", "-journal")
_DELETED = " (deleted)"  # what Linux puts behind the name of a file that has none any more


class _Sockets:
    """What the system tells of sockets: asked once, and only if there is one among the suspects."""

    @functools.cached_property
    def of_servers(self) -> frozenset[int]:
        """The descriptors of those that servers of this process have accepted."""
        return descriptors.server_sides()

    @functools.cached_property
    def in_words(self) -> dict[int, tuple[str, tuple[str, ...]]]:
        """By descriptor, what each is, and its addresses."""
        return descriptors.sockets()


def _may_be_a_loops(fd: int) -> bool:
    """Whether a descriptor is of the sorts that loops wait with and are woken by."""
    return descriptors.target(fd).startswith(_WAITING) or descriptors.is_of_a_pair(fd)


def _walled(method: Callable[Concatenate[Ledger, P], R]) -> Callable[Concatenate[Ledger, P], R]:
    """From the first error of a probe on, answer as if nothing had been opened."""
    empty: dict[str, Any] = {"list[Suspect]": list, "list[tuple[Suspect, int]]": list, "set[int]": set, "Open": dict}
    nothing = empty.get(method.__annotations__["return"], lambda: None)

    @functools.wraps(method)
    def asked(self: Ledger, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.wall.on:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  # this is the wall
                self.wall.fall(error)
        return cast(R, nothing())

    return cast("Callable[Concatenate[Ledger, P], R]", asked)


class Ledger:
    """What was open when an owner's life last began or ended; listed only where a count has moved.

    Of the sockets and descriptors whose making was seen each is asked for itself. The counts are for the others: of all
    that is open, and of the sockets among it, so that one which is closed does not hide what was opened in its place.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._known: Open = {}
        self._first: Open = {}  # what was open when the watch began
        self._no_databases: Open = {}  # what was asked for whether a connection has it, and none has
        self._counter = descriptors.Counter()
        self._count: int | None = None
        self._sockets = 0
        self._latest: tuple[int, int | None, Open] | None = None
        self.wall = watch.wall("the probe for descriptors")

    @_walled
    def start(self) -> None:
        """Take what is open at the beginning of the watch as accounted for."""
        self._counter.open()
        self.open()
        self._first = self._known

    def stop(self) -> None:
        """Leave nothing of the ledger's own open."""
        self._counter.close()

    @_walled
    def open(self) -> None:
        """Take what is open now as accounted for."""
        latest, self._latest = self._latest, None
        self._sockets, self._count = self._watch.open_sockets, self._counter.count()
        if latest is None or latest[:2] != (self._sockets, self._count):
            self._known = descriptors.listing()
        else:
            self._known = latest[2]  # as a look has found it just now

    @property
    def count(self) -> int | None:
        """How many descriptors were open when that was last asked for."""
        return self._count

    def has_moved(self) -> bool:
        """Whether anything may have been opened or closed since. Costs one `stat`, whatever is open."""
        if not self.wall.on:
            return False
        count = self._count
        return count is None or self._sockets != self._watch.open_sockets or self._counter.count() != count

    @_walled
    def make_room(self) -> None:
        """Where no descriptor is left, give the ledger's own back: to judge a leak and to say it, files are read."""
        self._counter.make_room()

    @_walled
    def unaccounted(self, owner: Owner) -> Open:
        """The descriptors to ask `owner` about."""
        return self._unaccounted(owner)

    def adopt(self, owner: Owner) -> None:
        """Let an owner answer for what has appeared without a birth, before another one's time begins."""
        if self.has_moved():
            self._adopt(owner)

    @_walled
    def _adopt(self, owner: Owner) -> None:
        if owner is not self._watch.root:
            making = self._watch.making  # loops, in other threads: what these open for themselves has no record yet
            for fd, identity in self._appeared(self._listed()):
                if self._birth(fd, identity) is None and not (making and _may_be_a_loops(fd)):
                    self._watch.give(fd, None, owner)
        self.open()

    @_walled
    def disown(self, fd: int) -> None:
        """Nobody answers for a descriptor any more: it has been reported, or is someone else's."""
        known = self._birth(fd)
        self._watch.give(fd, None if known is None else known[0], self._watch.root)

    @_walled
    def out_of_sight(self) -> set[int]:
        """Descriptors without a birth that lead nowhere else: what code in C waits with and is woken by."""
        births = {fd: (self._birth(fd, now) or (None,))[0] for fd, now in descriptors.listing().items()}
        unborn = (fd for fd, birth in births.items() if birth is None)
        return {fd for fd in unborn if _may_be_a_loops(fd)}

    @_walled
    def suspects(self, unaccounted: Open, explained: set[int], owner: Owner) -> list[Suspect]:
        """What nothing explains of the descriptors that an owner was to be asked about, and what is still open of it.

        Other threads open and close descriptors meanwhile, so `explained` has to be younger than the list.
        """
        return self._told(unaccounted, explained, _Sockets(), owner)

    @_walled
    def census(self, explained: set[int]) -> list[tuple[Suspect, int]]:
        """What is open and nothing explains, whoever has opened it since: one of each place, and how many it stands for."""
        listing = descriptors.listing()
        places: dict[Any, list[int]] = {}
        first, fds, maps = self._first.get, self._watch.fds.get, self._watch.maps
        for fd, identity in listing.items():
            if fd in explained or fd in _STANDARD or first(fd) == identity:
                continue
            if maps and self._is_beside_its_file(fd, identity):
                continue
            birth, _, born = fds(fd, _UNBORN)
            place = birth.place() if birth is not None and born == identity else None
            places.setdefault(fd if place is None else (id(place[0]), place[1]), []).append(fd)
        sockets = _Sockets()
        found = [(self._told({same[-1]: listing[same[-1]]}, explained, sockets), len(same)) for same in places.values()]
        return [(suspect, number) for suspects, number in found for suspect in suspects]

    def _told(
        self, unaccounted: Open, explained: set[int], sockets: _Sockets, owner: Owner | None = None
    ) -> list[Suspect]:
        found: dict[str, Suspect] = {}
        are_open = functools.cache(functools.partial(databases.are_open, self._watch.databases))
        for fd, identity in unaccounted.items():
            if fd in explained or descriptors.identity(fd) != identity or self._is_beside_its_file(fd, identity):
                continue
            known = self._birth(fd)
            if known is not None and owner not in (None, known[1]):  # another's, that has been recorded since
                continue
            birth = None if known is None else known[0]
            if birth is not None and birth.is_import():
                self.disown(fd)
                continue
            is_socket = descriptors.is_socket(fd)
            if is_socket and fd in sockets.of_servers:
                continue
            target = descriptors.target(fd)
            if birth is None and (
                descriptors.is_of_loaded_code(fd) or self._is_a_databases(fd, identity, target, are_open)
            ):
                self.disown(fd)
                continue
            found[f"{target} {fd}"] = _suspect(fd, target, birth, sockets if is_socket else None)
        paths = {_name_of(suspect.names[0]) for suspect in found.values()}
        if any(path.endswith(_COMPANIONS) for path in paths):  # also of a database that somebody else has opened
            paths |= {_name_of(descriptors.target(fd)) for fd in descriptors.listing()}
        return [suspect for suspect in found.values() if not _is_companion(suspect, paths)]

    def _is_a_databases(
        self, fd: int, identity: descriptors.Identity, target: str, are_open: Callable[[], bool]
    ) -> bool:
        """Whether it is of a file that an open connection has beside its first one: an attached one, or a temporary one.

        Which connection has it is not to be seen: that closes it with itself, and is told itself where it is left.
        """
        if self._no_databases.get(fd) == identity:
            return False
        name = _name_of(target).rpartition("/")[2]
        is_one = databases.is_of_a_file(name, descriptors.beginning(fd, len(databases.BEGINNING)))
        if (is_one or descriptors.is_new_and_no_link(fd)) and are_open():
            return True
        self._no_databases[fd] = identity  # as it was opened by what there was then
        return False

    def _is_beside_its_file(self, fd: int, identity: descriptors.Identity) -> bool:
        """Whether it is of a map that a library keeps with the descriptor of what it maps: one cause, told by that one."""
        pair = self._watch.maps.get(fd)
        if pair is None:
            return False
        known, of_mapped = self._birth(fd, identity), self._birth(pair[1])
        return known is not None and of_mapped is not None and (known[0] is pair[0]) and (of_mapped[0] is pair[2])

    def _birth(self, fd: int, now: descriptors.Identity | None = None) -> tuple[Birth | None, Owner] | None:
        """Birth and owner of the descriptor that is open `now`, and not of an earlier one with the same number."""
        known = self._watch.fds.get(fd)
        if known is None:
            return None
        birth, owner, identity = known
        if identity != (descriptors.identity(fd) if now is None else now) or self._is_over(fd, identity):
            self._watch.fds.pop(fd, None)
            return None
        return birth, owner

    def _is_over(self, fd: int, identity: descriptors.Identity | None) -> bool:
        known = self._watch.holders.get(fd)
        if known is None or known[0] != identity or isinstance(known[1], Address):
            return False
        thing = known[1]()
        if type(known[1]) is not FileReference:
            return descriptors.is_anothers(fd, thing)
        return thing is None and not self._is_opened_anew(fd, known)

    def _is_opened_anew(self, fd: int, known: Any) -> bool:
        """Whether another thread has just opened that file again: it has its number before it is recorded."""
        for _ in range(_LOOKS if _thread._count() else 0):
            Real.sleep(_PAUSE)
            if self._watch.holders.get(fd) is not known:
                return True
        return False

    def _unaccounted(self, owner: Owner) -> Open:
        """What `owner` has opened and left open: by the births, and by a listing where the gate has moved."""
        found: Open = {}
        listing = self._listed()
        if owner.descriptors:
            for fd, (_, of, identity) in list(self._watch.fds.items()):
                if of is owner and identity is not None:
                    is_listed = listing is not None and listing.get(fd) == identity
                    if is_listed or self._birth(fd) is not None:
                        found[fd] = identity
        for fd, identity in self._appeared(listing):
            known = self._birth(fd, identity)
            if known is None or known[1] is owner:
                found[fd] = identity
        return dict(sorted(found.items()))

    def _listed(self) -> Open | None:
        """All that is open, where the gate has moved: dear, and so not asked for again until it moves once more."""
        sockets, count = self._watch.open_sockets, self._counter.count()
        if count is not None and (sockets, count) == (self._sockets, self._count):
            return None
        listing = descriptors.listing()
        self._latest = (sockets, count, listing)
        return listing

    def _appeared(self, listing: Open | None) -> list[tuple[int, descriptors.Identity]]:
        """What is open and was not accounted for, or is another one of the same number."""
        known = self._known.get
        listed = {} if listing is None else listing
        return [(fd, identity) for fd, identity in listed.items() if known(fd) != identity and fd not in _STANDARD]


def _suspect(fd: int, target: str, birth: Birth | None, sockets: _Sockets | None) -> Suspect:
    """The suspect for a descriptor; of a socket, `sockets` tells which addresses it has."""
    from pytest_httpleak.model.findings import Suspect  # here, as a clean run has none

    what, addresses = ("", ()) if sockets is None else sockets.in_words.get(fd, ("", ()))
    return Suspect(
        kind=Kind.FDS if sockets is None else Kind.SOCKETS,
        library="os",
        type="file descriptor" if sockets is None else "socket",
        state=State.OPEN,
        summary=f"fd {fd}: {what or target}",
        key=-1 - fd,
        created=None if birth is None else birth.site(),
        stack=() if birth is None else birth.stack(),
        names=tuple(filter(None, (target, f"fd {fd}", what, *addresses))),
        claims=frozenset((("fd", fd),)),
    )


def _name_of(target: str) -> str:
    """The name of a file, which a test may have deleted with its folder before its connection is closed."""
    return target.removesuffix(_DELETED)


def _is_companion(suspect: Suspect, paths: set[str]) -> bool:
    name = _name_of(suspect.names[0])
    return any(name.endswith(end) and name.removesuffix(end) in paths for end in _COMPANIONS)
