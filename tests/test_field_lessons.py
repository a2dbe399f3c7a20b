"""What third-party suites taught: each false alarm once raised, in small, beside the leak that must still be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pytest_httpleak.model import Finding, Kind

Leaks = Callable[..., tuple[Finding, ...]]

urllib3 = pytest.importorskip("urllib3")


@pytest.fixture
def early_manager() -> Iterator[object]:
    """A pool manager that was made before the watch began, as `urllib3.request`'s own is while urllib3 is imported."""
    manager = urllib3.PoolManager()
    yield manager
    manager.clear()


def test_idle_connections_of_a_manager_that_was_made_before_the_watch_are_nobodys(
    early_manager: urllib3.PoolManager, leaks: Leaks, server: str
) -> None:
    assert leaks(lambda: early_manager.request("GET", server + "/ok")) == ()


def test_a_response_of_a_manager_that_was_made_before_the_watch_is_still_the_tests_leak(
    early_manager: urllib3.PoolManager, leaks: Leaks, server: str
) -> None:
    kept = []
    found = leaks(lambda: kept.append(early_manager.request("GET", server + "/big", preload_content=False)))
    assert [finding.kind for finding in found] == [Kind.RESPONSES]
    kept[0].close()
