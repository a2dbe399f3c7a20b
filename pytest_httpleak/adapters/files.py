"""Descriptors made through `open`, `os` and their kin: where and for whom. Whether one is open, it tells itself."""

from __future__ import annotations

import _io
import builtins
import io
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import attribute
from pytest_httpleak.bystanders import HandlerRecord, record_all
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import is_open, open_numbers
from pytest_httpleak.patches import Wall
from pytest_httpleak.userfiles import is_user_file

MODULES = (
    "os",
    "select",
    "selectors",
    "socket",
    "mmap",
    "fcntl",
    "logging",
    "multiprocessing.connection",
    "_posixshmem",
)

_ONE = ("open", "memfd_create", "eventfd", "timerfd_create", "pidfd_open", "posix_openpt")
_TWO = ("pipe", "pipe2", "openpty")
_DOUBLING = ("F_DUPFD", "F_DUPFD_CLOEXEC")
_SELECTORS = ("EpollSelector", "DevpollSelector", "KqueueSelector")
_POLLERS = ("epoll", "kqueue", "devpoll")
_IMPORTER = "<frozen importlib._bootstrap_external>"


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note the birth of each descriptor that a call returns."""
    _ATTACH[module.__name__](module, hooks)


def _os(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    made = watch.descriptor_made

    def one(fd: Any, /, *args: Any, **kwargs: Any) -> None:
        made(fd)

    def double(fd: Any, source: Any, /, *args: Any, **kwargs: Any) -> None:
        watch.copy_made(fd, source)

    def two(fds: Any, /, *args: Any, **kwargs: Any) -> None:
        made(fds[0])
        made(fds[1])

    def forked(result: Any, /, *args: Any, **kwargs: Any) -> None:
        if result[0]:
            made(result[1])

    for names, note in ((_ONE, one), (("dup",), double), (_TWO, two), (("forkpty",), forked)):
        for name in names:
            if hasattr(module, name):
                hooks.after(module, name, note)
    _dup2(module, hooks)
    if builtins.open is io.open is _io.open:
        _open(hooks)


def _open(hooks: Hooks) -> None:
    watch: Any = hooks.watch
    made = watch.descriptor_made

    def opened(file: Any, name: Any = None, /, *args: Any, closefd: bool = True, **kwargs: Any) -> None:
        if isinstance(name, int):  # a descriptor wrapped in a file object has its birth already
            if closefd:
                watch.hold(name, file)
            return
        if sys._getframe(2).f_code.co_filename == _IMPORTER:
            return  # a module's file is closed at once
        _note(made, file)

    hooks.after(builtins, "open", opened)
    wrapper = builtins.open
    for place in (io, _io):  # all three, so that `open` is still found, and pickled, by its own name
        hooks.patches.put(place, "open", wrapper)


_STANDARD = (0, 1, 2)


def _dup2(module: ModuleType, hooks: Hooks) -> None:
    """A number that was open before stays its owner's, whatever is put in its place: so output is redirected.

    What was there is its owner's again where a copy of it is put back, also if something else has had the number meanwhile.
    """
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        def dup2(fd: Any, fd2: Any, inheritable: Any = True) -> Any:
            __tracebackhide__ = True
            if fd2 in _STANDARD and fd2 not in watch.fds:
                return original(fd, fd2, inheritable)  # a redirection: the test runner makes a dozen for each test
            is_new = isinstance(fd2, int) and not is_open(fd2)
            result = original(fd, fd2, inheritable)
            if wall.on and (is_new or result in watch.fds):
                try:
                    is_back = watch.put_back(result, fd)
                    if is_new and not is_back:
                        watch.descriptor_made(result, 4)
                    elif not is_back:
                        birth, owner, _ = watch.fds[result]
                        watch.give(result, birth, owner)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return result

        return dup2

    hooks.patches.replace(module, "dup2", make)


def _sockets(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    sockets = watch.table("sockets")

    def received(result: Any, /, *args: Any, **kwargs: Any) -> None:
        for fd in result[1]:
            watch.descriptor_made(fd)

    def detached(fd: Any, sock: Any, /) -> None:
        record = sockets.get(sock)
        # A bare number from now on, with the origin of the socket that it was; closed by it before, it is somebody else's.
        if record is not None and fd >= 0 and record.is_at(fd):
            watch.give(fd, record.birth, record.owner)

    if hasattr(module, "recv_fds"):
        hooks.after(module, "recv_fds", received)
    if hasattr(module.socket, "detach"):  # eventlet's has none
        hooks.after(module.socket, "detach", detached)


def _selectors(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def born(_: None, selector: Any, /, *args: Any, **kwargs: Any) -> None:
        _note(watch.descriptor_made, selector)

    for name in _SELECTORS:
        if hasattr(module, name):
            hooks.after(getattr(module, name), "__init__", born)


def _pollers(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def made(poller: Any, before: Any) -> None:
        _note(watch.descriptor_made, poller, 7)

    for name in _POLLERS:
        if hasattr(module, name):
            hooks.patches.put(module, name, _stand_in(getattr(module, name), (), hooks, lambda args: None, made))


def _maps(module: ModuleType, hooks: Hooks) -> None:
    """A map of a file has a descriptor of its own, which it does not tell."""
    watch: Any = hooks.watch
    cls = module.mmap

    def before(args: Any) -> tuple[int, set[int]]:
        return (args[0], open_numbers()) if args and args[0] != -1 else (-1, set())

    def made(pages: Any, known: tuple[int, set[int]] | None) -> None:
        mapped, before = known or (-1, set())
        for fd in open_numbers() - before if before else ():
            watch.descriptor_made(fd, 6, pages)
            ours, others = watch.fds.get(fd), watch.fds.get(mapped)
            if ours is not None and others is not None and _is_of_one_call(ours, others):
                watch.maps[fd] = ours[0], mapped, others[0]

    hooks.patches.put(module, "mmap", _stand_in(cls, (cls,), hooks, before, made))


def _is_of_one_call(of_map: Any, of_mapped: Any) -> bool:
    """Whether a function of some library has opened what it then maps, as that of `SharedMemory` does."""
    (birth, *rest), (other, *others) = of_map, of_mapped
    if rest != others or other is None or not birth.frames:  # not of one owner, or not of one file
        return False
    code = birth.frames[0][0]
    return not is_user_file(code.co_filename) and any(each is code for each, _ in other.frames)


def _shared_memory(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def opened(fd: Any, /, *args: Any, **kwargs: Any) -> None:
        watch.descriptor_made(fd)

    hooks.after(module, "shm_open", opened)


def _doubled(module: ModuleType, hooks: Hooks) -> None:
    """The other way to `os.dup`; of the many commands that open nothing, none is told."""
    watch: Any = hooks.watch
    wall = hooks.wall
    doubling = tuple(getattr(module, name) for name in _DOUBLING if hasattr(module, name))

    def make(original: Any) -> Any:
        def fcntl(*args: Any) -> Any:
            __tracebackhide__ = True
            result = original(*args)
            if wall.on and type(args[1]) is int and args[1] in doubling:  # whose comparison runs nobody's code
                try:
                    watch.descriptor_made(result, 4)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return result

        return fcntl

    hooks.patches.replace(module, "fcntl", make)


def _pipes(module: ModuleType, hooks: Hooks) -> None:
    """A connection of `multiprocessing`, which takes a bare descriptor over."""
    watch: Any = hooks.watch

    def born(_: None, connection: Any, handle: Any, /, *args: Any, **kwargs: Any) -> None:
        watch.hold(handle, connection)

    hooks.after(module.Connection, "__init__", born)


def _handlers(module: ModuleType, hooks: Hooks) -> None:
    """The handlers of loggers: what each opens, and when, is its own business."""
    record_all(module.Handler, hooks, "handlers", HandlerRecord)


_ATTACH: dict[str, Callable[[ModuleType, Hooks], None]] = {
    "_posixshmem": _shared_memory,
    "fcntl": _doubled,
    "logging": _handlers,
    "mmap": _maps,
    "multiprocessing.connection": _pipes,
    "os": _os,
    "select": _pollers,
    "selectors": _selectors,
    "socket": _sockets,
}


def _note(made: Callable[[int, int, Any], None], thing: Any, depth: int = 6) -> None:
    try:
        fd = thing.fileno()
    except Exception as error:  # noqa: BLE001  # closed already, or somebody's stand-in for a file
        pass_on(error)
        return
    made(fd, depth, thing)


def _stand_in(
    original: Any, bases: tuple[type, ...], hooks: Hooks, before: Callable[[Any], Any], made: Callable[[Any, Any], None]
) -> Any:
    """A class to put in the place of one that is written in C: the same to every question, but its births are noted.

    What it makes is an instance of the original; `bases` are for classes that may be inherited from.
    """
    wall = hooks.wall

    class Kind(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if cls is not stand_in:
                return super().__call__(*args, **kwargs)
            known = _guarded(wall, before, args) if wall.on else None
            thing = original(*args, **kwargs)
            if wall.on:
                _guarded(wall, made, thing, known)
            return thing

        def __instancecheck__(cls, thing: Any) -> bool:
            if cls is not stand_in:
                return super().__instancecheck__(thing)
            return isinstance(thing, original) or attribute(thing, "__class__") is stand_in  # as a mock of it says

        def __subclasscheck__(cls, other: Any) -> bool:
            if cls is not stand_in:
                return super().__subclasscheck__(other)
            return other is stand_in or issubclass(other, original)

        def __getattr__(cls, name: str) -> Any:
            return getattr(original, name)

        def __repr__(cls) -> str:
            return repr(original) if cls is stand_in else super().__repr__()

    about = {"__doc__": original.__doc__, "__module__": original.__module__, "__qualname__": original.__qualname__}
    stand_in: Any = Kind(original.__name__, bases, about)
    return stand_in


def _guarded(wall: Wall, note: Callable[..., Any], *args: Any) -> Any:
    try:
        return note(*args)
    except RecursionError:
        return None
    except Exception as error:  # noqa: BLE001  # this is the wall
        wall.fall(error)
        return None
