"""urllib3 as it was until 1.26.15, when nothing closed the connections of a pool that was dropped."""

from __future__ import annotations

import types

import pytest


def never_finalized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pools that are made in this test die as they did then."""
    place = pytest.importorskip("urllib3.connectionpool")
    if hasattr(place, "weakref_finalize"):  # 1.26.16 and later
        monkeypatch.setattr(place, "weakref_finalize", _forgotten)
    elif hasattr(place, "weakref"):
        monkeypatch.setattr(place, "weakref", types.SimpleNamespace(finalize=_forgotten))


def _forgotten(*args: object) -> None:
    """In the place of `weakref.finalize`."""
