"""Twisted's reactor where pytest-twisted runs it: in a greenlet of the tests' own thread, which stands still while they run."""

from __future__ import annotations

import sys
from typing import Any


def can_turn() -> bool:
    """Whether there is one that may do something in time, if it is let."""
    return (
        "pytest_twisted" in sys.modules
        and getattr(sys.modules.get("twisted.internet.reactor"), "running", False) is True
    )


def turn(seconds: float) -> bool:
    """Let the reactor go on for so long; whether it has. What is asked of it to close is closed at its next turn."""
    plugin: Any = sys.modules.get("pytest_twisted")
    task: Any = sys.modules.get("twisted.internet.task")
    reactor = sys.modules.get("twisted.internet.reactor")
    try:
        plugin.blockon(task.deferLater(reactor, seconds, bool))
    except Exception:  # noqa: BLE001  # it was stopped meanwhile, or this is a callback of its own
        return False
    return True
