"""The numbers of the descriptors that are open, where the system tells them: to be compared before and after a call."""

from __future__ import annotations

import os

from pytest_httpleak.interruptions import pass_on

# Bound here, so that a test which puts something else in their place cannot mislead the watch.
_fstat, _listdir = os.fstat, os.listdir


def open_numbers() -> set[int]:
    """The numbers that are open now; none where the system does not tell."""
    try:
        return {fd for fd in map(int, _listdir("/proc/self/fd")) if is_open(fd)}
    except OSError as error:
        pass_on(error)
        return set()


def is_open(fd: int) -> bool:
    """Whether that is the number of an open descriptor."""
    try:
        _fstat(fd)
    except (OSError, OverflowError) as error:  # that of the listing itself; no number of a descriptor
        pass_on(error)
        return False
    return True
