"""Descriptors that nobody has seen being opened: what is there to stay, and what a thread has open for a moment."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable
from typing import Final

from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.probes import descriptors

# Seconds in which a thread that is interrupted between making something and having it recorded goes on.
_UNTIL_RECORDED: Final = 0.002

_IN_A_ROW: Final = 4  # looks at which what is opened for moments is hardly there each time


class Unborn:
    """The descriptors among an owner's suspects that were only found by looking, and at how many looks in a row.

    `had_threads`: whether the owner had threads of its own at work when it was looked at first. Where it had none, what
    is its own was there from the first look on; what such a thread opens comes later.
    """

    def __init__(self, suspects: Iterable[Suspect], *, had_threads: bool) -> None:
        self._had_threads = had_threads
        self._looks = 1
        self._seen = {key: (identity, 1) for key, identity in _unborn(suspects).items()}

    def look(self, suspects: Iterable[Suspect]) -> None:
        """Take note of what one look has found."""
        before, self._looks = self._seen, self._looks + 1
        self._seen = {key: (each, _in_a_row(before.get(key), each)) for key, each in _unborn(suspects).items()}

    def without_passing(self, suspects: list[Suspect], look: Callable[[], object]) -> list[Suspect]:
        """The same without those that were not there at each look, one more `look` included.

        Where threads are at work they may be theirs, open for a moment and not recorded yet, over and over. What a thread of
        the owner's own opens late is there to stay.
        """
        before = _unborn(suspects)
        if not before or _thread._count() == 0:
            return suspects
        for _ in range(_IN_A_ROW if self._had_threads else 1):
            Real.sleep(_UNTIL_RECORDED)
            look()
        return [each for each in suspects if each.key not in before or self._is_there_to_stay(each.key)]

    def _is_there_to_stay(self, key: int) -> bool:
        enough = min(self._looks, _IN_A_ROW) if self._had_threads else self._looks
        return key in self._seen and self._seen[key][1] >= enough


def _in_a_row(before: tuple[descriptors.Identity | None, int] | None, now: descriptors.Identity | None) -> int:
    """At how many looks in a row a descriptor was there, this one included."""
    return before[1] + 1 if before is not None and before[0] == now else 1


def _unborn(suspects: Iterable[Suspect]) -> dict[int, descriptors.Identity | None]:
    """By key: the descriptors that were only found by looking, and what they are now."""
    found = (each.key for each in suspects if each.library == "os" and each.key < 0 and not each.stack)
    return {key: descriptors.identity(-1 - key) for key in found}
