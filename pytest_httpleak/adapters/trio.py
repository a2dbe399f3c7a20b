"""trio: which task's nursery a task was started in, for births that a library makes in tasks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.coroutines import awaits, frame_of
from pytest_httpleak.sites import Birth, birth_of, capture

MODULES = ("trio",)

_DEEPEST = 50  # nurseries below each other


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Let the watch ask for the birth inside the running task: there, or where the tasks around it wait, is the user's line."""
    watch: Any = hooks.watch
    current_task = module.lowlevel.current_task
    is_inside = getattr(module.lowlevel, "in_trio_task", None)  # cheaper than an error, from trio 0.23 on

    def birth_in_trio(depth: int) -> Birth | None:
        if is_inside is not None and not is_inside():
            return None
        try:
            task: Any = current_task()
        except RuntimeError:  # not inside trio
            return None
        birth = capture(depth, getattr(task.coro, "cr_frame", None))
        if not birth.has_user:
            around = birth_of(list(_frames_around(task)))
            # Where all of it is a library's, the user's line is the one that runs it in trio.
            birth.parent = around if around.has_user else capture(depth)
        return birth

    watch.birth_in_trio, watch.is_in_trio = birth_in_trio, is_inside


def _frames_around(task: Any) -> Iterator[FrameType]:
    """The frames in which the tasks around a task wait for their nurseries, innermost first."""
    for _ in range(_DEEPEST):
        if task.parent_nursery is None:
            return
        task = task.parent_nursery.parent_task
        yield from reversed([frame_of(awaited) for awaited in awaits(task.coro)])
