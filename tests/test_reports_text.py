"""What a person reads in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from report_samples import (
    EVIL,
    ROOT,
    evil_run,
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

from pytest_httpleak.model.findings import Finding, Held, Site
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.reports.closing import closing_line, closing_lines
from pytest_httpleak.reports.notes import notes_text
from pytest_httpleak.reports.text import (
    grouped_text,
    leak_text,
    one_line,
    section_text,
)
from pytest_httpleak.reports.wording import RULES, headline, held_lines, noun
from pytest_httpleak.results import Results

if TYPE_CHECKING:
    from pathlib import Path


def text_of(*findings: Finding, rootdir: str = ROOT) -> str:
    return leak_text(findings, owner="tests/test_api.py::test_get", rootdir=rootdir)


# -- the message of one failure ----------------------------------------------------------------------------------------


def test_one_leak_is_told_with_its_line_what_it_holds_and_how_to_mend_it(tmp_path: Path) -> None:
    created = site(file=str(write_source(tmp_path)))
    caller = site(30, "wrapper", str(tmp_path / "tests/steps.py"))
    text = text_of(response(created=created, stack=(created, caller)), rootdir=str(tmp_path))
    assert text.splitlines() == [
        "1 HTTP response leaked: httpx.Response GET http://127.0.0.1:8000/items?*** [200], still open",
        "  left by: tests/test_api.py::test_get",
        "  created: tests/test_api.py:6 in test_get",
        "           6 |  response = client.send(request, stream=True)",
        "  from:    tests/steps.py:30 in wrapper",
        "  holds:   HTTP/1.1 connection to 127.0.0.1:8000",
        "           socket 127.0.0.1:53122 -> 127.0.0.1:8000 (fd 12)",
        "  held by: module attribute app.api._last",
        "  fix:     read the body to its end, or close the response",
    ]


def test_a_leak_of_which_little_is_known_says_so_and_no_more() -> None:
    assert text_of(lost_socket()).splitlines() == [
        "1 socket leaked: socket.socket 127.0.0.1:53122 -> 127.0.0.1:8000, "
        "dropped while open and left to the garbage collector",
        "  left by: tests/test_api.py::test_get",
        "  created: line unknown (made by C code, in another interpreter, or before the plugin was attached)",
    ]


def test_unlike_descriptors_are_not_told_as_so_many_of_the_first() -> None:
    found = Finding(Kind.FDS, "os", "file descriptor", State.OPEN, "fd 5: pipe:[1], fd 7: /etc/hosts", None, count=3)
    assert headline(found) == "3 file descriptors leaked: fd 5: pipe:[1], fd 7: /etc/hosts, still open"


def test_several_leaks_are_numbered_below_their_total() -> None:
    lines = text_of(response(count=3), thread(), peak()).splitlines()
    assert lines[0] == "3 leaks: 3 HTTP responses, 1 thread, 1 limit exceeded"
    assert [line for line in lines if line[:2] in ("1.", "2.", "3.")] == [
        "1. 3 HTTP responses leaked: httpx.Response GET http://127.0.0.1:8000/items?*** [200] x3, still open",
        "2. 1 thread leaked: threading.Thread poller-1, still running",
        "3. limit exceeded for HTTP connections: 12 connections open at once, and the limit is 10",
    ]


def test_a_total_without_a_broken_limit_names_none() -> None:
    assert text_of(response(), thread()).splitlines()[0] == "2 leaks: 1 HTTP response, 1 thread"


def test_the_lines_that_broke_a_limit_are_named_with_short_paths() -> None:
    assert "  made by: 12 from tests/test_api.py:40" in text_of(peak()).splitlines()


def test_source_that_cannot_be_read_leaves_the_line_of_code_out() -> None:
    assert " | " not in text_of(response())


def test_frames_of_libraries_are_not_shown_as_callers() -> None:
    assert "_client.py" not in text_of(response())


MADE_IN = Site("/usr/lib/python3/site-packages/sdk/transport.py", 156, "__init__")
THREADING = Site("/usr/lib/python3/threading.py", 970, "start")


@pytest.mark.parametrize(
    ("stack", "shown"),
    [
        ((MADE_IN, site()), ["made in: sdk/transport.py:156 in __init__"]),
        ((THREADING, MADE_IN, site()), ["made in: sdk/transport.py:156 in __init__"]),
        ((THREADING, site()), []),
        ((site(), MADE_IN), []),  # what has called the user's code
        ((), []),
    ],
)
def test_the_line_of_a_library_is_shown_that_has_made_what_bears_no_librarys_name(
    stack: tuple[Site, ...], shown: list[str]
) -> None:
    for text in (text_of(lost_socket(created=site(), stack=stack)), text_of(thread(created=site(), stack=stack))):
        assert [line.strip() for line in text.splitlines() if "made in" in line] == shown


ANYIO = Site("/usr/lib/python3/site-packages/anyio/_backends/_asyncio.py", 2, "run")
PLUGIN = Site("/usr/lib/python3/site-packages/pytest_asyncio/plugin.py", 915, "inner")
BY_LIBRARY = "created: line unknown (a library made it in a callback or a thread, with no line of yours on the way)"
BY_C = "created: line unknown (made by C code, in another interpreter, or before the plugin was attached)"


@pytest.mark.parametrize(
    ("stack", "shown"),
    [
        ((THREADING, MADE_IN, ANYIO, PLUGIN), [BY_LIBRARY, "made in: sdk/transport.py:156 in __init__"]),
        ((THREADING, ANYIO, PLUGIN), [BY_C]),
        ((), [BY_C]),
    ],
)
def test_without_a_line_of_the_users_the_line_of_the_library_is_shown(
    stack: tuple[Site, ...], shown: list[str]
) -> None:
    lines = [line.strip() for line in text_of(thread(created=None, stack=stack)).splitlines()]
    assert [line for line in lines if line.startswith(("created", "made in"))] == shown
    assert shown[0].removeprefix("created: ") in one_line(thread(created=None, stack=stack))


HTTPX = Site("/usr/lib/python3/site-packages/httpx/_client.py", 901, "send")
DECORATOR = Site("/usr/lib/python3/site-packages/decorator.py", 235, "fun")
WATCHING = Site("/usr/lib/python3/site-packages/sentry_sdk/integrations/httpx.py", 51, "send")


@pytest.mark.parametrize(
    ("stack", "shown"),
    [
        ((HTTPX, MADE_IN, site()), ["made in: sdk/transport.py:156 in __init__"]),
        ((HTTPX, WATCHING, MADE_IN, site()), ["made in: sdk/transport.py:156 in __init__"]),
        ((HTTPX, DECORATOR, MADE_IN, site()), ["made in: sdk/transport.py:156 in __init__"]),
        ((HTTPX, WATCHING, site()), []),
        ((MADE_IN, HTTPX, site()), []),  # what the HTTP library is built on, or calls back
        ((HTTPX, site(), MADE_IN), []),
    ],
)
def test_so_is_the_line_of_a_library_that_has_had_an_http_library_make_it(
    stack: tuple[Site, ...], shown: list[str]
) -> None:
    text = text_of(response(created=site(), stack=stack))
    assert [line.strip() for line in text.splitlines() if "made in" in line] == shown


def test_a_file_outside_the_root_is_shown_with_its_whole_path() -> None:
    assert "created: /opt/shared/steps.py:6 in test_get" in text_of(response(created=site(file="/opt/shared/steps.py")))


def test_many_held_things_are_cut_to_eight() -> None:
    held = tuple(Held(Kind.FDS, f"pipe {number}") for number in range(10))
    lines = text_of(response(holds=held)).splitlines()
    assert [line.strip() for line in lines if "pipe" in line or "more" in line][-2:] == [
        "file descriptor pipe 7",
        "and 2 more",
    ]


def test_eight_held_things_are_all_shown() -> None:
    held = tuple(Held(Kind.FDS, f"pipe {number}") for number in range(8))
    assert "more" not in text_of(response(holds=held))


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        (Held(Kind.FDS, "fd 12", 12), "fd 12"),
        (Held(Kind.SOCKETS, "fd 1", 12), "fd 1 (fd 12)"),
        (Held(Kind.CONNECTIONS, "a connection of <Pool>"), "a connection of <Pool>"),
        (Held(Kind.CONNECTIONS, "to 127.0.0.1"), "HTTP connection to 127.0.0.1"),
    ],
)
def test_a_held_thing_is_named_once(held: Held, shown: str) -> None:
    assert f"  holds:   {shown}" in text_of(response(holds=(held,))).splitlines()


@pytest.mark.parametrize(
    "before", [Held(Kind.SOCKETS, "TCP, not connected, fd 12"), Held(Kind.SOCKETS, "TCP, not connected", 12)]
)
def test_a_number_that_has_been_told_with_its_socket_is_not_told_again(before: Held) -> None:
    held = (before, Held(Kind.FDS, "fd 12", 12), Held(Kind.FDS, "fd 13", 13), Held(Kind.FDS, "fd 12: /dev/null", 12))
    (first, *rest) = held_lines(response(holds=held), ROOT)
    assert "fd 12" in first
    assert rest == ["fd 13", "fd 12: /dev/null"]


def test_the_number_of_a_socket_that_has_leaked_is_told_once() -> None:
    held = Held(Kind.FDS, "fd 12", 12)
    assert held_lines(thread(summary="TCP, not connected, fd 12", holds=(held,)), ROOT) == []
    assert held_lines(thread(summary="TCP, not connected, fd 11", holds=(held,)), ROOT) == ["fd 12"]


def test_the_numbers_of_several_sockets_that_have_leaked_are_all_told() -> None:
    held = (Held(Kind.FDS, "fd 12", 12), Held(Kind.FDS, "fd 13", 13))
    leaked = thread(summary="TCP, not connected, fd 12", holds=held, count=2)
    assert held_lines(leaked, ROOT) == ["fd 12", "fd 13"]


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        (Kind.RESPONSES, State.OPEN, "still open"),
        (Kind.CONNECTIONS, State.OPEN, "never released"),
        (Kind.CLIENTS, State.OPEN, "never closed"),
        (Kind.LOOPS, State.OPEN, "never closed"),
        (Kind.SOCKETS, State.OPEN, "still open"),
        (Kind.FDS, State.OPEN, "still open"),
        (Kind.RESPONSES, State.COLLECTED, "dropped while open and left to the garbage collector"),
        (Kind.TASKS, State.PENDING, "still pending"),
        (Kind.THREADS, State.RUNNING, "still running"),
    ],
)
def test_each_state_has_its_words(kind: Kind, state: State, words: str) -> None:
    finding = response(kind=kind, state=state, type="T", summary="s")
    assert headline(finding) == f"1 {noun(kind)} leaked: T s, {words}"


@pytest.mark.parametrize(
    "summary", ["not closed, with 1 open connection", "http://127.0.0.1:8000, checked out and never given back"]
)
def test_a_summary_that_says_that_it_is_open_is_not_repeated(summary: str) -> None:
    finding = response(kind=Kind.CLIENTS, type="httpx.Client", summary=summary)
    assert headline(finding) == f"1 HTTP client leaked: httpx.Client {summary}"


@pytest.mark.parametrize(
    "summary",
    [
        "dropped without being closed, with a connection open",
        "http://127.0.0.1:8000, dropped while checked out",
        "http://127.0.0.1:8000, checked out and never given back",
    ],
)
def test_a_summary_that_says_that_it_was_dropped_is_not_repeated(summary: str) -> None:
    finding = response(kind=Kind.CLIENTS, type="httpx.Client", summary=summary, state=State.COLLECTED)
    assert headline(finding) == f"1 HTTP client leaked: httpx.Client {summary}, left to the garbage collector"


def test_a_summary_that_names_its_type_is_not_given_it_again() -> None:
    assert (
        headline(thread(summary="threading.Thread poller")) == "1 thread leaked: threading.Thread poller, still running"
    )


def test_a_finding_without_any_text_is_named_by_its_kind() -> None:
    assert headline(thread(type="", summary="")) == "1 thread leaked: thread, still running"


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_noun_and_a_rule(kind: Kind) -> None:
    assert noun(kind, 2) == f"{noun(kind)}s"
    assert RULES[kind].endswith(".")


def test_one_line_ends_with_the_place() -> None:
    assert one_line(thread(), rootdir=ROOT) == (
        "1 thread leaked: threading.Thread poller-1, still running (app/poller.py:12 in start)"
    )


def test_one_line_tells_that_the_place_is_unknown() -> None:
    assert one_line(thread(created=None)).endswith(
        "still running (line unknown (made by C code, in another interpreter, or before the plugin was attached))"
    )


# -- sections ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        (Verdict.LEAKED, "It also leaks, which would fail it by itself:"),
        (Verdict.WARNED, "It leaks (a warning only):"),
        (Verdict.KNOWN, "Known leaks, recorded in the baseline:"),
        (Verdict.TOLERATED, "Tolerated leaks:"),
        (Verdict.IGNORED, "Ignored leaks:"),
    ],
)
def test_a_section_says_what_becomes_of_its_leaks(verdict: Verdict, title: str) -> None:
    text = section_text([thread(verdict=verdict)], owner="test_a.py::test_b", rootdir=ROOT)
    assert text.splitlines()[:2] == ["test_a.py::test_b", title]


def test_a_section_puts_the_worst_first() -> None:
    findings = [thread(verdict=Verdict.TOLERATED), response()]
    text = section_text(findings, owner="test_a.py::test_b", rootdir=ROOT)
    assert text.index("It also leaks") < text.index("Tolerated leaks")


# -- the summary of a run ----------------------------------------------------------------------------------------------


def test_one_cause_in_many_tests_is_shown_once() -> None:
    rows = [row(f"tests/test_a.py::test_{number}", response()) for number in range(31)]
    lines = grouped_text(run(*rows))
    assert lines == [
        "Leaks, worst first:",
        "",
        "tests/test_api.py:6 in test_get: 31 tests, 31 HTTP responses",
        "    httpx.Response GET http://127.0.0.1:8000/items?*** [200], still open",
        "    in: tests/test_a.py::test_0, tests/test_a.py::test_1, tests/test_a.py::test_2 and 28 more",
        "    fix: read the body to its end, or close the response",
        "",
    ]


def test_a_clean_run_has_no_summary_of_leaks() -> None:
    assert grouped_text(run(row("tests/test_a.py::test_b"))) == []


def test_the_line_of_code_is_shown_with_its_cause(tmp_path: Path) -> None:
    leak = response(created=site(file=str(write_source(tmp_path))))
    lines = grouped_text(run(row("tests/test_api.py::test_get", leak), rootdir=str(tmp_path)))
    assert "    response = client.send(request, stream=True)" in lines


def test_a_cause_without_a_hint_has_no_line_for_it() -> None:
    assert not [line for line in grouped_text(run(row("a.py::b", lost_socket()))) if "fix:" in line]


def test_tolerated_leaks_are_left_to_the_files() -> None:
    assert grouped_text(run(row("a.py::b", thread(verdict=Verdict.TOLERATED)))) == []


def test_warnings_and_known_leaks_stand_below_the_new_ones() -> None:
    rows = [
        row("a.py::known", thread(verdict=Verdict.KNOWN)),
        row("a.py::warned", thread(verdict=Verdict.WARNED)),
        row("a.py::leaked", thread()),
    ]
    titles = [line for line in grouped_text(run(*rows)) if line.endswith(":")]
    assert titles == [
        "Leaks, worst first:",
        "Leaks, as warnings only, worst first:",
        "Known leaks, recorded in the baseline:",
    ]


@pytest.mark.parametrize(
    ("number", "last"), [(20, ""), (21, "and 1 more; a report (--httpleak-report=PATH) has them all")]
)
def test_at_most_twenty_causes_are_shown(number: int, last: str) -> None:
    rows = [row(f"a.py::test_{each}", thread(created=site(each + 1))) for each in range(number)]
    lines = grouped_text(run(*rows))
    assert len([line for line in lines if line.startswith("tests/test_api.py")]) == 20
    assert (lines[-2] if last else lines[-1]) == last


def test_notes_are_grouped_with_their_hint() -> None:
    rows = [row("a.py::test_1", notes=(note(), note())), row("a.py::test_2", notes=(note(),))]
    assert notes_text(run(*rows)) == [
        "note: tests/test_api.py:3: this client waits for ever [no-timeout] (2 tests)",
        "  fix:     give it a timeout",
        "",
    ]


def test_a_note_without_place_and_hint_is_one_line() -> None:
    lines = notes_text(run(row("a.py::test_1", notes=(note(created=None, hint=""),))))
    assert lines == ["note: this client waits for ever [no-timeout] (1 test)", ""]


def test_a_run_without_notes_shows_none() -> None:
    assert notes_text(run(row("a.py::test_1"))) == []


# -- the closing line --------------------------------------------------------------------------------------------------


def test_the_closing_line_gives_the_figures_and_the_cost() -> None:
    rows = [row("a.py::b", thread()), row("a.py::c"), row("a.py::d", thread(verdict=Verdict.TOLERATED))]
    assert closing_line(run(*rows)) == (
        "httpleak: 3 checked, 1 leaked, 1 tolerated, 0 known; 0.004 s in the plugin (0.3 % of the run)"
    )


def test_the_cost_in_several_workers_is_a_share_of_what_all_of_them_took() -> None:
    results = Results("/")
    for _ in range(3):
        results.take_from_worker(Results("/").output(0.1, [], None, []))
    shared = run(row("a.py::b"))
    shared.processes = results.run(0.0, [], None, [], complete=True).processes
    assert closing_line(shared).endswith("0.004 s in the plugin (0.1 % of the run)")


def test_the_closing_line_names_warnings_and_fixtures_where_there_are_any() -> None:
    twice = [
        fixture_row(lost_socket()),
        fixture_row(lost_socket()),
        fixture_row(),
    ]  # two xdist workers, and a clean one
    shown = closing_line(run(row("a.py::b", thread(verdict=Verdict.WARNED)), fixtures=twice))
    assert shown.startswith("httpleak: 1 checked, 0 leaked, 1 warned, 0 tolerated, 0 known, 1 fixture leaked; ")


def test_the_share_is_left_out_where_the_length_of_the_run_is_unknown() -> None:
    assert closing_line(run(seconds=0.0)).endswith("; 0.004 s in the plugin")


def test_a_complete_run_closes_with_one_line() -> None:
    assert len(closing_lines(run())) == 1


def test_what_was_switched_off_or_cut_short_is_told_before_the_closing_line() -> None:
    cut = run(disabled=["the adapter for urllib3 was switched off for the rest of this run: TypeError: x"])
    cut.summary.complete = False
    first, second, last = closing_lines(cut)
    assert first == "httpleak: the adapter for urllib3 was switched off for the rest of this run: TypeError: x"
    assert second.startswith("httpleak: incomplete:")
    assert last == closing_line(cut)


# -- harm --------------------------------------------------------------------------------------------------------------


def test_no_text_for_a_terminal_holds_a_control_character_or_a_secret() -> None:
    evil = evil_run()
    findings = evil.tests[0].findings
    texts = [
        *grouped_text(evil),
        *notes_text(evil),
        *closing_lines(evil),
        *leak_text(findings, owner=EVIL, rootdir=ROOT).split("\n"),
        *section_text(findings, owner=EVIL, rootdir=ROOT).split("\n"),
        one_line(findings[0], rootdir=ROOT),
    ]
    assert all(text.isprintable() for text in texts)
    assert not [text for text in texts if "s3cret" in text or "hunter2" in text]
    assert not [text for text in texts if text.lstrip().startswith("::")]
