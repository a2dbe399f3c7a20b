"""A checked block inside a test or a program: it answers for what is made in it, in its own task or thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import Worker
from pytest_httpleak.session.core import Check, Session
from pytest_httpleak.settings import Settings


class Block:
    """The life of one block: `begin`, then `end` where it ran through, or `abandon` where it raised."""

    def __init__(self, session: Session, settings: Settings, parent: Owner | None) -> None:
        self._session = session
        self._parent = parent
        self.check: Check = session.begin("<checked block>", "block", settings, parent=parent)
        # `begin` puts the owner on the stack, which a task or a helper thread does not look at.
        self._restore = _lend(session.watch, self.check.owner)

    def end(self) -> Check:
        """Judge what the block has left behind."""
        self._restore()
        self._session.end(self.check)
        return self.check

    async def end_async(self) -> Check:
        """The same, without blocking the event loop."""
        self._restore()
        await self._session.end_async(self.check)
        return self.check

    def abandon(self) -> None:
        """Leave what was made to whoever is around the block: its error says enough."""
        self._restore()
        owner = self.check.owner
        if self._parent is not None:
            for record in owner.records:
                if record.owner is owner:
                    record.owner = self._parent
                    self._parent.keep(record)
            self._session.watch.pass_on(owner, self._parent)
        self._session.drop(self.check)


def _lend(watch: Watch, owner: Owner) -> Callable[[], None]:
    """Let `owner` answer for what the running task or helper thread makes; gives the way back."""
    loop = watch.running_loop()
    task = None if loop is None else watch.current_task(loop)
    if task is not None:
        known = watch.tasks.get(id(task))
        watch.tasks[id(task)] = (watch.birth(), owner, id(task.get_coro()))

        def give_back() -> None:
            if known is None:
                watch.tasks.pop(id(task), None)
            else:
                watch.tasks[id(task)] = known

        return give_back
    ident = threading.get_ident()
    if watch.is_main(ident):
        return lambda: None
    watch.stack.remove(owner)
    borrowed = watch.borrowed.setdefault(ident, [])
    borrowed.append(Worker(owner, watch.birth()))

    def give_back_thread() -> None:
        borrowed.pop()
        if not borrowed:
            watch.borrowed.pop(ident, None)

    return give_back_thread
