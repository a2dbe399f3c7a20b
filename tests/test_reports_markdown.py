"""The Markdown report, as GitHub would render it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import evil_run, full_run, growth, lost_socket, note, response, row, run, site, thread, write_source

from pytest_httpleak.reports.markdown_report import escaped, render

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(*tests: Any, **changes: Any) -> list[str]:
    return [line for line in render(run(*tests, **changes)).splitlines() if line.startswith("| ")][2:]


def plain(markdown: str) -> str:
    return re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), markdown)


def test_a_clean_run_has_no_table() -> None:
    text = render(run(row("a.py::b")))
    assert "No leaks were found." in text
    assert "| --- |" not in text


def test_the_figures_stand_at_the_top() -> None:
    assert render(full_run()).splitlines()[2] == (
        "**9** checked · **2** clean · **4** leaked · **1** warned · **1** tolerated · **1** known"
    )


def test_a_cause_is_one_row(tmp_path: Path) -> None:
    leak = response(created=site(file=str(write_source(tmp_path))))
    (line,) = rows_of(row("tests/test_api.py::test_get", leak), rootdir=str(tmp_path))
    assert plain(line) == (
        "| **leaked** | HTTP response<br>"
        "<code>httpx.Response GET http://127.0.0.1:8000/items?*** [200], still open</code> "
        "| <code>tests/test_api.py:6 in test_get</code><br><code>response = client.send(request, stream=True)</code> "
        "| 1 test, 1 HTTP response<br>tests/test_api.py::test_get "
        "| read the body to its end, or close the response |"
    )


def test_a_cause_without_a_line_says_so() -> None:
    (line,) = rows_of(row("a.py::b", lost_socket()))
    assert "line unknown (made by C code" in plain(line)


@pytest.mark.parametrize(("number", "more"), [(100, False), (101, True)])
def test_at_most_a_hundred_rows_are_written(number: int, more: bool) -> None:
    text = render(run(*(row(f"a.py::{each}", thread(created=site(each + 1))) for each in range(number))))
    assert ("and 1 more causes" in text) is more
    assert len(text) < 1_000_000


def test_notes_are_a_list() -> None:
    text = plain(render(run(row("a.py::b", notes=(note(), note(name="other", created=None, hint=""))))))
    assert (
        "- <code>tests/test_api.py:3</code> this client waits for ever (no-timeout, 1 test). give it a timeout" in text
    )
    assert "- this client waits for ever (other, 1 test)." in text.splitlines()


@settings(deadline=None)
@given(st.text(max_size=40))
def test_nothing_that_markdown_acts_on_is_left_in_escaped_text(text: str) -> None:
    shown = escaped(text)
    assert not re.search(r"[`*_\[\]<>|~@!\\]", shown)
    assert plain(shown) == text or "&" in text


def test_harmful_text_stays_text() -> None:
    markdown_it = pytest.importorskip(
        "markdown_it", reason="markdown-it-py, which renders the report, is not installed"
    )
    html = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(render(evil_run()))
    tags = set(re.findall(r"<(/?\w+)", html))
    assert not tags - {
        f"{slash}{name}"
        for name in ("h2", "h3", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "br", "ul", "li")
        for slash in ("", "/")
    }
    assert html.count("<tr>") == 1 + len(rows_of(*evil_run().tests, fixtures=evil_run().fixtures))


def test_no_secret_and_no_control_character_is_written() -> None:
    text = render(evil_run())
    assert "s3cret" not in text
    assert "hunter2" not in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_what_grows_has_a_line_with_its_slope() -> None:
    text = plain(render(run(growth=[growth()])))
    assert "### Growing, test after test" in text
    assert "1 HTTP client at first, 40 in the end, over 40 tests: 1.0 more for each" in text
