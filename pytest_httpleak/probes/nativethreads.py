"""Threads that are not Python's: the runtimes of libraries in C or Rust, which wait and are woken by descriptors of their own."""

from __future__ import annotations

import sys

from pytest_httpleak.interruptions import pass_on


def are_running() -> bool:
    """Whether the process has more threads than Python knows; False where that cannot be told."""
    try:
        import psutil

        return bool(psutil.Process().num_threads() > len(sys._current_frames()))
    except Exception as error:  # noqa: BLE001  # psutil has errors of its own for where it may not look
        pass_on(error)
        return False
