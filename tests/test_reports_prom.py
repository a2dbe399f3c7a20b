"""The OpenMetrics report, read by Prometheus' own parsers."""

from __future__ import annotations

from typing import Any

import pytest
from report_samples import evil_run, fixture_row, full_run, growth, lost_socket, pool, response, row, run, thread

from pytest_httpleak.model.kinds import Kind, Outcome, Verdict
from pytest_httpleak.reports.prom_report import render


def samples(report: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser", reason="prometheus_client is not installed")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(render(report))
        for sample in family.samples
    }


def value(report: Any, name: str, **labels: str) -> float:
    return samples(report)[(name, frozenset(labels.items()))]


@pytest.mark.parametrize("report", [run(), full_run(), evil_run()], ids=["empty", "full", "evil"])
def test_every_report_can_be_parsed(report: Any) -> None:
    assert samples(report)


def test_the_older_text_format_reads_it_too() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    assert {family.type for family in parser.text_string_to_metric_families(render(full_run()))} == {"gauge"}


def test_it_ends_as_openmetrics_asks() -> None:
    assert render(run()).endswith("# EOF\n")


@pytest.mark.parametrize(
    ("outcome", "number"),
    [
        (Outcome.CLEAN, 2),
        (Outcome.LEAKED, 4),
        (Outcome.WARNED, 1),
        (Outcome.KNOWN, 1),
        (Outcome.TOLERATED, 1),
        (Outcome.UNCHECKED, 1),
    ],
)
def test_tests_are_counted_by_outcome(outcome: Outcome, number: int) -> None:
    assert value(full_run(), "httpleak_tests", outcome=outcome.value) == number


def test_an_outcome_that_did_not_come_up_is_zero() -> None:
    assert value(run(), "httpleak_tests", outcome="leaked") == 0


def test_resources_are_counted_by_library_kind_and_verdict() -> None:
    report = run(
        row("a.py::b", response(count=3), thread(verdict=Verdict.KNOWN)),
        row("a.py::c", response()),
        fixtures=[fixture_row(lost_socket())],
    )
    assert value(report, "httpleak_leaks", library="httpx", kind="responses", verdict="leaked") == 4
    assert value(report, "httpleak_leaks", library="threading", kind="threads", verdict="known") == 1
    assert value(report, "httpleak_leaks", library="socket", kind="sockets", verdict="leaked") == 1


def test_pools_of_one_origin_are_added_up() -> None:
    report = run(pools=[pool(), pool(idle=5), pool(origin="http://other")])
    here = {"library": "httpx", "origin": "http://127.0.0.1:8000"}
    assert value(report, "httpleak_pool_connections", state="idle", **here) == 7
    assert value(report, "httpleak_pool_requests", **here) == 24
    assert value(report, "httpleak_pool_connections_made", **here) == 6


def test_what_grows_has_its_slope() -> None:
    report = run(growth=[growth(), growth(kind=Kind.SOCKETS, created=None, slope=0.25), growth(slope=0.5)])
    name = "httpleak_growth_per_test"
    assert value(report, name, library="httpx", kind="clients", created="tests/conftest.py:5") == 1.5
    assert value(report, name, library="httpx", kind="sockets", created="") == 0.25


def test_a_figure_that_a_library_has_no_notion_of_adds_nothing() -> None:
    report = run(pools=[pool(overflow=2), pool(overflow=None, waiting=None)])
    here = {"library": "httpx", "origin": "http://127.0.0.1:8000"}
    assert value(report, "httpleak_pool_overflow", **here) == 2
    assert value(report, "httpleak_pool_connections", state="waiting", **here) == 0


def test_origins_that_differ_only_in_a_secret_are_one_line() -> None:
    report = run(pools=[pool(origin="http://a:s3cret@h"), pool(origin="http://b:hunter2@h")])
    assert value(report, "httpleak_pool_connections", library="httpx", origin="http://h", state="active") == 2


def test_time_is_given_in_seconds() -> None:
    assert value(run(), "httpleak_plugin_seconds") == 0.0042
    assert value(run(), "httpleak_run_seconds") == 1.5


def test_what_is_open_at_the_end_is_the_last_point_of_the_trend() -> None:
    assert value(full_run(), "httpleak_open_resources", kind="fds") == 9


def test_a_label_keeps_its_quotation_marks_and_backslashes() -> None:
    assert value(
        run(platform='a"b\\c\nd'), "httpleak_build_info", version="0.1.0", python="3.11.7", platform='a"b\\c\\nd'
    )


def test_an_incomplete_run_is_told() -> None:
    cut = run()
    cut.summary.complete = False
    assert value(cut, "httpleak_complete") == 0
    assert value(run(), "httpleak_complete") == 1


def test_no_secret_is_written() -> None:
    text = render(evil_run())
    assert "s3cret" not in text
    assert "hunter2" not in text
