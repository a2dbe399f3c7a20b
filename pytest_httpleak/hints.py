"""One line for each kind and library that says how to mend the leak, where the adapter has not said it better."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final

from pytest_httpleak import databases, halfended
from pytest_httpleak.asking import attribute, defined_in, module_of, mro_of
from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.probes import infrastructure
from pytest_httpleak.records import WEBSOCKET
from pytest_httpleak.sites import place_at
from pytest_httpleak.standardhints import URLOPEN, by_maker
from pytest_httpleak.userfiles import HTTP_PACKAGES

_CLOSE_RESPONSE: Final = {
    "http.client": (
        "read the body to its end, or use `with` on the response so that it is closed; "
        "whoever has made the connection closes that, too"
    ),
    "urllib3": (
        "read it (`.read()`, `.data`), or call `response.drain_conn()` in a `finally`, which gives the connection back; where "
        "its body has no end, `response.close()` and `response.release_conn()`"
    ),
    "requests": "use `with session.get(..., stream=True) as response:`, or read `response.content`",
    "aiohttp": "use `async with session.get(...) as response:`, or read the body, or call `response.release()`",
}
_CLOSE_CLIENT: Final = {
    "urllib3": "use `with urllib3.PoolManager() as pool:`, or call `pool.clear()` in a `finally`",
    "requests": "use `with requests.Session() as session:`, or call `session.close()` in a `finally`",
    "aiohttp": "use `async with aiohttp.ClientSession() as session:`, or `await session.close()`",
}
_BARE_POOL: Final = "use `with {}(...) as pool:`, or call `pool.close()` in a `finally`"
_BY_KIND: Final = {
    Kind.RESPONSES: "read the body to its end, or close the response",
    Kind.CLIENTS: "close the client, best with a `with` block",
    Kind.CONNECTIONS: "close the connection in a `finally`, or use `contextlib.closing(connection)`",
    Kind.SOCKETS: "close the socket, best with a `with` block",
    Kind.FDS: "close it, best with a `with` block",
    Kind.TASKS: "await the task, or cancel it and await it; `asyncio.TaskGroup` does both",
    Kind.THREADS: "tell the thread to stop and `join()` it before the test ends",
    Kind.LOOPS: "call `loop.close()`, or let `asyncio.run()` or `asyncio.Runner` own the loop",
}

_LOW_THREAD: Final = (
    "let its function return before the test ends; a thread of `threading` could be waited for with `join()`"
)
_NOT_FINE: Final = re.compile(r"\[[^2]\d\d\]")
_UNAUTHORIZED: Final = re.compile(r"\[40[17]\]")
_HTTP_ERROR: Final = "the `HTTPError` is the response: where it is caught, call `error.close()`, or read it to its end"
_ASKED_FOR_PASSWORD: Final = (
    _HTTP_ERROR + "; a handler for passwords drops it itself: with an `HTTPPasswordMgrWithPriorAuth` there is none"
)

# What urllib3's own responses have; those of a library that is built on it need not.
_RELEASE: Final = "`response.release_conn()`"
_SLOT_THROUGH: Final = "closing it unread does not give its slot back: read what {} has returned to its end"
# What a library has an HTTP library make is not in the user's hands, but what the library gives is.
_THROUGH: Final = {
    Kind.RESPONSES: "read what {} has returned to its end, or close it, in a `finally`",
    Kind.CLIENTS: "close the object of {} that made it, in a `finally` or by a `with` block",
}
# A client of httpx's reads and closes what its other methods than `stream()` return: then a response is its transport's.
_BETWEEN: Final = "{} is between the client and its connections: it has to close each response that it does not return"
_OWN_TRANSPORT: Final = "close each response that this transport does not return: {}"
_OPENED_THROUGH: Final = "close the object of {} that opened it, in a `finally` or by a `with` block"
# What a user's line has only called the maker of.
_BY_LIBRARY: Final = {
    Kind.SOCKETS: _OPENED_THROUGH,
    Kind.FDS: _OPENED_THROUGH,
    Kind.THREADS: "stop the object of {} that started it (a client, a pool, a server) before the test ends",
    Kind.LOOPS: "close the object of {} that made it before the test ends",
    Kind.TASKS: "end the object of {} that started it (a client, a connection, a group of tasks) before the test ends",
}
# How to end what the outermost of these files has opened.
_OF_SERVERS: Final = {
    "aiohttp/test_utils.py": "use `async with` on the server or client for tests, or `await` its `close()`, in a `finally`",
    "aiohttp/web_runner.py": "call `await runner.cleanup()` in a `finally`",
}
_LEFT_BEHIND: Final = "; if that is done already"
_DROPPED: Final = _LEFT_BEHIND + ", {} has dropped it"
_LEFT: Final = _LEFT_BEHIND + ", {} has left it behind"
_DETACHED: Final = "only its number is known, as after `detach()`: call `socket.close()` with it in a `finally`"
_NUMBER: Final = "close it by `os.close(fd)` in a `finally`"
_DATABASE: Final = (
    "use `with contextlib.closing(sqlite3.connect(...)) as connection:`; its own `with` only ends the transaction"
)
_CURSOR: Final = "`close()` its cursors before it, or read them to the end: one with rows left keeps the file open"
_LIBRARYS_DATABASE: Final = (
    "close or dispose of the object of {} that opened it (a connection, an engine), in a `finally`"
)
_POLLER: Final = "anon_inode:[eventpoll]"
_WEBSOCKET: Final = "use `async with session.ws_connect(...) as websocket:`, or `await websocket.close()`"
_RUNNING_LOOP: Final = (
    "stop it with `loop.call_soon_threadsafe(loop.stop)`, `join()` its thread, then call `loop.close()`"
)
_NATIVE: Final = "close what opened it; `--httpleak-confirm=1` tells a leak from what a library opens once and keeps"

_MAPPED: Final = "call `close()` of the `mmap`, best with a `with` block: it has a descriptor of its own"
_ADAPTER: Final = "call `adapter.close()`, or leave it mounted on a session that is closed"
_FOR_GOOD: Final = "; what is meant to last as long as the process may be allowed by `httpleak_ignore`"
_OF_PROCESS: Final = re.compile(r"(?:module|class) attribute [\w.]+")
_MAY_LAST: Final = (Kind.SOCKETS, Kind.FDS, Kind.THREADS, Kind.LOOPS)

_LIBRARYS_OWN: Final = "this is the library's own doing: upgrade {}"


def hint(suspect: Suspect, holder: object = None) -> str:
    """How to mend this leak, in one line; `holder` is the object that has a bare descriptor, where there is one."""
    from pytest_httpleak import withblocks  # here, as a clean run has no suspect

    block = withblocks.hint(suspect, closes=not databases.is_database(type(holder)))
    if block is not None:
        return block
    through = _through(suspect)
    package = None if through is None else infrastructure.wrapper_of(suspect)
    if through is None or package is None or _is_of_called_class(suspect, holder):
        special = _of_transport(suspect) or _of_the_library(suspect) or _of_websocket(suspect)
        text = special or suspect.hint or _hint(suspect, holder)
        return _by_its_class(text, suspect) if suspect.kind is Kind.CLIENTS else text
    if infrastructure.installed_place(_inside(suspect)[-1].file) == "requests/adapters.py":  # by the user's own hand
        return _ADAPTER
    return through.format(package) + _if_done(suspect)


def for_good(hint: str, suspect: Suspect, held_by: str | None) -> str:
    """The same for what may be meant to last as long as the process: a module or class has it in an attribute, and in no list."""
    is_one = held_by is not None and _OF_PROCESS.fullmatch(held_by) is not None
    may_last = is_one and suspect.kind in _MAY_LAST and _LEFT_BEHIND not in hint
    return hint + _FOR_GOOD if may_last else hint


def _is_of_called_class(suspect: Suspect, holder: object) -> bool:
    """Whether the user's line has called the class itself, which a library derives from an HTTP library's."""
    inside = _inside(suspect)
    place = place_at(inside[-1]) if inside else None
    inits = (defined_in(cls).get("__init__") for cls in mro_of(type(holder)))
    return place is not None and any(attribute(init, "__code__") is place[0] for init in inits)


def _if_done(suspect: Suspect, libraries: Sequence[str] = ()) -> str:
    """Whose fault it is where what should be done is done: one of some libraries, or the one that was named before."""
    whose = f"one of {', '.join(libraries)}" if len(libraries) > 1 else "the library itself"
    return (_DROPPED if suspect.state is State.COLLECTED else _LEFT).format(whose)


def _inside(suspect: Suspect) -> list[Site]:
    """What is between what has made something and the user's line: all there is where that line is not known."""
    return [*itertools.takewhile(lambda site: site != suspect.created, suspect.stack)]


