"""How to mend what a `with` block of the user's is there for already: the block was never left, or the library dropped it."""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from types import CodeType
from typing import TYPE_CHECKING, Final

from pytest_httpleak import doctests, waiting
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.probes import infrastructure
from pytest_httpleak.sites import place_at
from pytest_httpleak.standardhints import by_maker
from pytest_httpleak.userfiles import HTTP_PACKAGES, is_user_file

if TYPE_CHECKING:
    import dis

    from pytest_httpleak.model.findings import Site, Suspect

_CLOSING: Final = ("closing", "aclosing")
_STACKING: Final = ("enter_context", "enter_async_context")
_HANDED: Final = re.compile(rf"[^()]*\b({'|'.join(_CLOSING + _STACKING)})\s*\(")
_WITH: Final = "with"
_BEFORE: Final = ("BEFORE_WITH", "BEFORE_ASYNC_WITH")
_SPECIAL: Final = "LOAD_SPECIAL"  # what stands there instead from Python 3.14 on
_NO_STEP: Final = ("PRECALL", "CACHE", "EXTENDED_ARG", "NOP")
_AWAITING: Final = ("SEND", "YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT", "END_SEND")
_ENTERED_LATER: Final = 1  # what is awaited, in an `async with`: what entering it gives

_OF_STACK: Final = "close the stack that it was entered by, best with `with contextlib.ExitStack() as stack:`"
_OF_ASYNC_STACK: Final = (
    "close the stack that it was entered by, best with `async with contextlib.AsyncExitStack() as stack:`"
)
_NOT_LEFT: Final = "the `{}` block there was not left: "
_IF_NOT_LEFT: Final = "if the `{}` block there was not left: "
_OF_GENERATOR: Final = "close the generator, as `with contextlib.closing({}) as ...:` does"
_OF_ASYNC_GENERATOR: Final = "close the generator, as `async with contextlib.aclosing({}) as ...:` does"
_OF_MANAGER: Final = "use `with {}:`, which leaves it, too"
_OF_ASYNC_MANAGER: Final = "use `async with {}:`, which leaves it, too"
_USED_AGAIN: Final = "the `with` block there has closed it: a request that is sent after the block opens it again"
_DROPPED: Final = (
    "the `with` block there closes it once it is left: if it was, the library itself has dropped it: upgrade {}"
)
_OWN_CLOSE: Final = "its own `close()` does not call `super().close()`"
_OF_HOOKS: Final = "; a hook that raises, or gives another response in its place, has to close this one itself"
_HANDED_ON: Final = (
    "close each response that this function does not return, by `{}`; what it returns, the `with` block there closes"
)
_MADE_AGAIN: Final = (
    "the `with` block there closes only what it has at its end: within the block it was connected again: call `close()` "
    "before that"
)
# Whose clients may be used again once they are closed.
_REUSABLE: Final = ("requests", "urllib3")


def hint(suspect: Suspect, *, closes: bool = True) -> str | None:
    """How to mend it; None where the user's line is not known to have entered it by a `with` statement or an exit stack.

    `closes` says whether a block of its own closes it, as that of a connection to a database does not.
    """
    entered, stack = _entered_at(suspect, closes=closes)
    if not entered:
        stack = _guarded_at(suspect)
        return _of_generators(stack, "try", is_dropped=False) if stack else None
    is_made = suspect.kind is Kind.SOCKETS and suspect.state is State.COLLECTED and by_maker(suspect) is not None
    if is_made and infrastructure.wrapper_of(suspect) is None:
        return _MADE_AGAIN
    if entered in _STACKING:
        return _OF_ASYNC_STACK if "async" in entered else _OF_STACK
    text = _of_generators(stack, _WITH, is_dropped=suspect.state is State.COLLECTED)
    if text is not None:
        return text
    is_its_own = suspect.kind in (Kind.RESPONSES, Kind.CLIENTS) and infrastructure.wrapper_of(suspect) is None
    if not is_its_own or suspect.library not in HTTP_PACKAGES:
        return None
    if suspect.kind is Kind.CLIENTS and suspect.state is State.OPEN and suspect.library in _REUSABLE:
        is_stock = suspect.type.startswith(f"{suspect.library}.")
        return _USED_AGAIN if is_stock else f"{_USED_AGAIN}; or {_OWN_CLOSE}"
    if suspect.kind is not Kind.RESPONSES:
        return _DROPPED.format(suspect.library)
    if stack[0] != suspect.created:  # in a middleware, an adapter or a transport of the user's own
        return _HANDED_ON.format(_closed_by(suspect))
    return _DROPPED.format(suspect.library) + (_OF_HOOKS if suspect.library == "requests" else "")


