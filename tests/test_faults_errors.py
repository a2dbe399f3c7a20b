"""Errors of the plugin's own, and no memory left: no run ends, no outcome but that of a leak that cannot be known changes."""

from __future__ import annotations

import re

import pytest
from inner import Inner

LEAK = "KEPT.append(socket.socket())"


BROKEN = """
import pytest

class Unshowable(MemoryError):
    def __str__(self):
        raise MemoryError

def failing(*args, **kwargs):
    raise {error}

def pytest_configure(config):
    pytest.MonkeyPatch().setattr("pytest_httpleak.{target}", failing)
"""

BESIDE = f"""
import socket

KEPT = []

def test_leaks():
    {LEAK}

def test_is_clean():
    socket.socket().close()

def test_fails():
    assert False, "own reason"
"""


@pytest.mark.parametrize("error", ["MemoryError", "Unshowable"])
@pytest.mark.parametrize(
    "target",
    [
        "socketrecords.SocketRecord.__init__",
        "ownership.Watch.add",
        "session.looking.Looking.look",
        "probes.descriptors.listing",
        "probes.references.held_by",
        "session.ledger.Ledger.has_moved",
        "rules.findings",
    ],
)
def test_no_memory_left_changes_no_outcome_but_the_leaks_that_cannot_be_known(
    inner: Inner, target: str, error: str
) -> None:
    inner.write(conftest=BROKEN.replace("{target}", target).replace("{error}", error), test_a=BESIDE)
    result = inner.run()
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.fnmatch_lines(["*own reason*"])
    text = result.stdout.str()
    assert len(re.findall("was switched off for|nothing was switched off", text)) == 1, text
    assert inner.outcomes().get("test_is_clean", "clean") == "clean"
    assert result.ret == 1


@pytest.mark.parametrize(
    "target",
    [
        "verdict.judge",
        "verdict.leak_error",
        "reports.text.leak_text",
        "testrows.rows",
        "hints.hint",
        "probes.references.held_by",
    ],
)
def test_a_leak_that_cannot_be_put_into_words_still_fails_its_test(inner: Inner, target: str) -> None:
    broken = BROKEN.replace("{target}", target).replace("{error}", "RuntimeError('broken')")
    inner.write(conftest=broken, test_a=BESIDE)
    result = inner.run()
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*own reason*", "FAILED test_a.py::test_leaks*", "FAILED test_a.py::test_fails*"])


@pytest.mark.parametrize("leaking", [True, False])
@pytest.mark.parametrize(
    "target", ["finish.closing_lines", "results.Results.run", "reports.text.grouped_text", "gate.close"]
)
def test_an_end_that_fails_shows_the_runs_own_result(inner: Inner, target: str, leaking: bool) -> None:
    broken = BROKEN.replace("{target}", target).replace("{error}", "RuntimeError('broken')")
    inner.write(conftest=broken, test_a=BESIDE if leaking else "def test_is_clean(): pass")
    result = inner.run()
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    if leaking:
        result.assert_outcomes(passed=1, failed=2)
    else:
        result.assert_outcomes(passed=1)
    if leaking or "grouped" not in target:
        result.stdout.fnmatch_lines(["httpleak: *broken*"])
    assert result.ret == (1 if leaking else 4 if target in ("results.Results.run", "gate.close") else 0)
