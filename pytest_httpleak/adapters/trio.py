"""trio: which task's nursery a task was started in, for births that a library makes in tasks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.sites import Birth, awaits, birth_of, frame_of

MODULES = ("trio",)

_DEEPEST = 50  # nurseries below each other


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Let the watch ask where the tasks around the running one wait: there is the user's line."""
    watch: Any = hooks.watch

    def nursery_birth() -> Birth | None:
        try:
            task: Any = module.lowlevel.current_task()
        except RuntimeError:  # not inside trio
            return None
        return birth_of(list(_frames_around(task)))

    watch.nursery_birth = nursery_birth


def _frames_around(task: Any) -> Iterator[FrameType]:
    """The frames in which the tasks around a task wait for their nurseries, innermost first."""
    for _ in range(_DEEPEST):
        if task.parent_nursery is None:
            return
        task = task.parent_nursery.parent_task
        yield from reversed([frame_of(awaited) for awaited in awaits(task.coro)])