def _closed_by(response: Suspect) -> str:
    if "aclose" in response.hint:
        return "await response.aclose()"
    return "response.release()" if response.library == "aiohttp" else "response.close()"


def generators(suspect: Suspect) -> list[int]:
    """The identities of the generators that would leave the block around it if they were dropped, as they may be."""
    if suspect.state is State.COLLECTED:
        return []
    entered, stack = _entered_at(suspect, closes=True)
    if not entered:
        stack = _guarded_at(suspect)
    if not stack or entered in _STACKING:
        return []
    last, caller, _ = _outermost(stack, is_dropped=False)
    return [] if last is None or caller is not None else [*map(id, waiting.of(last))]


def _guarded_at(suspect: Suspect) -> Sequence[Site]:
    """The stack from the user's line on, where that is of a generator which waits in a `try` that ends something."""
    created, stack = suspect.created, suspect.stack
    if suspect.state is State.COLLECTED or created is None or created not in stack:
        return ()
    place = place_at(created)
    if place is None or not place[0].co_flags & (waiting.GENERATOR | waiting.ASYNC):
        return ()
    return stack[stack.index(created) :] if waiting.end_something(place[0]) else ()


def _entered_at(suspect: Suspect, *, closes: bool) -> tuple[str, Sequence[Site]]:
    """By what a line of the user's has entered it, and the stack from there on; empty where none is known to have."""
    created, stack = suspect.created, suspect.stack
    if created is None or created not in stack or (suspect.kind is Kind.CONNECTIONS and suspect.hint):
        return "", ()
    place = stack.index(created)
    entered, is_closed = _entered(stack, place)
    if not entered:
        place = _place_of_call(stack, place)
        entered, is_closed = _entered(stack, place)
    return entered if closes or is_closed else "", stack[place:]


def _place_of_call(stack: Sequence[Site], place: int) -> int:
    """Where in the stack the user's line is that called the HTTP library, where one of the user's that it has called made it."""
    while place + 1 < len(stack) and infrastructure.package_of(stack[place + 1].file) in HTTP_PACKAGES:
        outer = next((at for at in range(place + 2, len(stack)) if is_user_file(stack[at].file)), None)
        if outer is None:
            break
        place = outer
    return place


def _entered(stack: Sequence[Site], place: int) -> tuple[str, bool]:
    """By what the line at that place has entered what was made there: `with`, or a method of a stack; empty where it has not.

    The second answer is whether it is closed for sure: what is entered is around it, as `closing()` is.
    """
    called, created = stack[max(place - 1, 0)], stack[place]
    if called.function in _STACKING and _is_of_contextlib(called):
        return called.function, True
    steps, start = _steps_from(created)
    if start is None:
        return "", False
    if steps[start].opname in _AWAITING:
        waits = [step for step in steps[:start] if step.opname == "GET_AWAITABLE"]
        if waits and waits[-1].arg == _ENTERED_LATER:
            return _WITH, False
        start = next((at for at in range(start, len(steps)) if steps[at].opname not in _AWAITING), start) - 1
    elif steps[start].opname in _BEFORE or (start and steps[start - 1].opname == _SPECIAL):
        return _WITH, False
    is_closed = False
    for at in range(start + 1, len(steps)):
        if steps[at].opname in _BEFORE or [step.opname for step in steps[at : at + 2]] == ["COPY", _SPECIAL]:
            return _WITH, is_closed
        handed = _handed(created, steps[at])
        if handed not in _CLOSING:
            return handed, is_closed
        is_closed = True
    return "", False


