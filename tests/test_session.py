"""The watch, judged in-process."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Kind, State

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
