"""How long to wait for what looks leaked, and how to wait inside a running event loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from pytest_httpleak.clocks import Real

_FIRST_PAUSE: Final = 0.001  # seconds
_LONGEST_PAUSE: Final = 0.05  # seconds
_FEWEST_LOOKS: Final = 10
_FEWEST_SLOW_LOOKS: Final = 3
_SLOW: Final = 2.0  # seconds
_LONGEST_WAIT: Final = 4  # times the grace, in pauses: a tool may have stopped the clock itself


def pauses(grace: float) -> Iterator[float]:
    """Pauses that back off from 1 ms to 50 ms, or a tenth of a short grace: at least ten, and until `grace` (s) is over.

    The number, for which a grace of 10 ms has time, keeps a loaded machine, whose one pause may take all of the time, from
    cutting the grace short. Where so much has leaked that it is the looks between them that take the time, three are enough
    after two seconds beyond the grace.
    """
    began = Real.monotonic()
    end, latest = began + grace, began + grace + _SLOW
    longest = min(_LONGEST_PAUSE, max(grace / _FEWEST_LOOKS, _FIRST_PAUSE))
    pause, looks, waited = _FIRST_PAUSE, 0, 0.0
    while grace > 0 and (
        looks < (_FEWEST_LOOKS if Real.monotonic() < latest else _FEWEST_SLOW_LOOKS)
        or (Real.monotonic() < end and waited < _LONGEST_WAIT * grace)
    ):
        yield pause
        looks += 1
        waited += pause
        pause = min(pause * 2, longest)


async def settle(is_settled: Callable[[], bool], grace: float) -> bool:
    """Let the running event loop go on until `is_settled()` or until `grace` (seconds) is over; gives the last answer.

    Awaits asyncio's `sleep`, or trio's where trio runs the calling task; never blocks the thread. A cancellation of the
    calling task ends it, as it ends any `await`.
    """
    sleep_here = _sleep_of_the_running_loop()
    for pause in pauses(grace):
        if is_settled():
            return True
        await sleep_here(pause)
    return is_settled()


def _sleep_of_the_running_loop() -> Callable[[float], Any]:
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except Exception:  # noqa: BLE001, S110  # not inside trio; or somebody's stand-in for it
            pass
        else:
            return trio.sleep  # type: ignore[no-any-return]
    import asyncio

    return asyncio.sleep
