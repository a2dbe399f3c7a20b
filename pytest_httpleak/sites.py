"""Where in the source something was made: raw frames at birth, sites only once somebody asks."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.userfiles import (
    GENERATED,
    LIBRARY,
    PLUGIN,
    RUNNER,
    USER,
    is_among_packages,
    is_of_asyncio,
    known_sorts,
    module_of,
    sort_of,
)

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site


# Deep enough for the longest way from a library's socket call to the user's line (httpx over anyio needs about 40).
_MAX_FRAMES: Final = 80
_DEPTHS: Final = range(_MAX_FRAMES)
_IMPORT: Final = "<frozen importlib"
_getframe: Final = sys._getframe
_USER_FRAMES: Final = 6
_KEEPERS: Final = frozenset(("concurrent", "multiprocessing"))  # packages that keep workers
_MOST_MAKERS: Final = 3  # tasks and threads that have led to each other

# What event loops call on the protocols of their transports.
_PROTOCOL_CALLS: Final = frozenset(
    "buffer_updated connection_made data_received datagram_received eof_received".split()
)

# Functions of asyncio's that make a task of a coroutine.
STARTS: Final = frozenset(("_ensure_future", "create_task", "ensure_future", "gather"))


class Birth:
    """The call stack at the birth of a resource, innermost frame first, as raw (code, instruction) pairs.

    `parent` is the birth of the task or thread that made it, for stacks that have no frame of the user's. `within` has the
    frames of the birth of that task or thread in any case, and of the last few that have led to it. `importing` says of the
    frames that were left out whether a module is imported by them; None where they are the test runner's.
    """

    __slots__ = ("frames", "has_user", "importing", "parent", "within")

    def __init__(
        self,
        frames: list[tuple[CodeType, int]],
        has_user: bool,
        parent: Birth | None,
        *,
        importing: bool | None = None,
    ) -> None:
        self.frames = frames
        self.has_user = has_user
        self.parent = parent
        self.importing = importing
        self.within: tuple[list[tuple[CodeType, int]], ...] = ()

    def came_from(self, maker: Birth) -> None:
        """Note the birth of the task or thread that made it: its frames, as those would keep all that have led to it."""
        within = maker.within
        self.within = (maker.frames, *within[: _MOST_MAKERS - 1]) if within else (maker.frames,)

    def site(self) -> Site | None:
        """The innermost line of the user's own code, or None where there is none."""
        place = self.place()
        return None if place is None else _site(*place)

    def codes(self) -> list[CodeType]:
        """The code of all that has led to it, the innermost first; of the task or thread that made it, too."""
        codes: list[CodeType] = []
        birth: Birth | None = self
        while birth is not None:
            codes += [code for code, _ in birth.frames]
            birth = birth.parent
        return codes

    def is_users(self) -> bool:
        """Whether the user's code has led to it: not so to a task that a test runner makes for a test."""
        return self.has_user or self.parent is not None

    def place(self) -> tuple[CodeType, int] | None:
        """The same as a raw pair, which tells places apart and costs less."""
        birth: Birth | None = self
        sort_of = known_sorts.get
        while birth is not None:
            for frame in birth.frames:
                if sort_of(frame[0].co_filename) == USER:
                    return frame
            birth = birth.parent
        return None

    def is_of_protocol(self) -> bool:
        """Whether a library's protocol made it when its connection was made or heard something: a server's handler.

        What a library makes for itself in such a task is the protocol's, too.
        """
        birth: Birth | None = self
        while birth is not None:
            for code, _ in birth.frames:
                if known_sorts.get(code.co_filename, LIBRARY) == USER:
                    return False
                if code.co_name in _PROTOCOL_CALLS:
                    return True
            birth = birth.parent
        return False

    def is_made_by_a_loop(self) -> bool:
        """Whether it is a task that a loop has made by a callback of its own which is nothing but the function for that."""
        for code, _ in self.frames:
            is_asyncios = is_of_asyncio(code.co_filename)
            if not (is_asyncios and code.co_name in STARTS) and not code.co_filename.startswith((PLUGIN, GENERATED)):
                return is_asyncios and code.co_qualname == "Handle._run"
        return False

    def is_import(self) -> bool:
        """Whether it happened while a module was being imported: what is made then belongs to the process."""
        if self.importing is not None:
            return self.importing or any(map(_imports, self.frames, self.frames[1:]))
        return any(map(_imports, self.frames, [*self.frames[1:], None]))

    def makers(self) -> frozenset[str]:
        """The packages whose code lies between the user's line and what was made: they may keep it for themselves.

        Of the standard library only those that keep workers.
        """
        makers: set[str] = set()
        birth: Birth | None = self
        while birth is not None:
            for code, _ in birth.frames:
                filename = code.co_filename
                if known_sorts.get(filename) == USER:
                    return frozenset(makers)
                package = module_of.get(filename, "").partition(".")[0]
                if package in _KEEPERS or is_among_packages(filename):
                    makers.add(package)
            birth = birth.parent
        return frozenset(makers)

    def stack(self) -> tuple[Site, ...]:
        """All recorded frames as sites, innermost first; frames of the plugin are left out."""
        sites: list[Site] = []
        birth: Birth | None = self
        while birth is not None:
            sites += [
                _site(code, instruction)
                for code, instruction in birth.frames
                if not code.co_filename.startswith((PLUGIN, GENERATED))
            ]
            birth = birth.parent
        return tuple(sites)


