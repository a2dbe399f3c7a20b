"""A block of code that is judged at its end, with the error or the warning that its leaks are told in."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import TracebackType

from pytest_httpleak.errors import HttpLeakWarning, LeakError
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.reports.text import leak_text
from pytest_httpleak.session.blocks import Block
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import Settings
from pytest_httpleak.sites import calls_within


class CheckedBlock:
    """`with` and `async with` around code that must not leak; raises `LeakError` at the end of a block that does.

    Given by `httpleak.check()`. A block that raises keeps its own error.
    """

    def __init__(self, session: Session | None, settings: Settings, around: Check | None, name: str) -> None:
        self._session = session
        self._settings = settings
        self._around = around
        self._name = name
        self._block: Block | None = None

    def __enter__(self) -> None:
        if self._session is not None:
            parent = None if self._around is None else self._around.owner
            self._block = Block(self._session, self._settings, parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        block = self._left(kind)
        if block is not None:
            self._raise(block.end())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        block = self._left(kind)
        if block is not None:
            self._raise(await block.end_async())

    def _left(self, kind: type[BaseException] | None) -> Block | None:
        """The block, to be judged; none where an error has ended it, which is what there is to tell."""
        block, self._block = self._block, None
        if block is not None and kind is not None:
            block.abandon()
            return None
        return block

    def _raise(self, check: Check) -> None:
        __tracebackhide__ = True
        if self._session is None:
            return
        show(self._session, self._around, check.findings, self._name)
        if check.leaks:
            text = leak_text(check.leaks, owner=self._name, rootdir=self._session.rootdir)
            raise LeakError(text, check.leaks)


def show(session: Session, around: Check | None, findings: Sequence[Finding], name: str) -> None:
    """Put what is no error into the row of the test around a block, or warn of it where there is none."""
    if around is not None:
        around.take_from_block(tuple(each for each in findings if each.verdict is not Verdict.LEAKED))
        return
    warned = [each for each in findings if each.verdict is Verdict.WARNED]
    if warned:
        text = leak_text(warned, owner=name, rootdir=session.rootdir)
        warnings.warn(HttpLeakWarning(text), stacklevel=calls_within())
