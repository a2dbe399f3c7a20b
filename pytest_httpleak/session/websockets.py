"""WebSockets of httpx2: what a session does in the background ends with its response, and is one cause with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_httpleak.hints import is_of_websocket
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State

_BACKGROUND: Final = (Kind.THREADS, Kind.TASKS)


def with_background(suspects: Sequence[Suspect]) -> list[Suspect]:
    """The same suspects, the response of the first WebSocket that is open with the threads or tasks of all of them."""
    first = next((each for each in suspects if _is_open_websocket(each)), None)
    if first is None:
        return list(suspects)
    parts = [each for each in suspects if each.kind in _BACKGROUND and is_of_websocket(each)]
    held = tuple(Held(each.kind, each.summary) for each in parts)
    told = replace(first, owns=first.owns | {each.key for each in parts}, holds=first.holds + held)
    return [told if each is first else each for each in suspects]


def _is_open_websocket(suspect: Suspect) -> bool:
    return suspect.kind is Kind.RESPONSES and suspect.state is State.OPEN and is_of_websocket(suspect)
