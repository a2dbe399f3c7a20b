"""One piece of code, run again and again: each time another of its steps fails, and nothing may be left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_httpleak.session.blocks import Block
from pytest_httpleak.session.faults import Fault, Steps, Target, Waiting

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Finding, Site
    from pytest_httpleak.owners import Owner
    from pytest_httpleak.session.checks import Check
    from pytest_httpleak.session.core import Session
    from pytest_httpleak.settings import Settings


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has done.

    `steps` that the code takes when nothing fails, by the fault that each can meet; `failed`, how many of them were made to
    fail; `runs` in all.
    """

    steps: dict[str, int]
    failed: int
    runs: int


@dataclass(frozen=True, slots=True)
class Struck:
    """The step that was made to fail in one run; `what` it was is empty where the run has not come to it."""

    target: Target
    of: int  # steps of that sort, in the run in which nothing failed
    what: str
    site: Site | None


class Run:
    """One run of the code: its checked block, and the steps that are counted in it."""

    def __init__(
        self,
        session: Session,
        settings: Settings,
        parent: Owner | None,
        faults: tuple[Fault, ...],
        target: Target | None = None,
    ) -> None:
        self._target = target
        self.block = Block(session, settings, parent)
        self.steps = Steps(session.watch, self.block.check.owner, faults, target)
        try:
            self.steps.install()
        except BaseException:
            self.abandon()
            raise

    @property
    def is_cancelled(self) -> bool:
        """Whether the step that has failed was a wait, which is cancelled."""
        return self._target is not None and self._target.fault is Fault.CANCEL and bool(self.steps.struck)

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
        self._counted: dict[tuple[Fault, str], int] = {}
        self.runs = 1
        self.checks: list[tuple[Check, Struck]] = []

    def begin(self) -> Run:
        """The run in which nothing fails."""
        return self._run(None)

    def note(self, first: Run) -> None:
        """Take the steps of the run in which nothing failed."""
        self._counted = dict(first.steps.counted)

    def result(self) -> Sweep:
        """What was done."""
        steps = {fault.value: 0 for fault in self._faults}
        for (fault, _), number in self._counted.items():
            steps[fault.value] += number
        return Sweep(steps, sum(1 for _, struck in self.checks if struck.what), self.runs)

    def leaks(self) -> list[tuple[Struck, tuple[Finding, ...], int]]:
        """What was left behind, each by the first step whose failing does it, and at how many others something of it is."""
        firsts: dict[Any, int] = {}  # by what tells a leak from others: the run in which it was seen first
        rows: list[tuple[Struck, list[Finding], set[int]]] = []
        for number, (check, struck) in enumerate(self.checks):
            new: list[Finding] = []
            for finding in check.leaks:
                key = cause_of(finding)
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
        for target in self._targets():
            run = self._run(target)
            try:
                call()
            except _OWN_AFFAIR:
                pass
            except BaseException as error:
                self._abandon(run, error)
                raise
            self._take(run, target, run.end())

    async def sweep_async(self, call: Callable[[], Awaitable[object]], task: Any, asyncio: Any) -> None:
        """The same in a task; a cancellation of ours ends nothing but the run."""
        for target in self._targets():
            run = self._run(target)
            run.steps.watch_children(task, asyncio)
            others = task.cancelling()
            try:
                await Waiting(call(), task, run.steps)
            except _OWN_AFFAIR:
                pass
            except BaseException as error:
                is_ours = isinstance(error, asyncio.CancelledError) and run.is_cancelled
                if not is_ours or task.cancelling() > others + 1:
                    self._abandon(run, error)
                    raise
            if run.is_cancelled and task.cancelling() > others:  # unless the code has said so itself
                task.uncancel()
            self._take(run, target, await run.end_async())

    def _abandon(self, run: Run, error: BaseException) -> None:
        run.abandon()
        if run.steps.struck:
            error.add_note(f"raised in httpleak.sweep(), where this step failed: {run.steps.struck}")

    def _take(self, run: Run, target: Target, check: Check) -> None:
        self.runs += 1
        steps = run.steps
        of = self._counted.get((target.fault, target.sort), target.number)
        self.checks.append((check, Struck(target, of, steps.struck, steps.site)))
        if steps.is_endless:
            raise RuntimeError(
                f"httpleak.sweep() has stopped code that does not end: {target.sort} {target.number} of {of} failed "
                f"({target.fault}), and the connection was used over and over again"
            )

    def _run(self, target: Target | None) -> Run:
        return Run(self._session, self._settings, self._parent, self._faults, target)

    def _targets(self) -> Iterator[Target]:
        """Each step with each fault that it can meet; where there are too many, some at even distances, the ends among them.

        A client that lives on after a run has a connection ready in the next, which then neither resolves nor connects. A
        step that was not met is tried once more in the end, after a run whose failure has used the connection up.
        """
        missed: list[Target] = []
        for (fault, sort), number in self._counted.items():
            for at in _spread(number, self._most):
                yield (target := Target(fault, sort, at))
                if not self.checks[-1][1].what:
                    missed.append(target)
        while missed:
            yield missed.pop()


def _spread(number: int, most: int) -> Iterable[int]:
    """The numbers from 1 on; where there are more than `most`, so many of them, both ends among them."""
    if number <= most:
        return range(1, number + 1)
    last = max(1, most - 1)
    return (1 + step * (number - 1) // last for step in range(most))


def cause_of(finding: Finding) -> tuple[Any, ...]:
    """What tells a leak from others in whichever run it is seen: its summary has addresses, which change."""
    return finding.kind, finding.library, finding.type, finding.created


# What code may do of which a step has failed: a program may end itself.
_OWN_AFFAIR = (Exception, SystemExit)
