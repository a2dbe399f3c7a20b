"""One piece of code, run again and again: each time another of its steps fails, and nothing may be left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_httpleak.session.blocks import Block
from pytest_httpleak.session.faults import Fault, Steps, Waiting

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Finding, Site
    from pytest_httpleak.owners import Owner
    from pytest_httpleak.session.core import Check, Session
    from pytest_httpleak.settings import Settings


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has done: the steps that the code takes when nothing fails, by the fault that each can meet; all runs."""

    steps: dict[str, int]
    runs: int


@dataclass(frozen=True, slots=True)
class Struck:
    """The step that was made to fail in one run; `what` it was is empty where the run has not come to it."""

    fault: Fault
    at: int
    of: int  # steps, in the run in which nothing failed
    what: str
    site: Site | None


class Run:
    """One run of the code: its checked block, and the steps that are counted in it."""

    def __init__(
        self, session: Session, settings: Settings, parent: Owner | None, faults: tuple[Fault, ...], at: int = 0
    ) -> None:
        self.block = Block(session, settings, parent)
        self.steps = Steps(session.watch, self.block.check.owner, faults, at)
        self.steps.install()

    def end(self) -> Check:
        """Judge what the run has left behind."""
        self.steps.remove()
        return self.block.end()

    async def end_async(self) -> Check:
        """The same, without blocking the event loop."""
        self.steps.remove()
        return await self.block.end_async()

    def abandon(self) -> None:
        """End it without a judgement: it has failed by itself."""
        self.steps.remove()
        self.block.abandon()


class Sweeper:
    """Runs a piece of code once as it is, and then once for each step and fault; keeps what each run has left behind."""

    def __init__(
        self, session: Session, settings: Settings, parent: Owner | None, faults: tuple[Fault, ...], most: int
    ) -> None:
        self._session = session
        self._settings = settings
        self._parent = parent
        self._faults = faults
        self._most = most
        self._counted: dict[Fault, int] = {}
        self.runs = 1
        self.checks: list[tuple[Check, Struck]] = []

    def begin(self) -> Run:
        """The run in which nothing fails."""
        return self._run(self._faults)

    def note(self, first: Run) -> None:
        """Take the steps of the run in which nothing failed."""
        self._counted = first.steps.counted

    def result(self) -> Sweep:
        """What was done."""
        return Sweep({fault.value: number for fault, number in self._counted.items()}, self.runs)

    def leaks(self) -> list[tuple[Struck, tuple[Finding, ...], int]]:
        """What was left behind, each by the first step whose failing does it, and at how many others something of it is."""
        firsts: dict[Any, int] = {}  # by what tells a leak from others: the run in which it was seen first
        rows: list[tuple[Struck, list[Finding], set[int]]] = []
        for number, (check, struck) in enumerate(self.checks):
            new: list[Finding] = []
            for finding in check.leaks:
                key = (finding.kind, finding.library, finding.type, finding.created)
                if key in firsts:
                    rows[firsts[key]][2].add(number)
                else:
                    firsts[key] = len(rows)
                    new.append(finding)
            if new:
                rows.append((struck, new, {number}))
        return [(struck, tuple(found), len(runs) - 1) for struck, found, runs in rows]

    def sweep(self, call: Callable[[], object]) -> None:
        """Run the code once for each step."""
        for fault, at in self._plan():
            run = self._run((fault,), at)
            try:
                call()
            except Exception:  # noqa: BLE001, S110  # that it fails is what was asked for
                pass
            except BaseException:
                run.abandon()
                raise
            self._take(run, fault, at, run.end())

    async def sweep_async(
        self, call: Callable[[], Awaitable[object]], task: Any, cancelled: type[BaseException]
    ) -> None:
        """The same in a task; a cancellation of ours ends nothing but the run."""
        for fault, at in self._plan():
            run = self._run((fault,), at)
            others = task.cancelling()
            try:
                await Waiting(call(), task, run.steps)
            except Exception:  # noqa: BLE001, S110  # as above
                pass
            except BaseException as error:
                ours = int(fault is Fault.CANCEL and bool(run.steps.struck))
                if not isinstance(error, cancelled) or task.cancelling() != others + ours or not ours:
                    run.abandon()
                    raise
            if fault is Fault.CANCEL and run.steps.struck:
                task.uncancel()
            self._take(run, fault, at, await run.end_async())

    def _take(self, run: Run, fault: Fault, at: int, check: Check) -> None:
        self.runs += 1
        self.checks.append((check, Struck(fault, at, self._counted[fault], run.steps.struck, run.steps.site)))

    def _run(self, faults: tuple[Fault, ...], at: int = 0) -> Run:
        return Run(self._session, self._settings, self._parent, faults, at)

    def _plan(self) -> Iterator[tuple[Fault, int]]:
        """Each step with each fault that it can meet; where there are too many, some at even distances, the ends among them."""
        for fault, number in self._counted.items():
            if number <= self._most:
                yield from ((fault, at) for at in range(1, number + 1))
            else:
                last = max(1, self._most - 1)
                yield from ((fault, 1 + step * (number - 1) // last) for step in range(self._most))
