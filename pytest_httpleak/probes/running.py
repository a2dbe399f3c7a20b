"""What a running thread is doing at this moment: the functions that it is in, in words."""

from __future__ import annotations

import sys
from types import CodeType
from typing import TYPE_CHECKING, Final

from pytest_httpleak.probes import infrastructure
from pytest_httpleak.probes.tasks import chain
from pytest_httpleak.sites import Birth
from pytest_httpleak.userfiles import is_user_frame

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site

# In what each thread is, and a worker of an executor with its job.
_FILES: Final = ("/threading.py", "/concurrent/futures/thread.py")
_BEGINNINGS: Final = frozenset("_bootstrap _bootstrap_inner run _worker".split())


def describe(ident: object) -> str:
    """`work (poller.py:12) > get (queue.py:171)`, outermost first.

    Empty for a thread that is over, and for one that is in functions of the standard library alone.
    """
    frame = sys._current_frames().get(ident) if isinstance(ident, int) else None
    places: list[tuple[CodeType, int]] = []
    is_told = False
    # One at a time: what a function that returns meanwhile has in its variables ends with its frame, here.
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        is_told = is_told or is_user_frame(frame) or bool(infrastructure.package_of(frame.f_code.co_filename))
        frame = frame.f_back
    sites = [*reversed(Birth(places, is_told, None).stack())] if is_told else []
    while sites and _is_beginning(sites[0]):
        del sites[0]
    return chain(sites)


def _is_beginning(site: Site) -> bool:
    return site.function in _BEGINNINGS and site.file.replace("\\", "/").endswith(_FILES)
