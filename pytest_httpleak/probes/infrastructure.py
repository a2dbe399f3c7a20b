"""What belongs to the tools around the tests - runner, coverage, debugger, logging, multiprocessing - and is never a leak."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import native
from pytest_httpleak.probes import descriptors as descriptors_probe
from pytest_httpleak.userfiles import HTTP_PACKAGES

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site, Suspect
    from pytest_httpleak.tables import Table

# Packages whose own threads and descriptors are the tool's, whatever test first set them off.
_TOOLS: Final = frozenset(
    "_pydevd_bundle _pytest coverage debugpy ddtrace execnet hypothesis ipykernel IPython memory_profiler memray newrelic "
    "opentelemetry pluggy pydevd pyinstrument pytest pytest_cov pytest_timeout scalene sentry_sdk tqdm viztracer xdist".split()
)
# Where a client hands its request to an application in the same process.
_DOORS: Final = (
    "httpx/_transports/asgi.py",
    "httpx/_transports/wsgi.py",
    "httpx2/_transports/asgi.py",
    "httpx2/_transports/wsgi.py",
    "webtest/app.py",
    "werkzeug/test.py",
)
# Where their code stands in the place of other functions, to watch the calls, and only hands them on.
_PASSAGES: Final = (
    "ddtrace/appsec/",
    "ddtrace/contrib/",
    "ddtrace/internal/wrapping/",
    "ddtrace/vendor/",
    "debugpy/_vendored/pydevd/_pydev_bundle/pydev_monkey.py",
    "decorator.py",
    "newrelic/api/",
    "newrelic/common/async_",
    "newrelic/common/coroutine.py",
    "newrelic/common/object_wrapper.py",
    "newrelic/hooks/",
    "newrelic/packages/wrapt/",
    "opentelemetry/instrumentation/",
    "opentelemetry/util/",
    "pydantic/",  # the models of which call whatever their fields have for a factory
    "sentry_sdk/integrations/",
    "sentry_sdk/tracing_utils.py",
    "sentry_sdk/utils.py",  # has the decorator that its integrations put around their wrappers
    "viztracer/patch.py",
    "wrapt/",
)
_MOST_HANDLERS: Final = 1000
_PLUGINS: Final = "pytest_"  # of pytest, which may run the tests; so are the names of its hooks
# The hooks in which a plugin may run what the tests have: a fixture, a function, a loop with its callbacks.
_OF_TESTS: Final = frozenset(("pytest_fixture_setup", "pytest_pyfunc_call", "pytest_runtestloop"))
_THREAD_PREFIXES: Final = ("pydevd.", "execnet", "pytest_timeout")


def is_of_a_tool(suspect: Suspect) -> bool:
    """Whether who asked for something was a tool around the tests: the innermost code that does more than hand on calls.

    The standard library hands on, and so does what tools put around other functions to watch them. Where no line of the
    user's was on the way, another plugin of pytest's counts as a tool too, with what its hooks call, and so do those that hand
    on, alone: somebody called them from outside the tests.
    """
    if suspect.created is None and any(map(_is_hook, suspect.stack[-1:])):
        return True
    for site in suspect.stack:
        place = installed_place(site.file)
        if place is not None and not place.startswith(_PASSAGES):
            package = _package(place)
            return package in _TOOLS or (suspect.created is None and package.startswith(_PLUGINS))
    return suspect.created is None and bool(suspect.stack)


def _is_hook(site: Site) -> bool:
    """Whether a function is a hook of an installed plugin's, of those in which nothing of the tests is run."""
    name = site.function
    return name.startswith(_PLUGINS) and name not in _OF_TESTS and installed_place(site.file) is not None


def runs_a_tool(thread: Any, suspect: Suspect) -> bool:
    """Whether a tool started a thread to run its own code, also where the innermost code is someone else's wrapper.

    Somebody else's call that has a thread run a tool's function makes the thread theirs: the tool itself must be on the way.
    """
    places = [place for place in map(installed_place, (site.file for site in suspect.stack)) if place]
    for thing in (type(thread), attribute(thread, "_target"), attribute(thread, "function")):
        package = _definer(thing)
        if package in _TOOLS:
            of_package = [place for place in places if _package(place) == package]
            if any(is_a(thing, type) or not place.startswith(_PASSAGES) for place in of_package):
                return True
    return False


