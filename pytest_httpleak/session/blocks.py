"""A checked block inside a test or a program: it answers for what is made in it, in its own task or thread."""

from __future__ import annotations

from pytest_httpleak.owners import Owner
from pytest_httpleak.session.core import Check, Session
from pytest_httpleak.settings import Settings


class Block:
    """The life of one block: `begin`, then `end` where it ran through, or `abandon` where it raised."""

    def __init__(self, session: Session, settings: Settings, parent: Owner | None) -> None:
        self._session = session
        self._parent = parent
        self.check: Check = session.begin("<checked block>", "block", settings, parent=parent)
        # `begin` puts the owner on the stack, which a task or a helper thread does not look at.
        self._restore = session.watch.lend(self.check.owner)

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
