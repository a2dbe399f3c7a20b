"""Where the examples of doctests stand: each is compiled by itself, under a name of its own that is no file's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_httpleak.asking import attribute


def places(items: Iterable[object]) -> dict[str, tuple[str, int]]:
    """By the name of each example, its file and first line; of tests of other sorts, and of texts without a file, none.

    Nor of files of one name, as the `index.rst` of a documentation's folders: their examples have the same names.
    """
    found: dict[str, tuple[str, int]] = {}
    ambiguous = set()
    for item in items:
        test: Any = attribute(item, "dtest")
        file, first = attribute(test, "filename"), attribute(test, "lineno")
        if isinstance(file, str) and isinstance(first, int):
            for number, example in enumerate(test.examples):
                name, place = f"<doctest {test.name}[{number}]>", (file, first + example.lineno + 1)
                if found.setdefault(name, place) != place:
                    ambiguous.add(name)
    return {name: place for name, place in found.items() if name not in ambiguous}
