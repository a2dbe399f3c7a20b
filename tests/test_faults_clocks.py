"""Tools that freeze time: a leak is found all the same, and waiting for it ends."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import types
from typing import Any

import pytest
from inner import Inner
from marked import Leaks

from pytest_httpleak.clocks import Real
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.session.settling import pauses

CLOCKS = ("time", "monotonic", "perf_counter", "thread_time", "process_time", "sleep")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clock stands still in every module that has it as an attribute, as the tools do it."""
    real = {id(getattr(time, name)) for name in CLOCKS}
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType) and module.__name__ != __name__:
            for name, value in list(vars(module).items()):
                if id(value) in real:
                    monkeypatch.setattr(module, name, lambda *args: 0.0)


def test_a_leak_is_found_where_all_clocks_stand_still(leaks: Leaks, kept: list[Any], frozen: None) -> None:
    end = threading.Event()

    def leaking() -> None:
        thread = threading.Thread(target=end.wait)
        thread.start()

    try:
        (finding,) = leaks(leaking, grace=0.1)
    finally:
        end.set()
    assert finding.kind is Kind.THREADS


def test_what_settles_in_time_is_clean_where_all_clocks_stand_still(leaks: Leaks, frozen: None) -> None:
    def clean() -> None:
        threading.Timer(0.05, lambda: None).start()

    assert leaks(clean, grace=5) == ()


def test_the_pauses_end_where_the_clock_itself_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Real, "monotonic", staticmethod(lambda: 0.0))
    waited = list(itertools.islice(pauses(1), 1000))
    assert len(waited) < 1000
    assert 1 < sum(waited) < 5


def test_a_suite_with_a_frozen_fixture_ends(inner: Inner) -> None:
    pytest.importorskip("freezegun")
    inner.write(
        test_a="""
        import threading

        import freezegun
        import pytest

        KEPT = []

        @pytest.fixture(scope="module", autouse=True)
        def frozen():
            with freezegun.freeze_time("2020-01-01"):
                yield

        def test_leaks():
            end = threading.Event()
            threading.Thread(target=end.wait, daemon=True).start()
            KEPT.append(end)

        def test_is_clean():
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
        """
    )
    inner.judge(test_leaks="leaked", test_is_clean="clean")
