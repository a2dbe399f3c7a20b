"""What a place of the process keeps of a library that has no records: whether that is a client with what it has opened itself."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Final

from pytest_httpleak import databases
from pytest_httpleak.asking import attribute, attributes_of, referrers_of
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.ownership import Place
from pytest_httpleak.probes import descriptors, makers
from pytest_httpleak.probes.paths import Root
from pytest_httpleak.records import Bystander, Record
from pytest_httpleak.socketends import listens
from pytest_httpleak.userfiles import file_of_class, is_installed_file
from pytest_httpleak.weakrefs import Address, reference

_CONSTRUCTORS: Final = ("__init__", "__new__", "__post_init__", "__attrs_post_init__")
_OF_TESTS: Final = ("conftest.", "test_")
_TEST: Final = "_test.py"
_NAMES_OF_RUNNERS: Final = ("asyncio.runners", "Runner")


def is_first(places: dict[str, Place], root: Root, suspect: Suspect, record: Record) -> bool:
    """Whether a place keeps the first object that it has ever kept, or nothing of the one before it is left open.

    A cached function keeps one for each of its arguments.
    """
    own = reference(root.own)  # of one object it is always the same
    kept, left = places.get(root.place, (own, {}))
    if kept is not own and not (isinstance(kept, Address) and kept == own):
        # One was closed if its descriptor's number is in use again.
        others = (each for key, each in left.items() if key != suspect.key)
        if root.size == 1 and any(each.is_open() and not each.is_over() for each in others):
            return False
        left = {}
    if suspect.key >= 0:  # a bare descriptor's record is of this search alone, and keeps what that has seen
        left[id(record)] = record
    elif databases.is_database(type(root.own)):
        left[suspect.key] = _Database(root.own, -1 - suspect.key)
    places[root.place] = own, left
    return True


class _Database(Bystander):
    """A connection to a database that a place has kept: open as long as it is there, and its descriptor, too."""

    __slots__ = ("_address", "_fd", "_identity")

    def __init__(self, connection: object, fd: int) -> None:
        super().__init__()
        self._address, self._fd, self._identity = id(connection), fd, descriptors.identity(fd)

    def is_open(self) -> bool:
        if descriptors.identity(self._fd) != self._identity:
            return False
        connection = databases.living({self._address}).get(self._address)
        return connection is not None and not databases.is_over(connection)

    def is_over(self) -> bool:
        return False


def was_made_for_all(
    codes: set[CodeType], root: Root, thing: object, test: CodeType | None, *, of_clients: bool
) -> bool:
    """Whether it was opened while an object was made that is kept there: by a cached function, or one of the place's own module.

    A cached function may have made one of any class; else it is an installed library's. A connection to a database is such an
    object by itself. The codes are those of what was at work.
    """
    is_client = not root.through and databases.is_database(type(thing))
    if root.code is not None:
        is_of_method = root.code.co_varnames[:1] == ("self",)  # whose cache grows by its instances
        return root.code in codes and bool(root.through or is_client) and not is_of_method
    if not of_clients or not (root.through or is_client) or not _is_made_at_home(codes, root.module, test):
        return False
    if is_client:
        return True
    of_place = root.through[0]
    is_a_librarys = is_installed_file(file_of_class(of_place) or "")
    return is_a_librarys and _made_in(of_place, {code for code in codes if code.co_name in _CONSTRUCTORS})


def is_of_a_client(
    suspect: Suspect, record: Record, thing: object, codes: set[CodeType], root: Root, *, of_clients: bool
) -> bool:
    """Whether one of a library's objects that keep it has opened it by a method of its own, and not when it was made itself.

    What listens is a server's. A thread is there to be stopped, but for what a client has parts of its own run in the background
    when it is first used, as a driver its monitors. A runner's loop is there from its first call on.
    """
    if suspect.kind is Kind.LOOPS:
        return any((cls.__module__, cls.__name__) == _NAMES_OF_RUNNERS for cls in root.through[-1:])
    libraries = [cls for cls in root.through if is_installed_file(file_of_class(cls) or "")]
    if not libraries or not of_clients or (suspect.kind is Kind.SOCKETS and listens(thing)):
        return False
    if suspect.kind is Kind.THREADS and not (
        len(libraries) > 1 and (_works_for_a_database(thing) or _is_started_for(record, thing, codes, libraries))
    ):
        return False
    methods = {code for code in codes if code.co_name not in _CONSTRUCTORS}
    return any(_made_in(cls, methods) for cls in libraries)


def _made_in(cls: type, codes: set[CodeType]) -> bool:
    return makers.Methods(codes).are_in(cls)


def _is_made_at_home(codes: set[CodeType], module: str, test: CodeType | None) -> bool:
    """Whether a function of the module in whose place it is has made it, which is none of tests: there it was made for them."""
    file = str(attribute(sys.modules.get(module), "__file__"))
    name = os.path.basename(file)
    is_of_tests = (test is not None and test.co_filename == file) or name.startswith(_OF_TESTS) or name.endswith(_TEST)
    return not is_of_tests and any(code.co_filename == file for code in codes)


def _is_started_for(record: Record, thread: object, codes: set[CodeType], libraries: list[type]) -> bool:
    """Whether a thread that ends with the program was started on the way of something else that a client was asked for.

    The outermost method of the client, or of what it has, says which; what the very part has done, the test has called for.
    """
    called = next(_methods(record, codes, libraries), None)
    if called is None or attribute(thread, "daemon") is not True:
        return False
    code, cls = called
    name = code.co_name
    is_its_own = name.startswith("_") and not name.endswith("__")  # which nobody has called but the client
    words = set() if is_its_own else {word.lower() for word in _WORDS.findall(name)}
    return cls is not libraries[-1] and _STARTS.isdisjoint(words)


def _methods(record: Record, codes: set[CodeType], libraries: list[type]) -> Iterator[tuple[CodeType, type]]:
    """The methods of some classes that were at work when something was made, the outermost first."""
    for code in reversed([] if record.birth is None else record.birth.codes()):
        yield from ((code, cls) for cls in libraries if code in codes and _made_in(cls, {code}))


_WORDS: Final = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_STARTS: Final = frozenset(
    "aenter autostart begin consume enter follow launch listen loop monitor poll run schedule serve spawn start subscribe "
    "tail watch".split()
)


def _works_for_a_database(thread: object) -> bool:
    """Whether there is a connection to a database where the thread is kept: it works for that, as in aiosqlite."""
    beside = (each.values() if type(each) is dict else attributes_of(each).values() for each in referrers_of([thread]))
    values = itertools.chain(attributes_of(thread).values(), *beside)
    return any(databases.is_database(type(each)) for each in values)
