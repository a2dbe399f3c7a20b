"""The teardown of a test item, in which the test is judged: after its own fixtures, and before any wider one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_httpleak.asking import attribute
from pytest_httpleak.protocol import has_raised_nothing

if TYPE_CHECKING:
    import pytest

    from pytest_httpleak.guard import Guard


def judge_last(guard: Guard, item: pytest.Item) -> None:
    """Let the judgement run after the test's own fixtures are torn down, and before any wider one is.

    That is when an item's own teardown is called: it is the first of the item's finalizers, which run in reverse. One that
    is somebody's own is the test's to end with.
    """
    original: Callable[[], None] = item.teardown
    is_own = not str(attribute(original, "__module__", "")).startswith("_pytest.")

    def end() -> None:
        guard.end_test(item)

    def teardown() -> None:
        if attribute(item, "_explicit_tearDown") is None:
            first, second = (original, end) if is_own else (end, original)
            try:
                first()
            finally:
                second()
            check = guard.check_of(item)
            if check is not None and check.findings:
                check.cleanly = has_raised_nothing()
            return
        # Of unittest: with `--pdb` its own is still to come, and lets go of the instance before it is time.
        instance = attribute(item, "_instance")
        try:
            original()
        finally:
            item.__dict__["_instance"] = instance
            del instance
            guard.end_test(item)
            item.__dict__.pop("_instance", None)

    item.__dict__["teardown"] = teardown
