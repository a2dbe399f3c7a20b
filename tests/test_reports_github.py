"""Annotations of a GitHub Actions run."""

from __future__ import annotations

from typing import Any

import pytest
from report_samples import ROOT, evil_run, fixture_row, lost_socket, peak, response, row, run, site, thread

from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.reports.github import error_commands


def lines(*tests: Any, workspace: str | None = None, **changes: Any) -> list[str]:
    return error_commands(run(*tests, **changes), workspace=workspace)


def test_a_new_cause_is_one_error_at_its_line() -> None:
    assert lines(row("tests/test_api.py::test_get", response())) == [
        "::error file=tests/test_api.py,line=6,title=HTTP response leaked (1 test%2C 1 HTTP response)::"
        "httpx.Response GET http://127.0.0.1:8000/items?*** [200], still open%0A"
        "in: tests/test_api.py::test_get%0A"
        "fix: read the body to its end, or close the response"
    ]


def test_one_cause_in_many_tests_is_one_error() -> None:
    (line,) = lines(*(row(f"a.py::test_{number}", thread()) for number in range(7)))
    assert "title=thread leaked (7 tests%2C 7 threads)" in line
    assert "a.py::test_4 and 2 more%0A" in line


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.LEAKED])
def test_what_does_not_fail_is_no_error(verdict: Verdict) -> None:
    assert lines(row("a.py::b", thread(verdict=verdict))) == []


def test_a_leak_without_a_line_stands_at_its_test_file() -> None:
    (line,) = lines(row("tests/test_a.py::test_b", lost_socket()))
    assert line.startswith("::error file=tests/test_a.py,line=1,title=socket leaked")


def test_a_leak_without_a_line_stands_at_its_fixture() -> None:
    (line,) = lines(fixtures=[fixture_row(lost_socket())])
    assert line.startswith("::error file=tests/conftest.py,line=7,")


def test_a_breached_limit_is_named_as_such() -> None:
    (line,) = lines(row("a.py::b", peak()))
    assert "title=HTTP connection limit exceeded (1 test)" in line


@pytest.mark.parametrize("leak", [response(created=site(1, file="/srv/shop/a.py")), lost_socket()])
def test_paths_are_relative_to_the_checkout(leak: Any) -> None:
    (line,) = lines(row("a.py::b", leak), workspace="/srv")
    assert line.startswith("::error file=shop/a.py,line=1,")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a,b.py", "file=a%2Cb.py,"),
        ("a:b.py", "file=a%3Ab.py,"),
        ("a%2Cb.py", "file=a%252Cb.py,"),
        ("a\nb.py", r"file=a\nb.py,"),
        ("a\rb.py", r"file=a\rb.py,"),
    ],
)
def test_a_property_is_escaped(name: str, shown: str) -> None:
    (line,) = lines(row("a.py::b", thread(created=site(file=f"{ROOT}/{name}"))))
    assert shown in line


def test_a_percent_sign_in_the_message_is_escaped() -> None:
    (line,) = lines(row("a.py::b", thread(summary="100%0A")))
    assert "100%250A, still running" in line


def test_harmful_text_starts_no_command_of_its_own() -> None:
    found = error_commands(evil_run())
    assert found
    for line in found:
        assert line.isprintable()
        assert line.startswith("::error file=")
        assert "s3cret" not in line
        assert "hunter2" not in line
