"""sqlite3: the descriptors that SQLite opens for a connection, and the connection that they belong to."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import is_a
from pytest_httpleak.cfunctions import heard
from pytest_httpleak.opennumbers import identity_of_file, open_files
from pytest_httpleak.weakrefs import Address

MODULES = ("sqlite3",)

_URI = 7  # the place of that argument
_IN_MEMORY = ("", ":memory:", b"", b":memory:")


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note the birth of each descriptor that is there after a call of `connect` and was not before."""
    # Django and SQLAlchemy know the function by its other name, that of the module which it comes from.
    library: Any = sys.modules.get("sqlite3.dbapi2", module)
    original, make = library.connect, _Connecting(library, hooks).make
    hooks.patches.replace(library, "connect", make)
    wrapper = library.connect
    if wrapper is original:  # patched already, and copied from there by a module that is loaded again
        original = inspect.unwrap(wrapper)
    if module.connect in (original, wrapper):
        module.connect = original  # type: ignore[attr-defined]  # to be put back
        hooks.patches.put(module, "connect", wrapper)
    else:
        hooks.patches.replace(module, "connect", make)


class _Connecting:
    """What is noted of each call of `connect`."""

    def __init__(self, library: Any, hooks: Hooks) -> None:
        self._library, self._wall = library, hooks.wall
        self._watch: Any = hooks.watch
        self._calls: list[_Call] = []  # that are not over

    def make(self, original: Any) -> Any:
        """What to put in the place of `connect`."""
        wall, connecting = self._wall, heard(original)

        def connect(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            file = _file_of(args, kwargs) if wall.on else None
            if file is None:
                return self._noted(connecting(*args, **kwargs), None)
            call = _Call(file)
            try:
                self._begin(call)
                return self._noted(connecting(*args, **kwargs), call)
            finally:
                call.leave(self._calls)

        return connect

    def _begin(self, call: _Call) -> None:
        try:
            call.enter(self._calls, self._watch.fds)
        except RecursionError:
            pass
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._wall.fall(error)

    def _noted(self, connection: Any, call: _Call | None) -> Any:
        """The connection, once it is noted; without a call, it has no file."""
        if self._wall.on:
            try:
                place = _whereabouts(connection, self._library.Connection)
                _forget(self._watch.holders, place)
                self._watch.databases.add(id(connection))
                if call is not None:
                    self._note(call, connection, place)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                self._wall.fall(error)
        return connection

    def _note(self, call: _Call, connection: Any, place: Any) -> None:
        watch = self._watch
        made = call.made(watch.fds)
        for fd in made:
            watch.descriptor_made(fd, 6, place)
        identity = None if made and call.is_alone else identity_of_file(call.file)
        kept = (known for known, holder in list(watch.holders.values()) if is_a(holder, Address))
        if identity is not None and identity in kept:
            watch.may_take_over(identity, id(connection), place, 6)


class _Call:
    """One call of `connect`, and what was open before it.

    Where another thread connects meanwhile, either may be told to have opened what the other has of the same file, and is an
    heir, too: whose a descriptor is shows when it is known which of the connections are left.
    """

    __slots__ = ("before", "file", "is_alone", "known")

    def __init__(self, file: Any) -> None:
        self.file = file
        self.is_alone = True
        self.known: dict[int, Any] = {}
        self.before: dict[int, Any] = {}

    def enter(self, calls: list[_Call], known: dict[int, Any]) -> None:
        """Begin, among the calls that are not over; `known` are the descriptors of which the birth is."""
        calls.append(self)
        for each in tuple(calls):
            if each is not self:
                self.is_alone = each.is_alone = False
        self.known = known.copy()
        self.before = open_files()

    def leave(self, calls: list[_Call]) -> None:
        """End, also where it was interrupted before it had begun."""
        if any(each is self for each in tuple(calls)):
            calls.remove(self)

    def made(self, known: dict[int, Any]) -> set[int]:
        """The descriptors of the file that were not there before, but for those that somebody else has said to have opened."""
        if not self.before:  # the system does not tell
            return set()
        now, file = open_files(), identity_of_file(self.file)
        made = {fd for fd, identity in now.items() if identity != self.before.get(fd) and file in (identity, None)}
        return {fd for fd in made if not self._is_told(fd, now[fd], known)}

    def _is_told(self, fd: int, identity: Any, known: dict[int, Any]) -> bool:
        told = known.get(fd)
        return told is not None and told is not self.known.get(fd) and told[2] == identity


def _forget(holders: dict[int, Any], place: Any) -> None:
    """Of an earlier connection at the same address nothing is left."""
    for fd, (identity, holder) in list(holders.items()) if is_a(place, Address) else ():
        if holder == place:
            holders[fd] = identity, Address(0, holder.cls)


def _file_of(args: Any, kwargs: Any) -> Any:
    """The file that a connection is asked for to; None for one in memory."""
    name = args[0] if args else kwargs.get("database")
    is_uri = args[_URI] if len(args) > _URI else kwargs.get("uri")
    if is_uri and is_a(name, str) and name.startswith("file:"):
        from urllib.parse import unquote, urlsplit  # here, as most do without

        name = unquote(urlsplit(name).path)
    return None if is_a(name, (str, bytes)) and name in _IN_MEMORY else name


def _whereabouts(connection: Any, cls: type) -> Any:
    """The address of a connection, which still says what was there when it is no more; somebody's own object itself."""
    return Address(id(connection), cls) if is_a(connection, cls) else connection
