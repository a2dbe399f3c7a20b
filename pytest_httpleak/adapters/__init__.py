"""One file for each library: what it makes, and what of it is checked out, idle or closed.

An adapter is a module of this package with `MODULES`, the names of the modules it wants to be handed, and
`attach(module, hooks)`. It never imports its library: it is called once the tested code has imported it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final, Protocol, cast

from pytest_httpleak.patches import Patches, Wall
from pytest_httpleak.recorder import Recorder

_DECLARED: Final = b"\nMODULES = ("


class Unsupported(Exception):
    """The library's internals are not what the adapter knows; the adapter stays off, and says so once."""


def require(module: ModuleType, *names: str) -> None:
    """Raise `Unsupported`, naming what is missing, unless `module` has all these (dotted) names."""
    for name in names:
        thing: Any = module
        for part in name.split("."):
            thing = getattr(thing, part, None)
            if thing is None:
                version = getattr(module, "__version__", "")
                raise Unsupported(f"{module.__name__} {version}".rstrip() + f" has no {name}")


class Hooks:
    """What an adapter works with: the watch that records, and patches behind its own wall."""

    def __init__(self, watch: Any, patches: Patches, wall: Wall) -> None:
        self.watch: Recorder = watch
        self.patches = patches
        self.wall = wall

    def after(self, owner: Any, name: str, note: Callable[..., object]) -> None:
        """Call `note(result, *args, **kwargs)` after each call of `owner.name` that returned."""
        self.patches.after(self.wall, owner, name, note)

    def before(self, owner: Any, name: str, note: Callable[..., object]) -> None:
        """Call `note(*args, **kwargs)` before each call of `owner.name`."""
        self.patches.before(self.wall, owner, name, note)


class Adapter(Protocol):
    """What a module of this package, or a third party's adapter, offers."""

    __name__: str
    MODULES: tuple[str, ...]

    def attach(self, module: ModuleType, hooks: Hooks) -> None:
        """Patch `module`, which has just been imported; raise `Unsupported` where its internals are unknown."""


class Lazy:
    """An adapter of this package that is imported only when its library is: most suites use one or two."""

    def __init__(self, name: str, modules: tuple[str, ...]) -> None:
        self.__name__ = name
        self.MODULES = modules

    def attach(self, module: ModuleType, hooks: Hooks) -> None:
        """Import the adapter and let it attach."""
        cast(Adapter, importlib.import_module(self.__name__)).attach(module, hooks)


def found() -> list[Adapter]:
    """All adapters of this package, in the order of their names."""
    return [_lazy(f"{__name__}.{name}") for name in sorted(_names())]


def _names() -> set[str]:
    try:
        files = os.listdir(__path__[0])
    except OSError:  # an archive
        import pkgutil

        return {info.name for info in pkgutil.iter_modules(__path__)}
    stems = (file.partition(".")[0] for file in files if file.endswith((".py", ".pyc")))
    return {stem for stem in stems if stem != "__init__"}


def _lazy(name: str) -> Adapter:
    """The adapter of that name, with its `MODULES` read from its source where that can be had: it is one line."""
    path = os.path.join(__path__[0], f"{name.rpartition('.')[2]}.py")
    try:
        with open(path, "rb", buffering=0) as source:  # all of it at once: a text file would take ten times as long
            _, _, rest = source.read().partition(_DECLARED)
    except OSError:  # an archive, or compiled files alone
        rest = b""
    declared, end, _ = rest.partition(b")\n")
    if not end or b"\n" in declared:
        return cast(Adapter, importlib.import_module(name))
    return Lazy(name, tuple(declared.decode().split('"')[1::2]))


def by_module(adapters: Iterable[Adapter]) -> dict[str, list[Adapter]]:
    """Which adapters want to be handed which module."""
    wanted: dict[str, list[Adapter]] = {}
    for adapter in adapters:
        for name in adapter.MODULES:
            wanted.setdefault(name, []).append(adapter)
    return wanted