def serves_a_logger(thread: Any) -> bool:
    """Whether a thread hands on what loggers have put into a queue, for a handler that one of them writes to."""
    listeners = (attribute(handler, "listener") for handler in _attached())
    return thread is not None and any(attribute(listener, "_thread") is thread for listener in listeners)


def wrapper_of(suspect: Suspect, but: Container[str] = ()) -> str | None:
    """The installed package that the user's own line called, where it is not the library itself, no tool and none of `but`.

    Where no line of the user's led there, the one that made it in a callback or a thread. An application in the same process
    makes things for itself: the client whose request it serves has only handed that on.
    """
    if suspect.created is None:
        site = maker_of(suspect.stack)
        package = "" if site is None else package_of(site.file)
        return None if package in ("", suspect.library) or package in but else package
    found = None
    for site in suspect.stack:
        if site == suspect.created or (found is not None and installed_place(site.file) in _DOORS):
            return found
        package = package_of(site.file)
        is_around = found is not None and package.startswith(_PLUGINS)
        if (
            package and package not in but and not is_around
        ):  # the outermost: what a library is built on it calls itself
            found = None if package == suspect.library else package
    return None


def maker_of(stack: Iterable[Site]) -> Site | None:
    """The first line of an installed package that is no HTTP library, no tool and no plugin of pytest's."""
    for site in stack:
        package = package_of(site.file)
        if package and package not in HTTP_PACKAGES and not package.startswith(_PLUGINS):
            return site
    return None


def package_of(file: str) -> str:
    """The installed package that a file is of; empty where it is none, a tool's, or of one that only hands on calls.

    Below a folder that several distributions share it is more than one name: `google.auth`.
    """
    place = installed_place(file) or ""
    package = _package(place)
    if not place or package in _TOOLS or place.startswith(_PASSAGES):
        return ""
    folder, names = file.replace("\\", "/").removesuffix(place), []
    for each in place.split("/"):
        folder += each
        names.append(each.partition(".")[0])
        if not _is_namespace(folder):
            break
        folder += "/"
    return ".".join(names)


def package_of_class(name: str) -> str:
    """The same of a class by its name (`vcr.patch.Connection`): of the innermost of its modules that has a file."""
    while "." in name:
        name = name.rpartition(".")[0]
        file = attribute(sys.modules.get(name), "__file__")
        if is_a(file, str):
            return package_of(file)
    return ""


@functools.lru_cache(maxsize=512)
def _is_namespace(folder: str) -> bool:
    """Whether that is a folder that several distributions share, as `google` is, and so no package by itself."""
    try:
        return not any(name.startswith("__init__.") for name in native.listdir(folder))
    except OSError as error:  # a module, or a place that there is not
        pass_on(error)
        return False


def _definer(thing: Any) -> str | None:
    """The installed package that defines a class or function; a wrapper with manners says that of what it wraps."""
    while is_a(thing, functools.partial):
        thing = thing.func
    module = attribute(thing, "__module__")
    file = attribute(sys.modules.get(module), "__file__") if is_a(module, str) else None
    place = installed_place(str(file or "<built-in>"))
    return None if place is None else _package(place)


def installed_place(file: str) -> str | None:
    """The path of an installed file below its folder of packages, "" for code elsewhere, None for the standard library's."""
    path = file.replace("\\", "/")
    for folder in ("/site-packages/", "/dist-packages/"):
        if folder in path:
            return path.rpartition(folder)[2]
    return None if path.startswith("<") or _is_standard(path) else ""


def _package(place: str) -> str:
    """The top-level package of an installed file."""
    return place.partition("/")[0].removesuffix(".py")


def _is_standard(path: str) -> bool:
    return path.startswith(_STANDARD)


_STANDARD: Final = (sys.modules["os"].__file__ or "").replace("\\", "/").rpartition("/")[0] + "/"


def is_tool_thread(name: str) -> bool:
    """Whether a thread's name is one that a tool gives."""
    return name.startswith(_THREAD_PREFIXES)


def descriptors(handlers: Table, owner: Any) -> set[int]:
    """Descriptors that belong to the loggers' handlers and to multiprocessing; not those of handlers that an owner piles up."""
    return {*_logging(handlers, owner), *of_multiprocessing()}


