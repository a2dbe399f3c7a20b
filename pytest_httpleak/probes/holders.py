"""The objects that bare descriptors belong to: what was opened with them, or what has opened them and keeps their number.

A number refers to nothing, and may stand in any attribute by chance. Only an object is believed to which a method that was
at work when the descriptor was opened belongs, since it keeps what that method has opened.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import compress
from types import CodeType, ModuleType
from typing import Any

from pytest_httpleak import databases
from pytest_httpleak.asking import attribute, attributes_of, is_a, own_attribute, slots_of
from pytest_httpleak.probes import descriptors
from pytest_httpleak.probes.fields import is_stack
from pytest_httpleak.probes.makers import Methods
from pytest_httpleak.sites import Birth
from pytest_httpleak.weakrefs import Address


class Seen:
    """An object, held in a way that searches for what refers to it pass over."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing


class Holders:
    """Finds the objects of some descriptors, all in one look at the heap, which is taken when the first is asked for.

    Where `among` gives other objects than those of the heap, of these.
    """

    def __init__(
        self,
        births: Iterable[Birth | None],
        holders: Mapping[int, Any],
        among: Callable[[], list[Any]] | None = None,
    ) -> None:
        self._holders = holders
        self._among = _heap if among is None else among
        self.places: dict[int, str] = {}  # by descriptor: where in its object the number stands: `.fd`, `.pipe[0]`
        self._codes = {code for birth in births if birth is not None for code in _methods(birth)}
        self._by_address: dict[int, Seen] = {}
        self._of_methods: list[Seen] | None = None
        self._found: dict[int, Seen] = {}  # by descriptor

    def of(self, fd: int, birth: Birth | None, identity: object) -> object | None:
        """The object of a descriptor, which has that birth and identity; None where none is known."""
        known = self._holders.get(fd)
        if known is not None and known[0] == identity:
            if not is_a(known[1], Address):
                thing: object | None = known[1]()
                return thing
            thing = self._at(known[1])
            if thing is not None or known[1].cls.__name__ not in _POLLERS:  # which the collector does not know
                return thing
        if fd not in self._found:
            self._found[fd] = Seen(self._search(fd, birth))
        return self._found[fd].thing

    def _search(self, fd: int, birth: Birth | None) -> object | None:
        codes = set() if birth is None else {*_methods(birth)}
        if not codes:
            return None
        methods = Methods(codes)
        are_in: dict[int, bool] = {}  # by classes, as there may be a thousand objects of one
        for seen in self._look():
            cls = type(seen.thing)
            if id(cls) not in are_in:
                are_in[id(cls)] = methods.are_in(cls)
            found = _found(seen.thing, fd) if are_in[id(cls)] else None
            if found is not None:
                self.places[fd], keeper = found
                return keeper
        return None

    def is_closed(self, fd: int, identity: object) -> bool:
        """Whether a descriptor is left of a database that was closed, or dropped, which does the same.

        SQLite closes none of a file while another connection of the process has a lock on it: that would end the lock.
        """
        return self._is_over(fd, identity) and self._is_in_use(fd, identity)

    def _is_over(self, fd: int, identity: object) -> bool:
        known = self._holders.get(fd)
        if known is None or known[0] != identity or not is_a(known[1], Address):
            return False
        return databases.is_database(known[1].cls) and databases.is_over(self._at(known[1]))

    def _is_in_use(self, fd: int, identity: object) -> bool:
        """Whether another connection has that file open: not only one that is left open in the same way."""
        others = [other for other, which in descriptors.listing().items() if other != fd and which == identity]
        return any(not self._is_over(other, identity) for other in others)

    def _at(self, address: Address) -> object | None:
        self._look()
        seen = self._by_address.get(address.key)
        return seen.thing if seen is not None and is_a(seen.thing, address.cls) else None

    def _look(self) -> list[Seen]:
        if self._of_methods is None:
            things = self._among()
            sorts = [*map(type, things)]
            keys = [*map(id, sorts)]  # a class whose metaclass says so has no hash
            methods = Methods(self._codes)
            makers = {key for key, cls in dict(zip(keys, sorts, strict=True)).items() if methods.are_in(cls)}
            self._of_methods = [*map(Seen, compress(things, map(makers.__contains__, keys)))]
            addresses = {known[1].key for known in list(self._holders.values()) if is_a(known[1], Address)}
            known = compress(things, map(addresses.__contains__, map(id, things))) if addresses else ()
            self._by_address = {id(thing): Seen(thing) for thing in known}
        return self._of_methods


