"""Loads the modules of this package past pytest's hook for assertions, of which they have none. PYTEST_DONT_REWRITE."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final, Self

_OWN: Final = f"{__package__}."


class OwnModules:
    """A finder for the modules of this package, while it is installed.

    pytest's hook is asked for every import, and takes a plugin's modules over to rewrite them: that doubles the time in
    which they are loaded, and where no bytecode may be written, as in many containers, they are compiled in each run.

    As a context it keeps the garbage collector from looking, again and again, at what a module makes to stay.
    """

    def __init__(self) -> None:
        self._collects = False

    def __enter__(self) -> Self:
        self.install()
        self._collects = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()
        if self._collects:
            gc.enable()

    def install(self) -> None:
        """Come before the other finders."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Leave the other finders alone."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of one of these modules, as it is without the hook; None for all others."""
        return PathFinder.find_spec(name, path, target) if name.startswith(_OWN) else None
