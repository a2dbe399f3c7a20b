"""Processes that `subprocess` has started: a dropped one that is not known to have ended is kept by that, with its pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import fileno_of_file

# Looks without reaping: whoever started a process may have kept its number, and wait for that yet. macOS has it since 3.13.
_waitid: Any = getattr(os, "waitid", None)
_LOOK: Final = getattr(os, "WEXITED", 0) | getattr(os, "WNOHANG", 0) | getattr(os, "WNOWAIT", 0)
_PIPES: Final = ("stdin", "stdout", "stderr")


def _dropped() -> list[Any]:
    active = attribute(sys.modules.get("subprocess"), "_active")
    return list(active) if is_a(active, list) else []  # none on Windows, and maybe a mock


def are_left() -> bool:
    """Whether dropped ones are kept that have not ended, but may yet."""
    return not all(map(_has_ended, _dropped()))


def pipes_of_ended() -> Iterator[int]:
    """The pipes of dropped ones that have ended: `subprocess` lets go of them when it starts the next one.

    Whether a process had ended a moment before it was dropped, or a moment after, is no difference.
    """
    for process in filter(_has_ended, _dropped()):
        files = (attribute(process, name) for name in _PIPES)
        yield from map(fileno_of_file, filter(None, files))


def _has_ended(process: Any) -> bool:
    if _waitid is None:
        return False
    try:
        return _waitid(os.P_PID, process.pid, _LOOK) is not None
    except ChildProcessError:  # somebody else has waited for it
        return True
    except Exception as error:  # noqa: BLE001  # somebody's own class of processes
        pass_on(error)
        return False


def is_running(thing: Any) -> bool:
    """Whether that is a process of `subprocess` that is not known to have ended."""
    cls = attribute(sys.modules.get("subprocess"), "Popen")
    return is_a(cls, type) and is_a(thing, cls) and attribute(thing, "returncode") is None
