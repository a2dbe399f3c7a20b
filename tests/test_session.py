"""The watch, judged in-process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.probes import references
from pytest_httpleak.session.keeping import SEARCH

Leaks = Callable[..., tuple[Finding, ...]]


def test_a_socket_that_is_kept_open_is_found_at_its_line(leaks: Leaks) -> None:
    kept = []

    def leaking() -> None:
        kept.append(socket.socket())

    (finding,) = leaks(leaking)
    kept.pop().close()
    assert (finding.kind, finding.state, finding.count) == (Kind.SOCKETS, State.OPEN, 1)
    assert finding.created is not None
    assert finding.created.function == "leaking"


def test_a_socket_that_is_closed_is_nothing(leaks: Leaks) -> None:
    def closing() -> None:
        with socket.socket():
            pass

    assert leaks(closing) == ()


@pytest.mark.parametrize("is_given_up", [True, False])
def test_what_keeps_a_leak_is_not_known_where_there_was_no_time_to_search(
    leaks: Leaks, kept: list[Any], monkeypatch: pytest.MonkeyPatch, is_given_up: bool
) -> None:
    asked = []

    def leaking() -> None:
        kept.append(socket.socket())
        kept.append(socket.socket())

    def process_wide(thing: object, *args: Any, seconds: float, **terms: Any) -> references.Root | None:
        if seconds == SEARCH:  # and not only to save time
            asked.append(thing)
        return references.GIVEN_UP if is_given_up else None

    monkeypatch.setattr(references, "process_wide", process_wide)
    findings = leaks(leaking)
    kept += asked
    assert [each.count for each in findings] == [1, 1]
    if is_given_up:
        assert len(asked) == 1  # the next search would take as long
        assert {each.verdict for each in findings} == {Verdict.WARNED}
        assert all(each.held_by is not None and each.held_by.startswith("not known: ") for each in findings)
    else:
        assert {each.verdict for each in findings} == {Verdict.LEAKED}


def test_a_leak_that_nothing_can_excuse_is_one_however_long_a_search_would_take(
    leaks: Leaks, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "process_wide", lambda *args, **keywords: references.GIVEN_UP)
    (finding,) = leaks(lambda: kept.append(socket.socket().detach()))
    kept[:] = [socket.socket(fileno=kept[0])]
    assert finding.verdict is Verdict.LEAKED
