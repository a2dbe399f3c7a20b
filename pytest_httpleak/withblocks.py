"""How to mend what a `with` block of the user's is there for already: the block was never left, or the library dropped it."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.probes import infrastructure
from pytest_httpleak.sites import HTTP_PACKAGES, code_at

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site, Suspect

_STACKED: Final = re.compile(r"\benter_(async_)?context\b")
_ENTERING: Final = ("__enter__", "__aenter__")
_CONTEXTLIB: Final = "contextlib.py"
_CLOSING: Final = ("closing", "aclosing")
_OPENING: Final = ("open", "fdopen", "create_connection")

_OF_STACK: Final = "close the stack that it was entered by, best with `with contextlib.ExitStack() as stack:`"
_OF_ASYNC_STACK: Final = (
    "close the stack that it was entered by, best with `async with contextlib.AsyncExitStack() as stack:`"
)
_OF_GENERATOR: Final = (
    "the `with` block there was never left: close the generator, as `with contextlib.closing({}(...)) as ...:` does"
)
_OF_ASYNC_GENERATOR: Final = _OF_GENERATOR.replace("with contextlib.", "async with contextlib.a")
_OF_MANAGER: Final = "the `with` block there was never left: use `with {}(...):`, which leaves it, too"
_OF_ASYNC_MANAGER: Final = "the `with` block there was never left: use `async with {}(...):`, which leaves it, too"
_OF_LIBRARY: Final = (
    "the `with` block there closes it once it is left: if it was, the library itself has dropped it: upgrade {}"
)


def hint(suspect: Suspect, *, closes: bool = True) -> str | None:
    """How to mend it; None where the user's line is not known to have entered it by a `with` statement or an exit stack.

    `closes` says whether a block of its own closes it, as that of a connection to a database does not.
    """
    created, stack = suspect.created, suspect.stack
    if created is None or created not in stack:
        return None
    place = stack.index(created)
    called = stack[place - 1] if place else None
    stacked = _STACKED.search(_text(created.file, created.line))
    if stacked:
        return _OF_ASYNC_STACK if stacked[1] else _OF_STACK
    if not _is_entered(created, called, suspect.type, closes=closes):
        return None
    text = _of_generator(created, stack[place + 1] if len(stack) > place + 1 else None)
    if text is not None:
        return text.format(created.function)
    is_its_own = suspect.kind in (Kind.RESPONSES, Kind.CLIENTS) and infrastructure.wrapper_of(suspect) is None
    return _OF_LIBRARY.format(suspect.library) if is_its_own and suspect.library in HTTP_PACKAGES else None


def _is_entered(created: Site, called: Site | None, type_name: str, *, closes: bool) -> bool:
    """Whether a line is in the head of a `with` statement, of what was made there and not of something around it."""
    names = {name for first, last, name in _entered(created.file) if first <= created.line <= last}
    if not names.isdisjoint(_CLOSING):
        return True
    if not closes:
        return False
    if called is None:
        return not names.isdisjoint(_OPENING)
    return called.function in _ENTERING or not names.isdisjoint((called.function, type_name.rpartition(".")[2]))


@functools.lru_cache(maxsize=4)
def _entered(file: str) -> list[tuple[int, int, str]]:
    """What the `with` statements of a file call to have something to enter: first and last line, and the name called."""
    try:
        tree = ast.parse(_text(file))
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.With, ast.AsyncWith))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # no text of Python's, or too much of it
        return []
    calls = [each.context_expr for node in nodes for each in node.items if isinstance(each.context_expr, ast.Call)]
    return [(each.lineno, each.end_lineno or each.lineno, _name(each.func)) for each in calls]


def _text(file: str, line: int = 0) -> str:
    """One line of a file, or all; empty where it cannot be read, as where a test has put something in the place of `open`."""
    try:
        return linecache.getline(file, line) if line else "".join(linecache.getlines(file))
    except Exception:  # noqa: BLE001  # whatever stands there
        return ""


def _name(called: ast.expr) -> str:
    """The last part of a dotted name."""
    return str(getattr(called, "attr", getattr(called, "id", "")))


def _of_generator(created: Site, caller: Site | None) -> str | None:
    """What to say of a generator that has not ended; None for other functions, and for a fixture, which pytest ends."""
    code = code_at(created)
    flags = 0 if code is None else code.co_flags
    if caller is None or not flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return None
    is_async = bool(flags & inspect.CO_ASYNC_GENERATOR)
    if caller.file.replace("\\", "/").endswith(f"/{_CONTEXTLIB}"):
        return _OF_ASYNC_MANAGER if is_async else _OF_MANAGER
    if infrastructure.package_of(caller.file):
        return None
    return _OF_ASYNC_GENERATOR if is_async else _OF_GENERATOR
