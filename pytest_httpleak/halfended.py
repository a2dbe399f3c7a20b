"""How to mend what the user has begun to end: that was not all, or it waits for something."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.standardhints import EXECUTOR, PROCESS_EXECUTOR, by_maker

_NOT_WAITED_FOR: Final = (
    "let what it runs come to an end, and wait for it, as `with {}()` does, or `executor.shutdown(wait=True)`"
)
_CANCELLED: Final = "it was cancelled, and has not ended: await it, and let its coroutine pass `CancelledError` on"
_MADE_FILE: Final = "the socket was closed, and is open until what its `makefile()` has returned is closed, too"


def hint(suspect: Suspect, holder: object) -> str | None:
    """What to say of it; None where nobody is known to have begun to end it. `holder` is the object itself."""
    if suspect.kind is Kind.SOCKETS:
        is_closed = attribute(holder, "_closed") is True and attribute(holder, "_io_refs")
        return _MADE_FILE if is_closed else None
    if suspect.kind is Kind.TASKS:
        return _CANCELLED if _goes_on(holder) else None
    if suspect.kind is not Kind.THREADS or suspect.state is not State.RUNNING:
        return None
    maker = by_maker(suspect)
    if maker == EXECUTOR:
        given = attribute(holder, "_args")
        executor = given[0] if type(given) is tuple and given else None
        return _not_waited_for(executor, "_shutdown") or _named(maker, executor)
    if maker == PROCESS_EXECUTOR:
        return _not_waited_for(attribute(holder, "executor_reference"), "_shutdown_thread", "ProcessPoolExecutor")
    return None


def _goes_on(task: Any) -> bool:
    """Whether a task has been told to end, and has not ended: it has not run since, or has caught that."""
    if not is_a(task, attribute(sys.modules.get("asyncio"), "Task", ())):
        return False
    return not task.done() and task.cancelling() > 0


def _not_waited_for(reference: Any, flag: str, cls: str = "ThreadPoolExecutor") -> str | None:
    """What to say of a thread whose executor, to which it has a weak reference, was dropped or told to shut down."""
    if not is_a(reference, weakref.ref):
        return None
    executor = reference()
    is_ending = executor is None or attribute(executor, flag) is True
    return _NOT_WAITED_FOR.format(cls) if is_ending else None


def _named(text: str, reference: Any) -> str:
    """The same with the name of the executor's own class, as of `InterpreterPoolExecutor`."""
    executor = reference() if is_a(reference, weakref.ref) else None
    return text if executor is None else text.replace("ThreadPoolExecutor", type(executor).__name__)