def of_multiprocessing() -> set[int]:
    """Descriptors of multiprocessing's tracker, fork server and shared memory, and what a manager's proxies are connected by."""
    found = _shared_memory() | _of_proxies()
    tracker = attribute(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker")
    server = attribute(sys.modules.get("multiprocessing.forkserver"), "_forkserver")
    for place, names in ((tracker, ("_fd",)), (server, ("_forkserver_fd", "_forkserver_alive_fd"))):
        found |= {fd for name in names if is_a(fd := attribute(place, name), int)}
    return found


def _of_proxies() -> set[int]:
    """The connections of this thread to managers: they end with the last proxy, which has nothing to close them with."""
    util = sys.modules.get("multiprocessing.util")
    local: Any = attribute(util, "ForkAwareLocal")
    if local is None:
        return set()
    finalizers = list(attribute(util, "_finalizer_registry", {}).values())
    kept = (part for each in finalizers for part in attribute(each, "_args") or () if is_a(part, local))
    return {fd for each in kept if is_a(fd := attribute(attribute(each, "connection"), "_handle"), int)}


def _shared_memory() -> set[int]:
    """The files below the heap for `multiprocessing.Value` and `Array`, which the process keeps, and their mappings."""
    heap = attribute(attribute(sys.modules.get("multiprocessing.heap"), "BufferWrapper"), "_heap")
    arenas = {descriptors_probe.identity(arena.fd) for arena in attribute(heap, "_arenas", ())} - {None}
    if not arenas:
        return set()
    return {fd for fd, identity in descriptors_probe.listing().items() if identity in arenas}


def _logging(handlers: Table, owner: Any) -> Iterator[int]:
    for handler in lasting_handlers(handlers, owner):
        for name in ("stream", "sock", "socket"):
            part = attribute(handler, name)
            fd = None if part is None or part is sys.stdout or part is sys.stderr else _fileno(part)
            if fd is not None:
                yield fd


def lasting_handlers(handlers: Table, owner: Any) -> list[Any]:
    """The handlers of loggers that are there for the process, with what they have open: all but what an owner has piled up."""
    piled_up = {id(handler) for logger in _loggers() for handler in _piled_up(logger, handlers, owner)}
    return [handler for handler in _attached() if id(handler) not in piled_up]


def _piled_up(logger: Any, handlers: Table, owner: Any) -> Iterator[Any]:
    """What an owner has made of a logger's handlers where that had one of the same line already, from an earlier test's time.

    The first is there for the process, and so are all that one test has added, also one that is run again.
    """
    earlier: dict[object, list[Any]] = {}
    for handler in _reached(_handlers_of(logger)):  # the oldest first
        record = handlers.get(handler)
        if record is None or record.birth is None or record.owner is None:
            continue
        before = earlier.setdefault(record.birth.place(), [])
        if record.owner is owner and any(_is_earlier(each, owner) for each in before):
            yield handler
        before.append(record.owner)


def _is_earlier(other: Any, owner: Any) -> bool:
    return bool(other.over or other.scope == "process") and other.name != owner.name


def _loggers() -> list[Any]:
    logging = sys.modules.get("logging")
    loggers = attribute(attribute(attribute(logging, "Logger"), "manager"), "loggerDict", {})
    return [attribute(logging, "root"), *list(loggers.values())]


def _attached() -> Iterator[Any]:
    """The handlers that a logger writes to, through others or at once; one that was taken off it unclosed is a leak."""
    return _reached(handler for logger in _loggers() for handler in _handlers_of(logger))


def _handlers_of(thing: Any) -> list[Any]:
    """The handlers of a logger or listener; none of a place in the tree that no logger has taken yet, nor of a mock."""
    handlers = attribute(thing, "handlers")
    return [*handlers] if is_a(handlers, (list, tuple)) else []


def _reached(handlers: Iterable[Any]) -> Iterator[Any]:
    """Some handlers, and those that they hand on to, each once; what stands in for one may hand on to ever more of its kind."""
    cls = attribute(sys.modules.get("logging"), "Handler")
    todo, seen = deque(handlers if is_a(cls, type) else ()), set[int]()
    while todo and len(seen) < _MOST_HANDLERS:
        handler = todo.popleft()
        if id(handler) not in seen and is_a(handler, cls):
            seen.add(id(handler))
            yield handler
            todo.append(attribute(handler, "target"))
            todo += _handlers_of(attribute(handler, "listener"))


def _fileno(stream: Any) -> int | None:
    try:
        fd = stream.fileno()
    except Exception:  # noqa: BLE001  # a stream may be anything that can write
        return None
    return fd if is_a(fd, int) else None
