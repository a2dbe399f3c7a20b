"""Where the examples of doctests stand: each is compiled by itself, under a name of its own that is no file's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pytest_httpleak.asking import attribute

_PROMPT: Final = len(">>> ")

_places: dict[str, tuple[str, int]] = {}


def set_tests(items: Iterable[object]) -> None:
    """Notes the examples of all tests that are doctests; of a text without a file it knows none.

    Nor of files of one name, as the `index.rst` of a documentation's folders: their examples have the same names.
    """
    _places.clear()
    ambiguous = set()
    for item in items:
        test: Any = attribute(item, "dtest")
        file, first = attribute(test, "filename"), attribute(test, "lineno")
        if isinstance(file, str) and isinstance(first, int):
            for number, example in enumerate(test.examples):
                name, place = f"<doctest {test.name}[{number}]>", (file, first + example.lineno + 1)
                if _places.setdefault(name, place) != place:
                    ambiguous.add(name)
    for name in ambiguous:
        del _places[name]


def place_of(file: str, line: int) -> tuple[str, int]:
    """File and line of a line of an example; of any other, the same as they were given."""
    name, first = _places.get(file, (file, 1))
    return name, first + line - 1


def text_of(file: str, text: str) -> str:
    """A line of a file without what stands there before the text that was compiled: the prompt of an example."""
    return text.lstrip()[_PROMPT:] if file in _places else text
