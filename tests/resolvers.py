"""What aiohttp's resolver leaves to a thread of pycares, which closes it a little later."""

from __future__ import annotations

from typing import Any

from pytest_httpleak.clocks import Real
from pytest_httpleak.opennumbers import open_numbers


def have_ended(pycares: Any) -> None:
    """Wait for the channels of earlier tests, which a thread destroys one after the other."""
    before = open_numbers()
    channel = pycares.Channel()
    made = open_numbers() - before
    channel.close()
    end = Real.monotonic() + 30
    while made & open_numbers():
        assert Real.monotonic() < end
        Real.sleep(0.001)