def _libraries(suspect: Suspect) -> list[str]:
    """The packages between what has made something and the user's line."""
    packages = (infrastructure.package_of(site.file) for site in _inside(suspect))
    return list(dict.fromkeys(filter(None, packages)))


def _by_its_class(text: str, suspect: Suspect) -> str:
    """The same for a client of another class than the text makes one of, which takes arguments of its own."""
    name = suspect.type if suspect.type.startswith(f"{suspect.library}.") else suspect.type.rpartition(".")[2]
    return text if f" {name}()" in text else _MAKES_CLIENT.sub(lambda found: f"with {name}(...) as", text, count=1)


_MAKES_CLIENT: Final = re.compile(r"\bwith [\w.]+\(\) as")


def _of_websocket(suspect: Suspect) -> str | None:
    """What to say of the response of a WebSocket of httpx2's, which has a block of its own."""
    if suspect.kind is not Kind.RESPONSES or not is_of_websocket(suspect):
        return None
    return f"use `{'async ' if 'aclose' in suspect.hint else ''}with client.websocket(...) as ws:`"


def is_of_websocket(suspect: Suspect) -> bool:
    """Whether it was made on the way of a WebSocket of httpx2's."""
    return any("/httpx2/websockets/" in site.file.replace("\\", "/") for site in suspect.stack)


