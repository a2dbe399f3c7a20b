"""What counts as one cause, which is the worst, and where it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from report_samples import (
    ROOT,
    SOURCE,
    fixture_row,
    lost_socket,
    note,
    peak,
    response,
    row,
    run,
    site,
    thread,
    write_source,
)

from pytest_httpleak.model.findings import Site
from pytest_httpleak.model.kinds import State, Verdict
from pytest_httpleak.reports.causes import causes, first_names
from pytest_httpleak.reports.notes import notes
from pytest_httpleak.reports.places import callers, code_line, is_below, owner_of_test, place, relative_path

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpleak.model.findings import Finding


def number_of_causes(*findings: Finding) -> int:
    return len(causes(run(*(row(f"a.py::test_{number}", finding) for number, finding in enumerate(findings)))))


# -- one cause or two --------------------------------------------------------------------------------------------------


def test_the_same_line_in_two_tests_is_one_cause() -> None:
    assert number_of_causes(response(), response(summary="GET http://127.0.0.1:9999/other [404]")) == 1


def test_a_resource_still_open_and_one_dropped_are_one_cause() -> None:
    assert number_of_causes(response(), response(state=State.COLLECTED)) == 1


@pytest.mark.parametrize(
    "other",
    [
        response(created=site(7)),
        response(library="requests"),
        response(verdict=Verdict.KNOWN),
        response(created=None),
        response(state=State.PEAK),
    ],
)
def test_what_differs_in_place_library_verdict_or_sort_is_another_cause(other: Finding) -> None:
    assert number_of_causes(response(), other) == 2


def test_without_a_line_ports_and_descriptors_make_no_difference() -> None:
    assert number_of_causes(lost_socket(), lost_socket(summary="127.0.0.1:40000 -> 127.0.0.1:8001")) == 1


def test_without_a_line_another_object_is_another_cause() -> None:
    assert number_of_causes(lost_socket(), lost_socket(summary="/var/run/docker.sock")) == 2


def test_a_run_without_findings_has_no_causes() -> None:
    assert causes(run(row("a.py::b"))) == []


# -- extent and order --------------------------------------------------------------------------------------------------


def test_the_extent_counts_tests_fixtures_and_resources() -> None:
    rows = [row("a.py::b", lost_socket(count=3)), row("a.py::c", lost_socket())]
    (cause,) = causes(run(*rows, fixtures=[fixture_row(lost_socket())]))
    assert cause.extent == "2 tests, 1 fixture, 5 sockets"


def test_the_extent_of_a_fixture_alone_names_no_tests() -> None:
    (cause,) = causes(run(fixtures=[fixture_row(lost_socket())]))
    assert cause.extent == "1 fixture, 1 socket"


def test_the_extent_of_a_breached_limit_counts_only_tests() -> None:
    (cause,) = causes(run(row("a.py::b", peak())))
    assert cause.extent == "1 test"


def test_a_session_fixture_of_several_workers_is_one_owner() -> None:
    twice = [fixture_row(lost_socket(), thread()), fixture_row(lost_socket(), thread())]
    assert [cause.extent for cause in causes(run(fixtures=twice))] == ["1 fixture, 2 sockets", "1 fixture, 2 threads"]


def test_the_cause_with_most_tests_comes_first() -> None:
    rows = [
        row("a.py::one", thread(), thread(count=9)),
        row("a.py::two", response()),
        row("a.py::three", response()),
    ]
    assert [cause.finding.kind.value for cause in causes(run(*rows))] == ["responses", "threads"]


def test_among_equals_the_one_with_most_resources_comes_first() -> None:
    rows = [row("a.py::one", thread(), response(count=2))]
    assert [cause.finding.kind.value for cause in causes(run(*rows))] == ["responses", "threads"]


def test_new_leaks_come_before_known_ones_however_many() -> None:
    rows = [row(f"a.py::{number}", thread(verdict=Verdict.KNOWN)) for number in range(5)]
    assert causes(run(*rows, row("a.py::new", response())))[0].finding.verdict is Verdict.LEAKED


def test_only_the_verdicts_asked_for_are_given() -> None:
    rows = [row("a.py::b", thread(verdict=Verdict.TOLERATED), response())]
    assert [cause.finding.kind.value for cause in causes(run(*rows), Verdict.LEAKED)] == ["responses"]


def test_names_are_cut_after_the_limit() -> None:
    owners = [owner_of_test(row(f"a.py::{number}")) for number in range(4)]
    assert first_names(owners, 3) == "a.py::0, a.py::1, a.py::2 and 1 more"
    assert first_names(owners, 4) == "a.py::0, a.py::1, a.py::2, a.py::3"


def test_notes_of_one_line_are_one_group() -> None:
    rows = [row("a.py::b", notes=(note(), note(count=2))), row("a.py::c", notes=(note(name="unbounded-pool"),))]
    assert [(group.note.name, group.count, group.tests) for group in notes(run(*rows))] == [
        ("no-timeout", 3, 1),
        ("unbounded-pool", 1, 1),
    ]


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        (f"{ROOT}/tests/a.py", "tests/a.py"),
        (f"{ROOT}/tests/../app/a.py", "app/a.py"),
        ("/srv/shop2/a.py", "/srv/shop2/a.py"),
        (f"{ROOT}/../other/a.py", f"{ROOT}/../other/a.py"),
        ("tests/a.py", "tests/a.py"),
        ("<doctest a.b[0]>", "<doctest a.b[0]>"),
        ("/nul\x00l/a.py", "/nul\x00l/a.py"),
    ],
)
def test_a_path_below_the_root_is_relative_to_it_and_any_other_stays(file: str, shown: str) -> None:
    assert relative_path(file, ROOT) == shown


def test_without_a_root_a_path_stays() -> None:
    assert relative_path("/srv/shop/a.py", "") == "/srv/shop/a.py"


def test_a_root_behind_a_symbolic_link_is_the_same_root(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    assert relative_path(str(real / "a.py"), str(tmp_path / "link")) == "a.py"


@pytest.mark.parametrize(
    ("file", "below"), [(f"{ROOT}/a.py", True), ("a.py", True), ("/opt/a.py", False), ("<string>", False)]
)
def test_a_file_is_below_the_root_or_not(file: str, below: bool) -> None:
    assert is_below(file, ROOT) is below


def test_the_line_of_code_is_read_from_an_absolute_or_a_relative_path(tmp_path: Path) -> None:
    file = write_source(tmp_path)
    wanted = SOURCE.splitlines()[5].strip()
    assert code_line(site(file=str(file)), str(tmp_path)) == wanted
    assert code_line(site(file=os.path.relpath(file, tmp_path)), str(tmp_path)) == wanted


@pytest.mark.parametrize("file", ["/nowhere/a.py", "<string>", "/nul\x00l.py", ""])
def test_source_that_is_not_there_is_an_empty_line(file: str) -> None:
    assert code_line(site(file=file), ROOT) == ""


def test_a_line_beyond_the_end_is_an_empty_line(tmp_path: Path) -> None:
    assert code_line(site(999, file=str(write_source(tmp_path))), str(tmp_path)) == ""


def test_callers_are_the_users_own_frames_without_the_creating_one() -> None:
    frames = (
        Site(f"{ROOT}/.venv/lib/site-packages/httpx/_client.py", 9, "send"),
        site(),
        site(20, "inner"),
        site(20, "inner"),
        site(21, "b"),
        site(22, "c"),
        site(23, "d"),
    )
    assert [each.function for each in callers(response(stack=frames), ROOT)] == ["inner", "b", "c"]


def test_a_place_is_file_line_and_function() -> None:
    assert place(site(), ROOT) == "tests/test_api.py:6 in test_get"
