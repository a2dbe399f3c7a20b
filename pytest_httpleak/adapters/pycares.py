"""pycares, hence aiodns and aiohttp's resolver: the descriptors of a c-ares channel, which C code opens unseen."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, ClassVar, Final

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.opennumbers import native, open_numbers
from pytest_httpleak.records import Bystander

MODULES = ("pycares",)

# Bound here, so that a test which puts something else in their place cannot mislead the watch.
_fstat = native.fstat

_PATIENCE: Final = 0.05  # seconds; a channel is destroyed within one of them, in a thread of pycares's
_UNTIL_CLOSED: Final = 0.002  # seconds in which a channel whose destruction has begun has closed all that it had


class ChannelRecord(Bystander):
    """A channel; never suspect itself, since its descriptors are: whoever resolves through it answers for them."""

    __slots__ = ("awaited", "births", "identities")

    kind: ClassVar[Kind] = Kind.FDS
    LIBRARY = "pycares"

    def __init__(self, identities: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self.identities = identities
        self.births: dict[int, Any] = {}  # by descriptor, of which one that is used again has another
        self.awaited = False  # once, when another channel was made after its end

    def is_ending(self) -> bool:
        """Whether the channel was closed or dropped; it is destroyed soon after, and its descriptors with it."""
        channel = self.ref()
        return channel is None or getattr(channel, "_channel", channel) is None

    def opened(self) -> Iterator[int]:
        """The channel's descriptors (epoll, inotify, a pipe, a source of random numbers) that are still open."""
        if self.identities == _open(self.identities):  # some have no identity of their own, so it is all or none
            yield from self.identities


class EndingRecord(Bystander):
    """pycares's thread that destroys channels, in 4.9 one second after the other: it answers for those that wait for it."""

    __slots__ = ("born", "channels")

    kind: ClassVar[Kind] = Kind.FDS
    LIBRARY = "pycares"

    def __init__(self, born: Callable[[int], Any]) -> None:
        super().__init__()
        self.born = born
        self.channels: dict[int, ChannelRecord] = {}  # by identity; one that was dropped is in no table any more

    def waiting(self) -> list[ChannelRecord]:
        """The channels that were closed or dropped and are not destroyed yet; those that are, are forgotten."""
        ending = self.still_known()
        for record in ending:
            if all(self._is_over(record, fd) for fd in record.identities):
                self.channels.pop(id(record), None)
        return [record for record in ending if id(record) in self.channels]

    def still_known(self) -> list[ChannelRecord]:
        """The same with those that have been destroyed since this was asked last."""
        return [record for record in list(self.channels.values()) if record.is_ending()]

    def has_begun(self, record: ChannelRecord) -> bool:
        """Whether a channel has closed something, or all, of what it had; the numbers may have been given to the next one."""
        return any(self._is_over(record, fd) for fd in record.identities)

    def _is_over(self, record: ChannelRecord, fd: int) -> bool:
        """Whether a channel's descriptor is closed, or is somebody else's by now."""
        return _open((fd,)).get(fd) != record.identities[fd] or self.born(fd) is not record.births[fd]

    def descriptors(self) -> Iterator[int]:
        for record in self.waiting():
            yield from (fd for fd in record.identities if not self._is_over(record, fd))


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note what each channel opens when it is made."""
    births = _Births(module, hooks)
    hooks.patches.replace(module.Channel, "__init__", births.make)


class _Births:
    """Channels, which are made one after the other: two that are made at once could not be told apart."""

    def __init__(self, module: ModuleType, hooks: Hooks) -> None:
        self._watch: Any = hooks.watch
        self._wall, self._making = hooks.wall, threading.RLock()
        self._channels, self._ending = hooks.watch.table("pycares channels"), EndingRecord(self._birth)
        self._ending.owner = hooks.watch.root
        hooks.watch.table("pycares threads").put(module, self._ending)

    def _birth(self, fd: int) -> Any:
        known = self._watch.fds.get(fd)
        return None if known is None else known[0]

    def make(self, original: Any) -> Any:
        """What to put in the place of a channel's `__init__`."""
        wall = self._wall

        def born(channel: Any, *args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            if not wall.on:  # in a forked child, too, where another thread's lock is held for ever
                original(channel, *args, **kwargs)
                return
            with self._making:
                ready = self._get_ready()
                original(channel, *args, **kwargs)
                if ready is not None and wall.on:
                    try:
                        self._note(channel, *ready)
                    except Exception as error:  # noqa: BLE001 - the wall keeps whatever it is from the tested code
                        wall.fall(error)

        return born

    def _get_ready(self) -> tuple[set[int], dict[int, Any]] | None:
        """What is open before a channel is made, and known to the watch; None where that went wrong."""
        try:
            self._let_end()
            return set(_listing()), dict(self._watch.fds)
        except Exception as error:  # noqa: BLE001 - as above
            self._wall.fall(error)
            return None

    def _let_end(self) -> None:
        """Wait for channels that are being destroyed: their numbers would be given to the next one, and not be seen."""
        end = Real.monotonic() + _PATIENCE
        for record in self._ending.waiting():
            while not record.awaited and record in self._ending.waiting() and Real.monotonic() < end:
                Real.sleep(0.001)
            record.awaited = True

    def _note(self, channel: Any, before: set[int], known: dict[int, Any]) -> None:
        watch = self._watch
        destroyed = [record for record in self._ending.still_known() if self._ending.has_begun(record)]
        if destroyed:
            Real.sleep(_UNTIL_CLOSED)
            before = before.difference(*(record.identities for record in destroyed))
        new = {fd: identity for fd, identity in _listing().items() if fd not in before}
        # Another thread may have opened a file meanwhile, or the poller of its loop.
        others = {fd for loop in watch.table("loops") for fd in loop.descriptors()}
        made = {fd: new[fd] for fd in new.keys() - others if watch.fds.get(fd) is known.get(fd)}
        record = ChannelRecord(made)
        self._channels.put(channel, record)
        watch.add(record, opened=False, depth=5)
        for fd in made:
            watch.descriptor_made(fd, 5)
            record.births[fd] = self._birth(fd)
        self._ending.channels[id(record)] = record


def _listing() -> dict[int, tuple[int, int]]:
    """What is open now, save sockets; nothing where the system does not tell."""
    return _open(open_numbers())


def _open(numbers: Iterable[int]) -> dict[int, tuple[int, int]]:
    found = {}
    for fd in numbers:
        try:
            status = _fstat(fd)
        except OSError:
            continue
        if not stat.S_ISSOCK(status.st_mode):
            found[fd] = (status.st_dev, status.st_ino)
    return found
