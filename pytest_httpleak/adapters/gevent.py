"""gevent: the descriptors of a thread's hub, which code in C opens unseen when the thread first waits for anything."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, require
from pytest_httpleak.opennumbers import open_numbers

MODULES = ("gevent.hub",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note what a hub opens; that of the main thread is as old as the program gets, so it is the process's."""
    require(module, "Hub.loop_class")
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        def born(hub: Any, *args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            before = open_numbers() if wall.on else set()
            original(hub, *args, **kwargs)
            if wall.on:
                try:
                    for fd in open_numbers() - before:
                        if hub.loop.default:
                            watch.give(fd, None, watch.root)
                        else:
                            watch.descriptor_made(fd, 4)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)

        return born

    hooks.patches.replace(module.Hub, "__init__", make)
