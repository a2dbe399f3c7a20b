"""Processes that `subprocess` has started: a dropped one that is not known to have ended is kept by that, with its pipes."""

from __future__ import annotations

import sys
from typing import Any

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.interruptions import pass_on


def are_left() -> bool:
    """Whether dropped ones are kept, which may end yet."""
    return bool(attribute(sys.modules.get("subprocess"), "_active"))


def reap() -> bool:
    """Let go of dropped ones that have ended, as `subprocess` does when it starts the next; whether there were any.

    So whether one had ended a moment before it was dropped, or a moment after, is no difference.
    """
    module: Any = sys.modules.get("subprocess")
    if not are_left():
        return False
    before = len(module._active)
    try:
        module._cleanup()
    except Exception as error:  # noqa: BLE001  # somebody's own process is asked
        pass_on(error)
    return len(module._active) < before


def is_running(thing: Any) -> bool:
    """Whether that is a process of `subprocess` that is not known to have ended."""
    cls = attribute(sys.modules.get("subprocess"), "Popen")
    return is_a(cls, type) and is_a(thing, cls) and attribute(thing, "returncode") is None
