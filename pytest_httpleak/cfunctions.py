"""Functions of C: what stands for one passes for it, and warnings that it gives its caller name the caller."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a, own_attribute
from pytest_httpleak.wrappers import unseen


def of_c(wrapper: Any) -> Any:
    """An object that is called as the wrapper is, and to every question is the function of C that this stands for."""
    original = wrapper.__wrapped__
    del wrapper.__wrapped__  # mocks look through the call of one, which has no signature in C
    return type("builtin_function_or_method", (_OfC,), {"__call__": staticmethod(wrapper)})(original)


class _OfC:
    """As an attribute of a class it is not bound; it equals the original, which sets of functions are asked for."""

    def __init__(self, original: Any) -> None:
        functools.update_wrapper(self, original, updated=())  # type: ignore[arg-type]  # as any object that is called

    @property  # type: ignore[misc]  # what it says that it is
    def __class__(self) -> Any:
        return type(_original(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(_original(self), name)

    def __eq__(self, other: object) -> bool:
        return _original(other) is _original(self)

    def __hash__(self) -> int:
        return hash(_original(self))

    def __repr__(self) -> str:
        return repr(_original(self))

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self

    def __reduce__(self) -> Any:
        place, name = self.__module__, self.__qualname__
        if getattr(sys.modules.get(place), name, None) is self:
            return name
        import pkgutil  # those of `os` are known by the module that they come from, where the original is

        return pkgutil.resolve_name, (f"{place}:{name}",)


def is_of_c(thing: object) -> bool:
    """Whether it is a function of C, what stands for one, or what calls one with some arguments that it has."""
    return is_a(thing, (BuiltinFunctionType, functools.partial, _OfC))


def _original(thing: Any) -> Any:
    while is_a(thing, _OfC):
        thing = own_attribute(thing, "__wrapped__")
    return thing


def _is_open_warned_of(args: Any, kwargs: Any) -> bool:
    """Whether `open` may warn its caller: of a line buffer for bytes, or where the interpreter was told to, of an encoding."""
    buffering = args[2] if len(args) > 2 else kwargs.get("buffering")
    return buffering == 1 or bool(sys.flags.warn_default_encoding)


# Functions of C that warn the frame which calls them, and with what arguments: `open`, `connect` of Python 3.13, and
# `forkpty` where there are other threads.
_WARNERS: Final[dict[tuple[str, str], Callable[[Any, Any], bool]]] = {
    ("io", "open"): _is_open_warned_of,
    ("sqlite3", "connect"): lambda args, kwargs: len(args) > 1,
    ("posix", "forkpty"): lambda args, kwargs: True,
}


def heard(original: Any) -> Any:
    """A function of C, called so that a warning of its own to its caller names whoever calls the wrapper; or as it is."""
    place = str(attribute(original, "__module__")).lstrip("_"), str(attribute(original, "__name__"))
    is_warned_of = _WARNERS.get(place) if is_of_c(original) else None
    if is_warned_of is None:
        return original

    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if is_warned_of(args, kwargs):
            return _as_called_by(sys._getframe(2))(original, args, kwargs)
        return original(*args, **kwargs)

    return unseen(call)


def _as_called_by(frame: FrameType) -> Any:
    """What hands on a call from a frame that the interpreter takes for that one: of its function and module, at its line."""
    of = frame.f_code
    code = _hand_on().replace(co_filename=of.co_filename, co_firstlineno=frame.f_lineno or 1, co_name=of.co_name)
    return FunctionType(code, frame.f_globals)


@functools.cache
def _hand_on() -> CodeType:
    """A function of one line, of whose columns nothing is known, so that no traceback marks any in the user's line."""
    import ast  # here, as most runs do without

    text = "def hand_on(function, args, kwargs): __tracebackhide__ = True; return function(*args, **kwargs)"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if "col_offset" in node._attributes:
            node.col_offset = node.end_col_offset = -1  # type: ignore[attr-defined]
    code: CodeType = next(part for part in compile(tree, __file__, "exec").co_consts if is_a(part, CodeType))
    return code
