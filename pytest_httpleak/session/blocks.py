"""A checked block inside a test or a program: it answers for what is made in it, in its own task or thread."""

from __future__ import annotations

import contextlib

from pytest_httpleak.owners import Owner
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import Settings


class Block:
    """The life of one block: it ends where it ran through, and is abandoned where it raised, or was never left.

    Around it is the `parent`, or else the test or fixture that answers for what is made where it begins.
    """

    def __init__(self, session: Session, settings: Settings, parent: Owner | None) -> None:
        self._session = session
        around = session.watch.owner() if parent is None else parent
        if around.scope == "block":
            around = around.parent or session.watch.root
        self._parent = None if around is session.watch.root else around
        self.check: Check = session.begin("<checked block>", "block", settings, parent=self._parent)
        # `begin` puts the owner on the stack, which a task or a helper thread does not look at.
        self._give_back = session.watch.lend(self.check.owner)
        if self._parent is not None:
            session.blocks.append(self)
        session.safely(session.block_begins)

    def _restore(self) -> None:
        """Let whoever was there before answer again, once: one that was abandoned may yet be left."""
        with contextlib.suppress(ValueError):  # it has been restored, or is nobody's
            self._session.blocks.remove(self)
        give_back, self._give_back = self._give_back, lambda: None
        give_back()

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

    def abandon(self, heir: Owner | None = None) -> None:
        """Leave what was made to the `heir`, or else to whoever is around the block: its error says enough."""
        self._restore()
        owner, watch = self.check.owner, self._session.watch
        watch.pop(owner)
        if heir is None:
            heir = self._parent if watch.owner() is watch.root else watch.owner()
        if heir is not None and not self.check.judged:
            for record in list(owner.records):
                if record.owner is owner:
                    record.belong_to(heir)
            heir.leave(owner.left, owner.left_tasks)
            watch.pass_on(owner, heir)
        self._session.drop(self.check)
