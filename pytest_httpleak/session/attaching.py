"""Hands each adapter its modules, those that are imported already and whatever will be, behind a wall of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from pytest_httpleak import adapters as adapters_package
from pytest_httpleak.adapters import Adapter, Hooks, Unsupported
from pytest_httpleak.importing import AfterImport
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.ownership import Watch
from pytest_httpleak.patches import Wall

_NOTING = ".audit"  # the adapter that judges nothing


def finder_for(watch: Watch, extra: Iterable[Adapter], *, audit: bool) -> AfterImport:
    """What attaches the adapters of this package, and the extra ones, once it is installed."""
    own = [each for each in adapters_package.found() if audit or not each.__name__.endswith(_NOTING)]
    wanted = adapters_package.by_module([*own, *extra])
    adapters = {id(adapter): adapter for group in wanted.values() for adapter in group}
    walls = {key: watch.wall(_short_name(adapter), _packages(adapter)) for key, adapter in adapters.items()}
    attached: set[tuple[str, int]] = set()

    def imported(module: Any) -> None:
        for adapter in wanted.get(module.__name__, ()):
            wall, place = walls[id(adapter)], (module.__name__, id(adapter))
            try:
                if wall.on:
                    hooks = Hooks(watch, watch.patches, wall)
                    attach = functools.partial(adapter.attach, module, hooks)
                    watch.patches.attach(f"{wall.name} {module.__name__}", attach)
                    attached.add(place)
            except Exception as error:  # noqa: BLE001  # this is the wall
                if place in attached:  # loaded again without its parts, which are patched, or a stand-in
                    pass_on(error)
                else:
                    _stay_off(wall, error)

    return AfterImport(wanted, imported)


def _stay_off(wall: Wall, error: Exception) -> None:
    if isinstance(error, Unsupported):
        wall.on = False
        wall.error = f"{wall.name} stays off: {error}"
    else:
        wall.fall(error)


def _packages(adapter: Adapter) -> frozenset[str]:
    """The libraries of which nobody answers for anything while that adapter is off."""
    if adapter.__name__.endswith(_NOTING):
        return frozenset()
    return frozenset(name.partition(".")[0] for name in adapter.MODULES)


def _short_name(adapter: Adapter) -> str:
    return "the adapter for " + adapter.__name__.rpartition(".")[2].replace("http_client", "http.client")