def capture(depth: int, outermost: FrameType | None = None) -> Birth:
    """The stack of the caller `depth` frames up, as far as a few frames of the user's code, or the `outermost` frame."""
    # Written for speed: this is the dearest thing that happens at a birth, and most frames are a library's.
    frame: Any = _getframe(depth)
    frames: list[tuple[CodeType, int]] = []
    sorts, append = known_sorts, frames.append
    users = 0
    for _ in _DEPTHS:
        code = frame.f_code
        try:
            sort = sorts[code.co_filename]
        except KeyError:
            sort = sort_of(frame)
        if sort:
            if sort == RUNNER:
                break
            users += 1
            if users == _USER_FRAMES:
                append((code, frame.f_lasti))
                return Birth(frames, True, None, importing=_is_imported(frame, outermost))
        append((code, frame.f_lasti))
        if frame is outermost:
            break
        frame = frame.f_back
        if frame is None:  # a program's own module, or a thread's first function
            return Birth(frames, users > 0, None, importing=False)
    else:
        return Birth(frames, users > 0, None, importing=_is_imported(frame, outermost))
    return Birth(frames, users > 0, None)


def _imports(module: tuple[CodeType, int], caller: tuple[CodeType, int] | None) -> bool:
    """Whether a frame is that of a module which its caller imports; None stands for the test runner."""
    if module[0].co_name != "<module>":
        return False
    return caller is None or caller[0].co_filename.startswith(_IMPORT)


def _is_imported(frame: Any, outermost: FrameType | None) -> bool:
    """Whether this frame, or one that has led to it, is that of a module which is being imported."""
    while frame is not outermost:
        caller = frame.f_back
        if caller is None:  # a program's own module
            return False
        sort = known_sorts.get(caller.f_code.co_filename)
        by_runner = (sort_of(caller) if sort is None else sort) == RUNNER
        if frame.f_code.co_name == "<module>" and (by_runner or caller.f_code.co_filename.startswith(_IMPORT)):
            return True
        if by_runner:
            return False
        frame = caller
    return False


def birth_of(frames: list[FrameType]) -> Birth:
    """The birth at a place that is given by its frames, innermost first, instead of by the running stack."""
    sorts = [known_sorts.get(frame.f_code.co_filename) for frame in frames]
    has_user = any(
        (sort_of(frame) if sort is None else sort) == USER for frame, sort in zip(frames, sorts, strict=True)
    )
    return Birth([(frame.f_code, frame.f_lasti) for frame in frames], has_user, None)


def calls_within() -> int:
    """How many calls within the plugin lead to the one that asks, itself included: the `stacklevel` of who called."""
    frame: Any = _getframe(1)
    calls = 1
    while frame is not None and frame.f_code.co_filename.startswith(PLUGIN):
        frame = frame.f_back
        calls += 1
    return calls


def _site(code: CodeType, instruction: int) -> Site:
    """The line of one place; the code is kept with it, as equal functions of two files would be one key."""
    key = id(code), instruction
    known = _told.get(key)
    if known is None:
        if len(_told) >= _MOST_TOLD:
            _told.clear()
        known = _told[key] = code, _site_of(code, instruction)
    return known[1]


def place_at(site: Site) -> tuple[CodeType, int] | None:
    """The code and instruction of one of the last places that were told, this very one; None for others."""
    return next(((code, number) for (_, number), (code, known) in _told.items() if known is site), None)


_told: dict[tuple[int, int], tuple[CodeType, Site]] = {}
_MOST_TOLD: Final = 4096


def _site_of(code: CodeType, instruction: int) -> Site:
    from pytest_httpleak import doctests  # here, as a clean run tells no place
    from pytest_httpleak.model.findings import Site

    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
            break
    return Site(*doctests.place_of(code.co_filename, line), code.co_name)
