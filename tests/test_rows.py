"""The examples of docs/rows.md: what each of them says is said, and of their mended twins nothing is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from once import once

ROWS = Path(__file__).parent.parent / "examples" / "rows"


class Ran(NamedTuple):
    text: str
    tests: dict[str, Any]
    metrics: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run over all of them."""
    for name in ("aiohttp", "httpx", "pytest_asyncio", "requests", "urllib3"):
        pytest.importorskip(name)
    folder = once(tmp_path_factory, "rows", _run)
    report = json.loads((folder / "leaks.json").read_text("utf-8"))
    tests = {row["nodeid"].rpartition("::")[2]: row for row in report["tests"]}
    return Ran((folder / "output.txt").read_text("utf-8"), tests, (folder / "leaks.prom").read_text("utf-8"))


def _run(folder: Path) -> None:
    environment = os.environ | {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pytest", "-p", "asyncio", "-p", "httpleak", "-rP", "--color=no"]
    command += [f"--httpleak-report={folder / name}" for name in ("leaks.json", "leaks.prom")]
    done = subprocess.run(command, cwd=ROWS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    (folder / "output.txt").write_text(done.stdout, "utf-8")


# The row, its test, what becomes of it, the kind of its finding or the name of its note.
FOUND = [
    (1, "test_body_never_read", "leaked", "responses"),
    (2, "test_client_for_each_call", "leaked", "clients"),
    (2, "test_client_for_each_call", "leaked", "client-per-request"),
    (3, "test_pool_far_too_small", "clean", "pool-overflow"),
    (4, "test_transport_outlives_its_client", "leaked", "clients"),
    (6, "test_task_keeps_a_connection", "leaked", "tasks"),
    (7, "test_session_for_each_tenant[8]", "tolerated", "clients"),
    (8, "test_default_changed_for_everyone", "clean", "global-default-changed"),
    (9, "test_transport_that_cannot_be_closed", "leaked", "clients"),
    (10, "test_all_at_once", "leaked", "connections"),
    (11, "test_file_for_each_order", "leaked", "fds"),
    (13, "test_retries_without_a_bound", "clean", "unbounded-retry"),
    (13, "test_thread_for_each_try", "leaked", "threads"),
    (14, "test_error_before_the_with", "leaked", "responses"),
    (14, "test_each_step_fails_in_turn", "leaked", "connections"),
    (15, "test_no_timeout", "clean", "no-timeout"),
    (16, "test_pool_without_a_limit", "clean", "unbounded-pool"),
    (17, "test_timeout_leaves_the_task", "leaked", "tasks"),
    (17, "test_cancelled_at_each_await", "leaked", "tasks"),
    (18, "test_leak_in_the_figures", "warned", "clients"),
    (19, "test_session_for_each_call", "leaked", "clients"),
    (20, "test_leak_in_the_records", "warned", "connections"),
]


@pytest.mark.parametrize(("row", "test", "outcome", "name"), FOUND)
def test_a_row_is_shown_by_its_example(ran: Ran, row: int, test: str, outcome: str, name: str) -> None:
    found = ran.tests[test]
    assert f"test_row_{row:02}_" in found["nodeid"]
    assert found["outcome"] == outcome
    assert name in [each["kind"] for each in found["findings"]] + [each["name"] for each in found.get("notes", ())]


def test_of_the_mended_twins_nothing_is_said(ran: Ran) -> None:
    mended = {name: row for name, row in ran.tests.items() if "_mended" in name}
    assert len(mended) > len(ran.tests) // 3
    assert {name: row for name, row in mended.items() if row["outcome"] != "clean" or "notes" in row} == {}


PRINTED = [
    (5, "[2 active, 0 idle, 0 waiting | max 10 | 2 requests on 2 connections]>"),
    (5, "[1 active, 1 idle, 0 waiting | max 10 | 2 requests on 2 connections]>"),
    (7, "test_row_07_cache_without_expiry.py:10 in test_session_for_each_tenant: 1 HTTP client at first, 9 in the end"),
    (7, "held by module attribute test_row_07_cache_without_expiry.SESSIONS"),
    (12, "| max 10 | 6 requests on 6 connections, 6 thrown away]>"),
    (12, "[0 active, 1 idle, 0 waiting | max 10 | 6 requests on 1 connection]>"),
    (14, "Sweep(steps={'reset': 4, 'timeout': 3, 'eof': 1, 'cancel': 0}, failed=8, runs=9)"),
    (17, "Sweep(steps={'reset': 0, 'timeout': 0, 'eof': 0, 'cancel': 3}, failed=3, runs=4)"),
    (19, "100 calls at a constant rate, 0 of them never begun"),
]


@pytest.mark.parametrize(("row", "words"), PRINTED)
def test_figures_and_growth_are_printed(ran: Ran, row: int, words: str) -> None:
    assert words in ran.text


def test_figures_for_prometheus_are_written(ran: Ran) -> None:
    assert 'httpleak_leaks{library="urllib3",kind="clients",verdict="warned"} 1' in ran.metrics
    assert 'httpleak_growth_per_test{library="requests",kind="clients"' in ran.metrics


def test_each_of_the_twenty_rows_has_an_example_and_a_section() -> None:
    numbers = sorted(int(path.name.split("_")[2]) for path in ROWS.glob("test_row_*.py"))
    assert numbers == list(range(1, 21))
    text = (ROWS.parent.parent / "docs" / "rows.md").read_text("utf-8")
    assert all(f"\n## {number}. " in text for number in numbers)
    assert all(f"<!-- row{number}:begin -->\n[examples/rows/" in text for number in numbers)