def _heap() -> list[Any]:
    gc.unfreeze()  # see probes.references
    return gc.get_objects()


def _methods(birth: Birth) -> Iterator[CodeType]:
    return (code for code, _ in birth.frames if "." in code.co_qualname)


# Which have no weak references, so that nobody knows them by their birth.
_POLLERS = ("epoll", "kqueue", "devpoll")

# What attributes of other small numbers are called, by their words: 30 may as well be so many seconds, and no descriptor.
_AMOUNT = re.compile(
    "max|min(imum)?$|limit|timeout|size|total|counts?$|counter|retr|.*(length|limit|size|timeout|width)s?$"
)
# Those count for less than a word that says that it is one: `index_fd`.
_ALSO = frozenset("age delay index interval level levelno number page port second ttl wait waiting".split())
_DESCRIPTORS = frozenset("fd fds descriptor descriptors filedescriptor fileno fildes handle handles".split())
_WORDS = re.compile("[A-Z]*[a-z]+|[A-Z]+")


def _found(thing: object, fd: int) -> tuple[str, object] | None:
    """Where the number of a descriptor stands that an object has opened: in itself, or in what it has handed it on to.

    In an `ExitStack` there is no name for the place.
    """
    place = _place(thing, fd)
    if place is not None:
        return place, thing
    for _, part in _attributes(thing):
        if (is_stack(part) and _is_closed_by(part, fd)) or _is_finalizer_of(part, fd):
            return "", part
        if id(type(part)) in _PLAIN or is_a(part, _WITHOUT_A_PLACE):
            continue
        for name, value in _attributes(part):
            if _is_number(value, fd) and _says_descriptor(name):
                return f".{name}", part
    return None


_WITHOUT_A_PLACE = (type, ModuleType, int, float, str, bytes)
# The same by identity, which costs less, as there are many of them, with what has no attributes.
_PLAIN = frozenset(
    map(id, (type(None), bool, bytearray, bytes, dict, float, frozenset, int, list, set, str, tuple, type))
)


def _is_closed_by(stack: Any, fd: int) -> bool:
    """Whether an `ExitStack` will call a function with that number alone, whose name says that it closes."""
    for entry in list(own_attribute(stack, "_exit_callbacks") or ()):
        function = entry[-1] if type(entry) is tuple and entry else None
        parts = [attribute(cell, "cell_contents") for cell in attribute(function, "__closure__") or ()]
        is_given = any(type(part) is tuple and len(part) == 1 and _is_number(part[0], fd) for part in parts)
        if is_given and any("close" in str(attribute(part, "__name__")) for part in parts):
            return True
    return False


def _is_finalizer_of(thing: object, fd: int) -> bool:
    """Whether an object is what `multiprocessing` will close that number with."""
    if type(thing).__module__ != "multiprocessing.util" or type(thing).__name__ != "Finalize":
        return False
    is_given = any(_is_number(each, fd) for each in attribute(thing, "_args") or ())
    return is_given and "close" in str(attribute(attribute(thing, "_callback"), "__name__"))


def _place(thing: object, fd: int) -> str | None:
    """Where in an object's attributes the number stands, alone or with others that were opened with it."""
    for name, value in _attributes(thing):
        place = f".{name}" if _is_number(value, fd) else None
        for key, each in _entries(value) if place is None else ():
            if _is_number(each, fd):
                place = f".{name}[{key!r}]"
                break
        if place is not None and not _is_of_an_amount(name):
            return place
    return None


def _is_of_an_amount(name: str) -> bool:
    """Whether an attribute has the name of what is counted or measured."""
    words = _words(name)
    if any(map(_AMOUNT.match, words)):
        return True
    return _DESCRIPTORS.isdisjoint(words) and any(word in _ALSO or word.removesuffix("s") in _ALSO for word in words)


def _says_descriptor(name: str) -> bool:
    return not _DESCRIPTORS.isdisjoint(_words(name)) and not _is_of_an_amount(name)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def _is_number(value: Any, fd: int) -> bool:
    if type(value) is int:
        return value == fd
    is_poller = type(value).__module__ == "select" and type(value).__name__ in _POLLERS
    return is_poller and not value.closed and bool(value.fileno() == fd)


def _entries(value: Any) -> Iterable[tuple[Any, Any]]:
    if type(value) is tuple or type(value) is list:
        return enumerate(value)
    if type(value) is dict:
        return [(key, each) for key, each in value.items() if type(key) is int or type(key) is str]
    return ()


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from attributes_of(thing).items()
    yield from slots_of(thing)
