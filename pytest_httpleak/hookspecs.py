"""The hook through which third parties add adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_httpleak.adapters import Adapter


def pytest_httpleak_adapters() -> Sequence[Adapter]:  # type: ignore[empty-body]  # a specification has none
    """Return adapters for further libraries: objects with `__name__`, `MODULES` and `attach(module, hooks)`."""
