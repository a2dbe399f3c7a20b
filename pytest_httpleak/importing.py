"""Hands a library to its adapters as soon as the tested code has imported it, and never imports one itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pytest_httpleak.asking import is_a


class AfterImport:
    """A finder that finds nothing: it lets the other finders look, and calls back when the module has been executed."""

    def __init__(self, wanted: Mapping[str, object], imported: Callable[[ModuleType], None]) -> None:
        self._wanted = wanted
        self._imported = imported

    def install(self) -> None:
        """Take over the modules that are imported already, and watch for the others."""
        sys.meta_path.insert(0, self)
        for name in self._wanted:
            module: Any = sys.modules.get(name)
            spec = module.__spec__ if is_a(module, ModuleType) else None  # else somebody's stand-in, or None
            if module is None or spec is None or module.__name__ != name:  # another one: `httpx2.alias_httpx()`
                continue
            if not getattr(spec, "_initializing", False):
                self._imported(module)

    def remove(self) -> None:
        """Stop watching."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that calls back; None for all other modules."""
        if name not in self._wanted:
            return None
        spec = self._spec_of(name, path, target)
        loader: Any = None if spec is None else spec.loader
        if spec is not None and is_a(loader, type):  # one for all modules that are frozen or built in
            spec.loader = _ForOne(loader, spec, self._imported)  # type: ignore[assignment]  # it does what a loader does
        elif loader is not None and hasattr(loader, "exec_module"):
            self._wrap(loader, name)
        return spec

    def _spec_of(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = None if find is None or finder is self else find(name, path, target)
            if spec is not None:
                return spec  # type: ignore[no-any-return]
        return None

    def _wrap(self, loader: Any, name: str) -> None:
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            try:
                original(module)
            finally:
                if vars(loader).get("exec_module") is exec_module:
                    del loader.exec_module
            if module.__name__ == name:
                self._imported(module)

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader without attributes of its own; the module stays unwatched
            return


class _ForOne:
    """Stands for a loader that is shared, until one module has been executed."""

    def __init__(self, loader: Any, spec: ModuleSpec, imported: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._spec = spec
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, as the shared loader does, and call back."""
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported(module)