def _of_transport(suspect: Suspect) -> str | None:
    """What to say of a response that httpx's client was to read itself, where another transport is around its own."""
    if suspect.kind is not Kind.RESPONSES:
        return None
    stack = suspect.stack
    is_clients = [site.file.replace("\\", "/").endswith(f"/{suspect.library}/_client.py") for site in stack]
    if not any(each and site.function == "request" for each, site in zip(is_clients, stack, strict=True)):
        return None
    below = stack[: is_clients.index(True)]
    if suspect.created in below:
        return _OWN_TRANSPORT.format("`await response.aclose()`" if "aclose" in suspect.hint else "`response.close()`")
    outermost = infrastructure.maker_of(reversed(below))
    return None if outermost is None else _BETWEEN.format(infrastructure.package_of(outermost.file))


def _through(suspect: Suspect) -> str | None:
    """What to say of an HTTP library's object, with the name of another library, where that has made it."""
    if suspect.type == WEBSOCKET or (suspect.kind is Kind.CONNECTIONS and not suspect.hint):
        return _OPENED_THROUGH
    if suspect.kind is Kind.CONNECTIONS:  # most of these have been given up, which is for their own library to say
        return _SLOT_THROUGH if _RELEASE in suspect.hint else None
    return _THROUGH.get(suspect.kind)


def _hint(suspect: Suspect, holder: object) -> str:
    if suspect.type == WEBSOCKET:
        return _WEBSOCKET
    if suspect.kind is Kind.RESPONSES:
        return _of_response(suspect)
    if suspect.kind is Kind.CLIENTS:
        if suspect.library == "urllib3" and _is_bare_pool(suspect, holder):
            return _BARE_POOL.format(suspect.type)
        return _CLOSE_CLIENT.get(suspect.library, _BY_KIND[Kind.CLIENTS])
    if suspect.library == "os" and not suspect.stack:
        return _NATIVE
    if suspect.kind is Kind.LOOPS and suspect.state is State.RUNNING:
        return _RUNNING_LOOP
    if suspect.type == "threading.Timer":
        return "call `timer.cancel()` before the test ends"
    by_library = None if databases.is_database(type(holder)) else _by_library(suspect)
    ended = halfended.hint(suspect, holder) or by_maker(suspect)
    by_kind = _LOW_THREAD if suspect.type == "_thread" else _BY_KIND[suspect.kind]
    return by_library or ended or _by_holder(suspect, holder) or by_kind