def _steps_from(created: Site) -> tuple[list[dis.Instruction], int | None]:
    """What the function of a line does, and at which step it was when it made something; None where that is not known."""
    import dis  # here, as most runs tell no leak

    place = place_at(created)
    if place is None:
        return [], None
    code, offset = place
    steps = [step for step in dis.get_instructions(code) if step.opname not in _NO_STEP]
    # Where a call has led to Python code it may stand at the end of the call's room, behind its own place.
    return steps, max((at for at, step in enumerate(steps) if step.offset <= offset), default=None)


def _handed(created: Site, call: dis.Instruction) -> str:
    """What the user's line handed it to at once, if that is what closes it: `closing`, `enter_context` and the like."""
    positions = call.positions
    if call.opname != "CALL" or call.arg != 1 or positions is None:
        return ""
    if positions.lineno is None or positions.col_offset is None:
        return ""
    place = place_at(created)
    name = created.file if place is None else place[0].co_filename
    text = doctests.text_of(name, _line(*doctests.place_of(name, positions.lineno)))
    found = _HANDED.match(text.encode()[positions.col_offset :].decode(errors="replace"))
    return "" if found is None else found[1]


def _line(file: str, line: int) -> str:
    """One line of a file; empty where it cannot be read, as where a test has put something in the place of `open`."""
    try:
        return linecache.getline(file, line)
    except Exception as error:  # noqa: BLE001  # whatever stands there
        pass_on(error)
        return ""


def _of_generators(stack: Sequence[Site], block: str, *, is_dropped: bool) -> str | None:
    """What to say of the outermost generator that waits to go on, by which the block was not left; None where there is none."""
    last, caller, is_sure = _outermost(stack, is_dropped=is_dropped)
    if last is None:
        return None
    name = "..." if last.co_name.startswith("__") else f"{last.co_name}(...)"
    is_async = bool(last.co_flags & waiting.ASYNC)
    if caller is None:
        text = _OF_ASYNC_GENERATOR if is_async else _OF_GENERATOR
    elif caller.function in _STACKING:
        text = _OF_ASYNC_STACK if "async" in caller.function else _OF_STACK
    else:
        text = _OF_ASYNC_MANAGER if is_async else _OF_MANAGER
    return (_NOT_LEFT if is_sure else _IF_NOT_LEFT).format(block) + text.format(name)


def _outermost(stack: Sequence[Site], *, is_dropped: bool) -> tuple[CodeType | None, Site | None, bool]:
    """The outermost generator that waits to go on, the line of `contextlib` that has it, and whether it waits for sure."""
    last, caller, is_sure = None, None, True
    for number, site in enumerate(stack, 1):
        if _is_of_contextlib(site):
            caller = site
            continue
        place = place_at(site)
        code = None if place is None else place[0]
        if (
            code is None
            or not code.co_flags & (waiting.GENERATOR | waiting.ASYNC)
            or infrastructure.package_of(site.file)
        ):
            break
        is_suspended = not is_dropped and bool(waiting.of(code))
        if not is_suspended and not (code.co_flags & waiting.ASYNC and _is_users(stack[number:])):
            break
        last, caller, is_sure = code, None, is_sure and is_suspended
    return last, caller, is_sure


def _is_users(around: Sequence[Site]) -> bool:
    """Whether the user goes through an asynchronous generator, by what is around it; the test runner closes a fixture's.

    It may have waited until its loop was closed, or have been dropped where it could not go on.
    """
    return any(is_user_file(site.file) for site in around)


def _is_of_contextlib(site: Site) -> bool:
    return site.file.replace("\\", "/").endswith("/contextlib.py")
