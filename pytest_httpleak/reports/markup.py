"""Builds HTML so that nothing can be left unescaped: every string is text unless it was made by `tag`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from pytest_httpleak.reports.text_safety import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    Child = str | int | Iterable["Child"] | None

_VOID: Final = frozenset({"br", "input", "meta"})


class Html(str):
    """Markup that is already safe."""

    __slots__ = ()


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """One element. Text and attribute values are escaped, None and False are left out, True is a bare attribute.

    In attribute names a final underscore is dropped and the others become hyphens: `class_`, `data_kind`.
    """
    shown = "".join(map(_attribute, attributes, attributes.values()))
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{text(*children)}</{name}>")


def text(*children: Child) -> Html:
    """The children one after the other, escaped where they are not markup already."""
    pieces: list[str] = []
    for child in children:
        if isinstance(child, Html):
            pieces.append(child)
        elif isinstance(child, str):
            pieces.append(html.escape(plain(child)))
        elif isinstance(child, int):
            pieces.append(f"{child:,}")
        elif child is not None:
            pieces.append(text(*child))
    return Html("".join(pieces))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(plain(str(value)))}"'
