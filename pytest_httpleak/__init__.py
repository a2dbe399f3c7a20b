"""Fails the test that leaks sockets, responses, connections, clients, tasks, threads or event loops.

Its modules have no assertions of a test's, hence PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pytest_httpleak.api import no_leaks
    from pytest_httpleak.errors import HttpLeakWarning, LatencyError, LeakError

__all__ = ["HttpLeakWarning", "LatencyError", "LeakError", "__version__", "no_leaks"]


def __getattr__(name: str) -> Any:
    # On demand: pytest imports this package in every run, also where nothing is checked.
    if name in ("LeakError", "LatencyError", "HttpLeakWarning"):
        from pytest_httpleak import errors

        return getattr(errors, name)
    if name == "no_leaks":
        from pytest_httpleak.api import no_leaks

        return no_leaks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
