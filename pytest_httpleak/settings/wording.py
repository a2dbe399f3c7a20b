"""How a wrong name is answered: what it was, the nearest valid one, all valid ones."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Below this likeness a suggestion reads as a joke ("session" is no misspelt "responses"); plurals and typos lie above.
_LIKENESS = 0.6


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """Find the valid name that `word` is most likely a misspelling of, or None where none comes close."""
    close = difflib.get_close_matches(word.lower(), valid, n=1, cutoff=_LIKENESS)
    return close[0] if close else None


def unknown(noun: str, word: str, valid: Iterable[str]) -> str:
    """Word the answer to a name that is not among `valid`; `noun`, in the singular, says what it should have named."""
    names = [str(name) for name in valid]  # a StrEnum member would be shown with its class in the message
    near = nearest(word, names)
    hint = "." if near is None else f"; did you mean {near!r}?"
    return f"unknown {noun} {word!r}{hint} Valid {noun}s: {', '.join(names)}"
