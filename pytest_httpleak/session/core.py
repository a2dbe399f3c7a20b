"""The watch over one run: begins and ends owners' lives, and judges them when they are over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import CodeType
from typing import TYPE_CHECKING, Any

from pytest_httpleak.clocks import Real
from pytest_httpleak.interruptions import LimitPutOff, Timer, pass_on
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.session.attaching import finder_for
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.earlier import bind_again
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.looking import Looking
from pytest_httpleak.session.settling import settle
from pytest_httpleak.settings import Mode, Settings
from pytest_httpleak.userfiles import set_user_root

if TYPE_CHECKING:
    from pytest_httpleak.adapters import Adapter
    from pytest_httpleak.importing import AfterImport
    from pytest_httpleak.model.rows import Growth
    from pytest_httpleak.session.auditing import Auditing
    from pytest_httpleak.session.blocks import Block
    from pytest_httpleak.session.growth import GrowthWatch

_running: list[Session] = []


def running() -> Session | None:
    """The session that watches this process now, if one does."""
    return next((session for session in reversed(_running) if session.is_on), None)


def _forked() -> None:
    """A child process is not watched: what it inherits is its parent's."""
    for session in _running:
        session.is_asleep = session.is_on and session.item() is None
        session.watch.silence()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Session:
    """The state of one run: the watch, the ledger of descriptors, and what it cost."""

    def __init__(self, *, rootdir: str, known: Any = None, audit: bool = False) -> None:
        self.rootdir = rootdir
        self._audit = audit
        self._auditing: Auditing | None = None
        self.known = known
        self.is_alone = True  # no other run, of which the same findings are expected, be it earlier or a repetition
        self.watch = Watch()
        self.ledger = Ledger(self.watch)
        self.looking = Looking(self.watch, self.ledger)
        self.seconds = 0.0
        self.is_last = False  # the test that is running: after it, fixtures of all scopes are torn down
        self.code_of_test: Callable[[], CodeType | None] = lambda: None  # of the function of the test that is running
        self.item: Callable[[], Any] = lambda: None  # the test that is running, as the test runner knows it
        # Whether the test's function is called over and over, as hypothesis does.
        self.runs_examples: Callable[[], bool] = lambda: False
        self.let_go: Callable[[], object] = lambda: None  # of what only the test runner keeps, before a leak is judged
        self.timer: Timer | None = None  # that limits the time of the test that is running
        self._tests = 0
        self._births = 0  # of all tests together, those that are over
        self._descriptors: int | None = None  # that were open after the last of them that opened or closed any
        self._growth: GrowthWatch | None = None
        self._finder: AfterImport | None = None
        self._pid = os.getpid()
        self.is_asleep = False  # in a child that was forked between two tests, of a process that is watched
        self.blocks: list[Block] = []  # of tests and wider fixtures, that have not been left
        self.block_begins: Callable[[], object] = lambda: None
        self._stranger: Owner | None = None  # in whose name the session around this one leaves things alone

    # -- life of the watch ---------------------------------------------------------------------------------------------

    def start(self, extra: Iterable[Adapter] = ()) -> None:
        """Patch what is imported already, and whatever will be."""
        self._stand_aside()
        set_user_root(self.rootdir)
        self._await_loops()
        self._finder = finder_for(self.watch, extra, audit=self._audit)
        self._finder.install()
        self.safely(bind_again, self.watch.patches, self.rootdir)
        if self._audit:
            from pytest_httpleak.session.auditing import Auditing

            self._auditing = Auditing(self.watch)
        self.watch.on = True
        _running.append(self)
        self.ledger.start()

    def _await_loops(self) -> None:
        """Import with the first loop what is asked when one ends: many runs have none, though pytest's plugins import asyncio.

        A test that ends one may have left nothing to import with. A loop that is older than the watch is met when it ends.
        Where a test lets nothing be imported, that is tried again with the next loop.
        """
        watch = self.watch

        def get_ready() -> None:
            try:
                self.looking.get_ready()
                from pytest_httpleak.session.loopends import LoopEnds
            except Exception as error:  # noqa: BLE001  # whatever the tested code has put in the way of an import
                pass_on(error)
                return
            ends = LoopEnds(watch, self.looking, self.limit_put_off)
            watch.loop_closing, watch.task_destroyed = ends.loop_closing, ends.task_destroyed
            watch.loops_come = lambda: None

        def loop_closing(loop: Any, *, cancelled: bool) -> None:
            get_ready()
            if watch.loop_closing is not loop_closing:
                watch.loop_closing(loop, cancelled=cancelled)

        def task_destroyed(task: Any) -> None:
            get_ready()
            if watch.task_destroyed is not task_destroyed:
                watch.task_destroyed(task)

        watch.loops_come, watch.loop_closing, watch.task_destroyed = get_ready, loop_closing, task_destroyed

    def wake(self) -> None:
        """Watch on in a forked child where that is there to run a test: what it has inherited is accounted for."""
        if self.is_asleep:
            self.is_asleep = False
            self.watch.wake()
            self.ledger.stop()
            self.ledger.start()

    def stop(self) -> None:
        """Undo everything that was patched."""
        if self in _running:
            _running.remove(self)
            self._give_way()
        if self._finder is not None:
            self._finder.remove()
            self._finder = None
        self.watch.stop()
        self.ledger.stop()

    def _stand_aside(self) -> None:
        """Let whoever watches this process already leave to this session what is made from now on: it is not theirs."""
        around = running()
        if around is not None:
            around.safely(around.ledger.adopt, around.watch.stack[-1])
            stranger = self._stranger = Owner(self.rootdir, "session")
            stranger.over = True
            around.watch.push(stranger)

    def _give_way(self) -> None:
        """Let the session around this one answer again."""
        around, stranger = running(), self._stranger
        if around is not None and stranger is not None:
            set_user_root(around.rootdir)
            around.safely(around.ledger.adopt, stranger)
            around.watch.pop(stranger)
        self._stranger = None

    def safely(self, act: Callable[..., object], *args: object) -> None:
        """Do something on the way of a test; an error of the plugin's own is named in the summary and goes no further."""
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self.looking.wall.note(error)

    def limit_put_off(self, grace: float) -> LimitPutOff:
        """For a block that waits so many seconds: the limit on the time of the test that is running stands still."""
        return LimitPutOff(grace, self.timer)

    @property
    def is_on(self) -> bool:
        """Whether this process is being watched."""
        return self.watch.on

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that is being watched."""
        return self._pid != os.getpid()

    def errors(self) -> list[str]:
        """What was switched off in this run, and why; an error in judging, which goes on, too."""
        return [wall.error for wall in self.watch.walls if wall.error is not None]

    # -- lives of owners -----------------------------------------------------------------------------------------------

    def begin(self, name: str, scope: str, settings: Settings, *, parent: Owner | None = None) -> Check:
        """A new owner, who answers for what is made from now on."""
        owner = Owner(name, scope, parent)
        check = Check(owner, settings)
        owner.grace = settings.grace
        check.tasks_before = self.watch.births_of_tasks
        if not self._tests and scope == "function":
            self._births = self.watch.births  # what was made before the first test is no test's
            self._descriptors = self.ledger.count
        if settings.peaks or settings.max_clients is not None:
            self.want_peaks(check)
        self.resume(check)
        return check

    def resume(self, check: Check) -> None:
        """Let an owner answer from now on; whoever has answered until now keeps the descriptors that have appeared."""
        self.ledger.adopt(self.watch.stack[-1])
        self.watch.push(check.owner)
        for block in check.owner.inside:
            if not block.over:
                self.watch.push(block)

    def want_peaks(self, check: Check) -> None:
        """Count the highest numbers open at once from now on; costs a look at what is open at each birth."""
        from pytest_httpleak.owners import Peaks

        if check.owner.peaks is None:
            check.owner.peaks = Peaks()
            self.watch.peaking += 1

    async def end_async(self, check: Check) -> None:
        """The same as `end`, from inside a running event loop, which goes on while there is something to wait for."""
        self.watch.pop(check.owner)
        grace = 0 if check.settings.mode is Mode.OFF else check.settings.grace
        with self.limit_put_off(grace):
            await settle(lambda: not self.looking.look(check.owner, check.tasks_before), grace)
        self.end(check, grace=0)

    def end(self, check: Check, *, grace: float | None = None) -> None:
        """Judge an owner whose life is over. Never raises: an error of the plugin's own is named in the summary."""
        if check.settings.mode is Mode.OFF:
            self.drop(check)
        if check.judged or not self.watch.on:
            return
        began, unknown = Real.perf_counter(), self.looking.unknown
        check.judged = check.failed = True
        owner = check.owner
        self.watch.pop(owner)
        try:
            self._abandon_blocks(owner)
            if self.watch.heirs:
                from pytest_httpleak.session.heirs import hand_over

                hand_over(self.watch)
            suspects = self.looking.first_look(owner, check.tasks_before)
            if suspects or owner.peaks is not None:
                grace = check.settings.grace if grace is None else grace
                with self.limit_put_off(grace):
                    from pytest_httpleak.session.verdicts import findings

                    check.findings += findings(self, check, suspects, grace)
            check.failed = self.looking.unknown > unknown
            if owner.scope == "function":
                if self._auditing is not None:
                    check.notes = self._auditing.notes(owner, self.runs_examples)
                self._tests += 1
                if self._may_have_grown(check):
                    self._look_for_growth(check)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self.looking.wall.note(error)
        finally:
            self._is_over(owner)
            self.seconds += Real.perf_counter() - began

    def _is_over(self, owner: Owner) -> None:
        owner.over = True
        owner.records = []
        if owner.peaks is not None:
            owner.peaks = None
            self.watch.peaking -= 1

    def _abandon_blocks(self, owner: Owner) -> None:
        """Let an owner answer for the blocks inside of it that nobody has left."""
        for block in reversed(list(self.blocks)):
            if block.check.owner.is_within(owner):
                block.abandon(owner)

    def accept_defaults(self) -> None:
        """Let what a wider fixture has changed for the whole process, or put back, be no test's doing."""
        if self._auditing is not None:
            self._auditing.accept()

    def _may_have_grown(self, check: Check) -> bool:
        """Whether there may be more than before: made, left, or opened by code in C, which is only counted."""
        if self.watch.births != self._births or self.ledger.count != self._descriptors:
            return True
        return bool(check.findings) or (self.is_last and self._growth is not None)

    def _look_for_growth(self, check: Check) -> None:
        self._births, self._descriptors = self.watch.births, self.ledger.count
        if self._growth is None:
            from pytest_httpleak.session.growth import GrowthWatch

            self._growth = GrowthWatch(self.watch, self.ledger, self.looking)
        self._growth.note(self._tests, has_left=bool(check.findings), is_last=self.is_last)

    def growth(self) -> list[Growth]:
        """What has become more and more, test after test."""
        return [] if self._growth is None else self._growth.found()

    def ignore(self, thing: Any) -> None:
        """Leave an object, and what it holds, to the process."""
        from pytest_httpleak.session.ignoring import ignore

        self.safely(ignore, thing, self.watch, self.ledger)

    def drop(self, check: Check) -> None:
        """End an owner's life without judging it: what it leaves behind is nobody's leak."""
        if check.judged:
            return
        check.judged = True
        self.watch.pop(check.owner)
        self._is_over(check.owner)
        if self.ledger.has_moved():
            self.ledger.open()

    def relative(self, file: str) -> str:
        """A file's path from the root directory, with `/`, or as it is where it lies elsewhere."""
        root = self.rootdir.rstrip(os.sep) + os.sep
        return (file.removeprefix(root)).replace("\\", "/")