def _of_response(suspect: Suspect) -> str:
    """What to say of a response: what the user has of it depends on the function that was called for it."""
    files = [site.file.replace("\\", "/") for site in suspect.stack]
    if any(file.endswith("/urllib/request.py") for file in files):
        if suspect.state is State.COLLECTED and _UNAUTHORIZED.search(suspect.summary):
            return _ASKED_FOR_PASSWORD
        called = "opener.open" if _has_called(suspect, "urllib/request.py", "open") else "urlopen"
        return _HTTP_ERROR if _NOT_FINE.search(suspect.summary) else URLOPEN.replace("urlopen", called)
    text = _CLOSE_RESPONSE.get(suspect.library, _BY_KIND[Kind.RESPONSES])
    name = "requests" if any(file.endswith("/requests/api.py") for file in files) else "session"
    return text.replace("session.get(", f"{name}.{_verb(suspect)}(")


def _verb(suspect: Suspect) -> str:
    """The method of a session that sends such a request, or one that was made before."""
    if _has_called(suspect, "requests/sessions.py", "send"):
        return "send"
    verb = suspect.summary.partition(" ")[0].lower()
    return verb if verb in _VERBS else "get"


def _has_called(suspect: Suspect, file: str, function: str) -> bool:
    """Whether the user's line has called a function of a library itself, and is not what stands in its place."""
    inside, created = _inside(suspect), suspect.created
    if not inside or created is None or created not in suspect.stack or created.function == function:
        return False
    return inside[-1].function == function and inside[-1].file.replace("\\", "/").endswith(f"/{file}")


_VERBS: Final = frozenset("delete head options patch post put".split())


def _is_bare_pool(suspect: Suspect, pool: object) -> bool:
    """Whether that is one host's pool, and no manager of several, which has to be cleared."""
    return suspect.type.endswith("ConnectionPool") if pool is None else not hasattr(type(pool), "clear")


def _of_the_library(suspect: Suspect) -> str | None:
    """What to say of a connection that a client has asked its pool for, of which the client's user only sees responses.

    It is named after its own class: another library may have put one in the place of urllib3's, and so may the user.
    """
    if suspect.kind is not Kind.CONNECTIONS or suspect.created not in suspect.stack or _RELEASE in suspect.hint:
        return None
    below = suspect.stack[: suspect.stack.index(suspect.created)]
    places = {(infrastructure.installed_place(site.file), site.function) for site in below}
    if _OF_REQUESTS in places and _OF_POOL not in places:  # until 2.28 it went round that for a body in parts
        return _LIBRARYS_OWN.format("requests")
    is_asked = _OF_POOL in places or (not suspect.hint and any(place == "aiohttp/client.py" for place, _ in places))
    package = infrastructure.package_of_class(suspect.type) if is_asked else ""
    return _LIBRARYS_OWN.format(package) if package else None


_OF_REQUESTS: Final = ("requests/adapters.py", "send")
_OF_POOL: Final = ("urllib3/connectionpool.py", "urlopen")


def _by_library(suspect: Suspect) -> str | None:
    """What an installed library has made deep inside is not the user's to close, but what the library has given is."""
    text = _BY_LIBRARY.get(suspect.kind)
    package = None if text is None else infrastructure.wrapper_of(suspect)
    if text is None or package is None:
        return None
    places = [infrastructure.installed_place(site.file) for site in suspect.stack]
    of_server = [_OF_SERVERS[place] for place in places if place in _OF_SERVERS]
    if of_server and suspect.kind is Kind.SOCKETS:
        return of_server[-1]
    return text.format(package) + _if_done(suspect, _libraries(suspect))


def _by_holder(suspect: Suspect, holder: object) -> str | None:
    """A descriptor is closed by its object, and not in the same way by each."""
    if suspect.kind is Kind.SOCKETS and suspect.key < 0 and holder is None:
        return _DETACHED
    if suspect.kind is Kind.FDS and module_of(holder) == "mmap":
        return _MAPPED
    if suspect.kind is not Kind.FDS or suspect.key >= 0:
        return None
    if holder is None:  # or a poller, which the collector does not know
        return None if suspect.names[0] == _POLLER else _NUMBER
    if not databases.is_database(type(holder)):
        return None
    if databases.is_over(holder):
        return _CURSOR
    package = infrastructure.wrapper_of(suspect, but=HTTP_PACKAGES)  # which keep nothing in databases
    if package is not None:
        return _LIBRARYS_DATABASE.format(package)
    return _DATABASE if suspect.stack[:1] == (suspect.created,) else None
