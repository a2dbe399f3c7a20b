"""The HTML report: what is on the page, that it is one file, and that nothing on it can act."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from report_samples import (
    EVIL,
    big_run,
    evil_run,
    fixture_row,
    full_run,
    growth,
    lost_socket,
    note,
    pool,
    response,
    row,
    run,
    site,
    thread,
    trend,
    write_source,
)

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.kinds import Outcome
from pytest_httpleak.model.rows import TrendPoint
from pytest_httpleak.reports import html_report
from pytest_httpleak.reports.chart import downsampled, growth_rows, line_chart
from pytest_httpleak.reports.markup import tag, text

if TYPE_CHECKING:
    from pathlib import Path

_VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """The parsed page; fails on a tag that is closed out of order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
            self.content.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for name in set(self.open):
            self.content[name][-1] += data

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attrs[name] for each, attrs in self.tags if each == tag and name in attrs]


def page_of(*tests: Any, **changes: Any) -> Page:
    return Page(html_report.render(run(*tests, **changes)))


# -- what is on the page -----------------------------------------------------------------------------------------------


def test_a_clean_run_says_so() -> None:
    page = page_of(row("a.py::b"))
    assert page.content["h1"] == ["No leaks"]
    assert page.content["title"] == ["HTTP leaks: 0 of 1 tests"]
    assert "article" not in page.content


@pytest.mark.parametrize(
    ("tests", "fixtures", "title"),
    [
        ([row("a.py::b", thread())], [], "1 leaking test"),
        ([row("a.py::b", thread())], [fixture_row(lost_socket())], "1 leaking test, 1 leaking fixture"),
        ([row("a.py::b")], [fixture_row(lost_socket())], "1 leaking fixture"),
    ],
)
def test_the_title_tells_who_leaks(tests: Any, fixtures: Any, title: str) -> None:
    assert page_of(*tests, fixtures=fixtures).content["h1"] == [title]


def test_a_cause_shows_place_code_and_facts(tmp_path: Path) -> None:
    leak = response(created=site(file=str(write_source(tmp_path))))
    page = page_of(row("tests/test_api.py::test_get", leak), rootdir=str(tmp_path))
    article = page.content["article"][0]
    assert page.content["h3"] == ["tests/test_api.py:6 in test_get"]
    assert page.content["code"] == ["response = client.send(request, stream=True)"]
    for part in (
        "leaked",
        "HTTP response",
        "1 test, 1 HTTP response",
        "GET http://127.0.0.1:8000/items?*** [200], still open",
        "socket 127.0.0.1:53122 -> 127.0.0.1:8000 (fd 12)",
        "module attribute app.api._last",
        "read the body to its end, or close the response",
        "tests/test_api.py::test_get",
    ):
        assert part in article


def test_a_cause_of_which_little_is_known_has_no_code_and_no_facts() -> None:
    page = page_of(row("a.py::b", lost_socket()))
    assert page.content["h3"] == [
        "line unknown (made by C code, in another interpreter, or before the plugin was attached)"
    ]
    assert "pre" not in page.content


def test_many_owners_are_folded_and_cut() -> None:
    page = page_of(*(row(f"a.py::test_{number}", thread()) for number in range(202)))
    folded = page.content["details"][0]
    assert folded.startswith("Left by 202a.py::test_0")
    assert "a.py::test_199" in folded
    assert "a.py::test_200" not in folded
    assert folded.endswith("and 2 more owners")


def test_there_is_a_button_for_each_kind_that_leaked_and_one_for_all() -> None:
    page = page_of(row("a.py::b", thread(), response()), row("a.py::c", lost_socket()))
    assert page.content["button"] == ["all 3", "responses 1", "threads 1", "sockets 1"]
    assert page.attributes("button", "data-kind") == ["", "responses", "threads", "sockets"]
    assert sorted(filter(None, page.attributes("article", "data-kind"))) == ["responses", "sockets", "threads"]


def test_pools_are_shown_with_their_limits_and_reuse() -> None:
    other = pool(max_connections=None, per_host=5, connections_made=0, created=None, waiting=None, overflow=None)
    page = page_of(pools=[pool(max_keepalive=20, overflow=2, connecting=6), other])
    cells = page.content["td"]
    owner = "http://127.0.0.1:8000fixture 'client'"
    assert cells[:14] == [
        "httpx", f"{owner}, tests/conftest.py:5", "2", "1", "0", "6", "0", "100", "20", "none", "3", "12", "4.0", "2",
    ]  # fmt: skip
    assert cells[14:] == ["httpx", owner, "2", "1", "0", "0", "-", "none", "none", "5", "0", "12", "-", "-"]


def test_notes_are_shown_with_their_hint() -> None:
    page = page_of(row("a.py::b", notes=(note(), note(name="other", created=None))))
    assert page.content["td"][:4] == [
        "no-timeout", "this client waits for evergive it a timeout", "tests/test_api.py:3", "1",
    ]  # fmt: skip


def test_every_test_is_listed_the_worst_first() -> None:
    page = page_of(row("a.py::clean"), row("a.py::leaky", thread(), attempts=3, repeated=2))
    assert page.content["li"] == ["leakeda.py::leaky (in 2 of 3 attempts)", "cleana.py::clean"]


def test_sections_without_content_are_left_out() -> None:
    assert page_of().content["h2"] == ["Leaks by cause"]


def test_the_full_page_has_all_sections() -> None:
    page = Page(html_report.render(full_run()))
    assert page.content["h2"] == [
        "Leaks by cause",
        "Growing, test after test",
        "Open in the process over the session",
        "Connection pools",
        "Audit notes",
    ]
    assert page.content["footer"][0].startswith("httpleak: the adapter for urllib3 was switched off")


