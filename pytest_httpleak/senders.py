"""Who has begun a request, and is still at it: then that one is the leak, and not what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_httpleak.records import Owner
from pytest_httpleak.tables import Table


def is_at_work(maker: Callable[[], Any] | None, threads: Table, owner: Owner) -> bool:
    """Whether what `owner` began is still being done, in a helper thread that is alive and is reported for itself."""
    thread = None if maker is None else maker()
    if thread is None:
        return False
    record = threads.get(thread)
    return record is not None and bool(thread.is_alive()) and (not record.pooled or record.is_stuck_for(owner))


def has_sender(maker: Callable[[], Any] | None, threads: Table, owner: Owner) -> bool:
    """Whether the task or thread that began a request is still at it; then that one is the leak."""
    sender = None if maker is None else maker()
    if sender is None:
        return False
    if hasattr(sender, "done"):
        return not sender.done()
    thread = threads.get(sender)
    return bool(sender.is_alive()) and (thread is None or not thread.pooled or thread.is_stuck_for(owner))
