"""Hands each adapter its modules, those that are imported already and whatever will be, behind a wall of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from pytest_httpleak import adapters as adapters_package
from pytest_httpleak.adapters import Adapter, Hooks, Unsupported
from pytest_httpleak.importing import AfterImport
from pytest_httpleak.ownership import Watch


def finder_for(watch: Watch, extra: Iterable[Adapter], *, audit: bool) -> AfterImport:
    """What attaches the adapters of this package, and the extra ones, once it is installed."""
    own = [each for each in adapters_package.found() if audit or not each.__name__.endswith(".audit")]
    wanted = adapters_package.by_module([*own, *extra])
    adapters = [adapter for group in wanted.values() for adapter in group]
    walls = {id(adapter): watch.wall(_short_name(adapter), _packages(adapter)) for adapter in adapters}

    def imported(module: Any) -> None:
        for adapter in wanted.get(module.__name__, ()):
            wall = walls[id(adapter)]
            try:
                if wall.on:
                    hooks = Hooks(watch, watch.patches, wall)
                    attach = functools.partial(adapter.attach, module, hooks)
                    watch.patches.attach(f"{wall.name} {module.__name__}", attach)
            except Unsupported as reason:
                wall.on = False
                wall.error = f"{wall.name} stays off: {reason}"
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)

    return AfterImport(wanted, imported)


def _packages(adapter: Adapter) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in adapter.MODULES)


def _short_name(adapter: Adapter) -> str:
    return "the adapter for " + adapter.__name__.rpartition(".")[2].replace("http_client", "http.client")