# -- one file, and nothing that acts -----------------------------------------------------------------------------------


def test_the_policy_allows_only_the_pages_own_script_and_style() -> None:
    html = html_report.render(full_run())
    page = Page(html)
    policy = page.attributes("meta", "content")[0]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for name in ("style", "script"):
        (content,) = page.content[name]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_nothing_is_loaded_and_no_handler_or_style_stands_in_an_attribute() -> None:
    page = Page(html_report.render(full_run()))
    names = {name for _, attrs in page.tags for name in attrs}
    assert not names & {"src", "href", "style", "srcset", "action"}
    assert not [name for name in names if name.startswith("on")]
    (style,) = page.content["style"]
    assert "url(" not in style
    assert "@import" not in style


def test_no_text_becomes_markup() -> None:
    page = Page(html_report.render(evil_run()))
    assert [name for name, _ in page.tags].count("script") == 1
    assert "<script>alert(1)</script>" in page.content["article"][0]


def test_no_secret_and_no_control_character_is_on_the_page() -> None:
    html = html_report.render(evil_run())
    assert "s3cret" not in html
    assert "hunter2" not in html
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc80]", html)


def test_a_string_is_escaped_and_markup_is_not() -> None:
    assert text("<b>", tag("i", "x"), 1234, None, ["&"]) == "&lt;b&gt;<i>x</i>1,234&amp;"


def test_attributes_are_escaped_and_may_be_left_out() -> None:
    shown = tag("p", "x", class_='"<', data_kind="a", hidden=True, title=None, lang=False)
    assert shown == '<p class="&quot;&lt;" data-kind="a" hidden>x</p>'


def test_a_large_run_makes_a_page_well_below_two_megabytes(tmp_path: Path) -> None:
    assert len(html_report.render(big_run(str(tmp_path)))) < 1_000_000


def test_a_huge_run_is_cut_and_says_so(tmp_path: Path) -> None:
    rows = [row(f"a.py::test_{number}", thread(created=site(number))) for number in range(501)]
    rows += [row(f"b.py::test_{number}", outcome=Outcome.CLEAN) for number in range(4600)]
    html = html_report.render(run(*rows, pools=[pool()] * 501))
    for cut in ("and 1 more causes", "and 101 more tests", "and 1 more pools"):
        assert cut in html


# -- the chart ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 399, 400])
def test_a_short_session_is_drawn_point_by_point(length: int) -> None:
    points = downsampled(trend(length))
    assert [number for number, _, _ in points] == list(range(1, length + 1))


@pytest.mark.parametrize("length", [401, 402, 799, 800, 2000, 12_345])
def test_a_long_session_is_drawn_with_at_most_four_hundred_points(length: int) -> None:
    points = downsampled(trend(length))
    numbers = [number for number, _, _ in points]
    assert len(points) == 400
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (1, length)


def test_no_peak_is_lost_between_two_points() -> None:
    session = trend(2000)
    session[777] = replace(session[777], open={"fds": 1000, "sockets": 500})
    points = downsampled(session)
    assert max(point[2]["fds"] for point in points) == 1000
    assert max(point[2]["sockets"] for point in points) == 500


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (3, ["0", "1", "2", "3"]),
        (9, ["0", "5", "10"]),
        (58, ["0", "20", "40", "60"]),
        (4001, ["0", "2,000", "4,000", "6,000"]),
    ],
)
def test_the_axis_has_round_numbers(highest: int, labels: list[str]) -> None:
    page = Page(line_chart([TrendPoint("a", {"fds": highest})] * 2))
    assert [label for label in page.content["text"] if not label.startswith("test")] == labels


def test_there_is_a_line_for_each_series() -> None:
    page = Page(line_chart(trend(5)))
    lines = page.attributes("polyline", "class")
    assert lines == ["line fds", "line sockets", "line threads", "line tasks"]
    assert all(len((points or "").split()) == 5 for points in page.attributes("polyline", "points"))


def test_a_single_test_is_drawn_as_a_level_line() -> None:
    page = Page(line_chart([TrendPoint("a", {"fds": 4})]))
    assert page.attributes("polyline", "points") == ["52.0,14.0 788,14.0", "", "", ""]


def test_the_data_under_the_pointer_names_the_test_and_its_counts() -> None:
    page = Page(line_chart([TrendPoint(EVIL, {"fds": 4}), TrendPoint("b", {"fds": 5, "tasks": 1})]))
    (points,) = page.attributes("svg", "data-points")
    first, second = json.loads(points or "")
    assert first[1] == 1
    assert first[3:] == [4, None, None, None]
    assert first[2].isprintable()
    assert second[1:] == [2, "b", 5, None, None, 1]


def test_growth_is_told_by_series_that_were_counted() -> None:
    session = [TrendPoint("a", {"fds": 4}), TrendPoint("b", {"fds": 9, "tasks": 0}), TrendPoint("c", {"fds": 7})]
    assert growth_rows(session) == [("file descriptors", 4, 9, 7), ("tasks", 0, 0, 0)]


def test_a_series_that_grew_is_marked() -> None:
    grown = page_of(trend=[TrendPoint("a", {"fds": 4, "tasks": 1}), TrendPoint("b", {"fds": 9, "tasks": 0})])
    assert [cell for cell in grown.content["td"] if cell[0] in "+-"] == ["+5", "-1"]
    assert grown.attributes("td", "class") == ["grown"]


def test_what_grows_is_shown_with_its_slope_and_what_keeps_it() -> None:
    page = page_of(growth=[growth()])
    assert "1 HTTP client at first, 40 in the end, over 40 tests: 1.0 more for each" in page.content["span"]
    assert page.content["dd"][-2:] == [
        "module attribute app.registry",
        "close it where it is made, or bound what keeps it",
    ]
