"""One inner run for the tests of a module, however many workers of xdist share them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """The folder of that name, which the first worker that asks for it has filled while the others waited."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    full = folder.with_suffix(".full")
    with FileLock(folder.with_suffix(".lock")):
        if not full.exists():
            folder.mkdir(exist_ok=True)
            fill(folder)
            full.touch()
    return folder
