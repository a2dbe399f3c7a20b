"""The fixture `httpleak`, and `no_leaks` for use outside pytest."""

from __future__ import annotations

from typing import Any

from pytest_httpleak.guard import Guard


class LeakCheck:
    """What the fixture `httpleak` gives a test."""

    def __init__(self, guard: Guard | None, item: Any) -> None:
        self._guard = guard
        self._item = item

    @classmethod
    def of_test(cls, guard: Guard | None, item: Any) -> LeakCheck:
        """The interface to the check of a running test; inert where nothing is checked."""
        return cls(guard, item)


def no_leaks() -> None:
    """Placeholder."""
