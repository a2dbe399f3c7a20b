"""The baseline: what is known, what is gone, and a file that is never lost by accident."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from report_samples import EVIL, ROOT, fixture_row, lost_socket, response, row, run, site, thread

from pytest_httpleak.model.findings import digest, owner_without_parameters
from pytest_httpleak.model.kinds import Kind, Verdict
from pytest_httpleak.reports.baseline import Baseline, BaselineError
from pytest_httpleak.reports.judged import Judged

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpleak.model.run import Run

GET, OTHER = "tests/test_api.py::test_get", "tests/test_api.py::test_other"
CLIENT = "fixture 'client' (session scope, tests/conftest.py)"

LEAK = {
    "fingerprint": "0123456789abcdef",
    "kind": "responses",
    "library": "httpx",
    "file": "tests/test_api.py",
    "function": "test_get",
    "owner": "tests/test_api.py::test_get",
    "text": "httpx.Response GET http://127.0.0.1:8000/items?*** [200]",
    "lines": 1,
}


def leaky(**changes: Any) -> Run:
    return run(row("tests/test_api.py::test_get", response(**changes)))


def judged(*collected: str, **changes: Any) -> Judged:
    """A whole run of these tests, all of which were judged at their end."""
    owners = {owner_without_parameters(nodeid) for nodeid in collected}
    whole = Judged(
        tests={owner: {each for each in collected if owner_without_parameters(each) == owner} for owner in owners},
        finished=collected,
        fixtures=(),
        kinds=tuple(Kind),
        files={nodeid.partition("::")[0] for nodeid in collected},
        removed=(),
        is_whole=True,
    )
    return replace(whole, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "baseline.json"


@pytest.fixture
def baseline(path: Path) -> Baseline:
    path.write_text(Baseline().render(leaky(), judged()), encoding="utf-8")
    return Baseline.load(path)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_file_that_does_not_exist_is_an_empty_baseline(path: Path) -> None:
    assert Baseline.load(path) == Baseline()


def test_what_was_written_is_read_back(baseline: Baseline, path: Path) -> None:
    assert json.loads(path.read_text("utf-8")) == {"httpleak-baseline": 1, "leaks": [LEAK]}
    assert baseline.knows("0123456789abcdef")
    assert not baseline.knows("fedcba9876543210")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('<<<<<<< ours\n{"httpleak-baseline": 1}\n', "it has merge conflict markers"),
        ("[]", "is no baseline: it has no 'httpleak-baseline'"),
        ('{"results": []}', "is no baseline: it has no 'httpleak-baseline'"),
        ('{"httpleak-baseline": 2, "leaks": []}', "has version 2, but this plugin reads version 1"),
        ('{"httpleak-baseline": "1", "leaks": []}', "has version '1'"),
        ('{"httpleak-baseline": true, "leaks": []}', "has version True"),
        ('{"httpleak-baseline": 1}', "has no list of 'leaks'"),
        ('{"httpleak-baseline": 1, "leaks": {}}', "has no list of 'leaks'"),
        ('{"httpleak-baseline": 1, "leaks": ["x"]}', "has no object as leak 1"),
        (
            json.dumps({"httpleak-baseline": 1, "leaks": [LEAK, {"fingerprint": "x"}]}),
            "has no text as 'kind' of leak 2",
        ),
        (json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"owner": 1}]}), "has no text as 'owner' of leak 1"),
        (json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"lines": "1"}]}), "has no number as 'lines' of leak 1"),
        (json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"lines": True}]}), "has no number as 'lines' of leak 1"),
        (json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"lines": -1}]}), "has no number as 'lines' of leak 1"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(path: Path, content: str, reason: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BaselineError) as refused:
        Baseline.load(path)
    assert str(refused.value).startswith(f"{path}: the baseline ")
    assert reason in str(refused.value)
    assert path.read_text("utf-8") == content


def test_a_file_that_is_not_text_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BaselineError, match="cannot be read"):
        Baseline.load(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read"):
        Baseline.load(tmp_path)


def test_fields_that_a_later_version_added_are_passed_over(path: Path) -> None:
    path.write_text(
        json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"since": "x"}], "note": "x"}), encoding="utf-8"
    )
    assert Baseline.load(path).knows("0123456789abcdef")


@pytest.mark.parametrize(
    ("owner", "recorded", "fingerprint"),
    [
        ("a[x]/test_a.py::test_a", "a", digest("fds", "os", "", "", "a[x]/test_a.py::test_a")),
        ("a/test_a.py::test_a", "a/test_a.py::test_a", digest("fds", "os", "", "", "a/test_a.py::test_a")),
    ],
)
def test_an_early_entry_of_a_test_below_a_bracket_is_known_by_its_whole_name(
    path: Path, owner: str, recorded: str, fingerprint: str
) -> None:
    entry = {"kind": "fds", "library": "os", "file": "", "function": "", "owner": owner, "text": "x"}
    early = entry | {"fingerprint": digest("fds", "os", "", "", recorded)}
    path.write_text(json.dumps({"httpleak-baseline": 1, "leaks": [early]}), encoding="utf-8")
    assert Baseline.load(path).knows(fingerprint)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("12 connections open at once, and the limit is 10", "0123456789abcdef-peak"),
        ("2 clients made, and the limit is 1", "0123456789abcdef-peak"),
        ("httpx.Client never closed", "0123456789abcdef"),
    ],
)
def test_an_early_entry_of_a_limit_knows_no_leak(path: Path, text: str, known: str) -> None:
    path.write_text(json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"text": text}]}), encoding="utf-8")
    early = Baseline.load(path)
    assert list(early.entries) == [known]
    path.write_text(json.dumps({"httpleak-baseline": 1, "leaks": [LEAK | {"text": text, "fingerprint": known}]}))
    assert Baseline.load(path) == early


def test_an_early_entry_knows_any_number_of_lines(path: Path) -> None:
    early = {name: value for name, value in LEAK.items() if name != "lines"}
    path.write_text(json.dumps({"httpleak-baseline": 1, "leaks": [early]}), encoding="utf-8")
    assert Baseline.load(path).lines_of("0123456789abcdef") > 500


# -- a run beside it ---------------------------------------------------------------------------------------------------


def test_a_leak_that_is_still_there_is_seen_with_its_count(baseline: Baseline) -> None:
    comparison = baseline.compare(leaky(count=3, verdict=Verdict.KNOWN), judged(GET))
    assert [(entry.fingerprint, entry.count) for entry in comparison.seen] == [("0123456789abcdef", 3)]
    assert (comparison.gone, comparison.new, comparison.untested) == ((), (), ())


def test_the_same_leak_under_other_parameters_is_one_entry(baseline: Baseline) -> None:
    rows = [row(f"tests/test_api.py::test_get[{name}]", response()) for name in "ab"]
    (entry,) = Baseline().compare(run(*rows), judged()).new
    assert (entry.owner, entry.count) == ("tests/test_api.py::test_get", 2)
    assert baseline.compare(run(*rows), judged()).seen == (replace(entry, count=2),)


def test_the_lines_of_a_function_that_leak_in_one_test_are_counted() -> None:
    lines = [response(created=site(number)) for number in (6, 7, 8)]
    one, two = (
        row("tests/test_api.py::test_get[1]", lines[0]),
        row("tests/test_api.py::test_get[2]", *lines[1:], lines[1]),
    )
    (entry,) = Baseline().compare(run(one, two), judged()).new
    assert (entry.lines, entry.count) == (2, 4)


def test_a_leak_that_was_mended_is_gone(baseline: Baseline) -> None:
    (entry,) = baseline.compare(run(row(GET)), judged(GET)).gone
    assert str(entry) == (
        "responses httpx.Response GET http://127.0.0.1:8000/items?*** [200] (tests/test_api.py in test_get), "
        "left by tests/test_api.py::test_get [0123456789abcdef]"
    )


@pytest.mark.parametrize(
    ("extent", "is_gone"),
    [
        (judged(GET), True),
        (judged(f"{GET}[1]", f"{GET}[2]"), True),
        (judged(f"{GET}[1]", f"{GET}[2]", finished=[f"{GET}[1]"]), False),
        (judged(GET, finished=()), False),
        (judged(GET, kinds=["fds"]), False),
        (judged(GET, is_whole=False), True),
        (judged(OTHER), True),
        (judged(OTHER, is_whole=False), False),
        (judged("tests/test_b.py::test_1"), False),
        (judged("tests/test_b.py::test_1", removed=["tests/test_api.py"]), True),
        (judged("tests/test_b.py::test_1", removed=["tests/test_api.py"], is_whole=False), False),
        (judged(), False),
    ],
    ids=[
        "clean",
        "clean with all parameters",
        "one of its parameters not judged",
        "not judged",
        "another kind watched",
        "clean in a part of the suite",
        "removed from its file",
        "not in that part of its file",
        "its file not collected",
        "its file removed",
        "its file removed in a part of the suite",
        "nothing collected",
    ],
)
def test_what_was_not_seen_is_gone_only_where_its_test_was_judged_or_removed(
    baseline: Baseline, extent: Judged, is_gone: bool
) -> None:
    comparison = baseline.compare(run(), extent)
    assert (len(comparison.gone), len(comparison.untested)) == ((1, 0) if is_gone else (0, 1))


@pytest.mark.parametrize(
    ("extent", "is_gone"),
    [
        (judged(fixtures=[CLIENT]), True),
        (judged(fixtures=[CLIENT], is_whole=False), False),
        (judged(GET, tests={CLIENT: [GET]}, fixtures=[CLIENT]), True),
        (judged(GET, tests={CLIENT: [GET]}, fixtures=[CLIENT], finished=()), False),
        (judged(GET, tests={CLIENT: [GET]}), False),
        (judged(GET), False),
        (judged(GET, removed=["tests/conftest.py"]), True),
    ],
    ids=[
        "clean",
        "clean in a part of the suite",
        "clean with its test",
        "its test not judged",
        "itself not judged",
        "not asked for",
        "its file removed",
    ],
)
def test_what_a_fixture_left_is_gone_only_where_it_was_judged_with_all_its_tests(extent: Judged, is_gone: bool) -> None:
    (entry,) = Baseline().compare(run(fixtures=[fixture_row(lost_socket())]), judged()).new
    comparison = Baseline({entry.fingerprint: entry}).compare(run(), extent)
    assert (len(comparison.gone), len(comparison.untested)) == ((1, 0) if is_gone else (0, 1))


@pytest.mark.parametrize(
    ("recorded", "extent", "kept"),
    [(3, judged(GET), 1), (3, judged(GET, finished=()), 3), (0, judged(GET), 1), (0, judged(GET, finished=()), 0)],
)
def test_fewer_lines_are_recorded_only_where_the_test_was_judged(
    baseline: Baseline, recorded: int, extent: Judged, kept: int
) -> None:
    (known,) = baseline.entries.values()
    (entry,) = Baseline({known.fingerprint: replace(known, lines=recorded)}).compare(leaky(), extent).seen
    assert entry.lines == kept


@pytest.mark.parametrize("verdict", [Verdict.TOLERATED, Verdict.IGNORED])
def test_what_is_tolerated_or_ignored_is_not_recorded(verdict: Verdict) -> None:
    assert Baseline().compare(leaky(verdict=verdict), judged()).new == ()


@pytest.mark.parametrize("verdict", [Verdict.LEAKED, Verdict.WARNED, Verdict.KNOWN])
def test_what_leaks_is_recorded(verdict: Verdict) -> None:
    assert len(Baseline().compare(leaky(verdict=verdict), judged()).new) == 1


def test_a_fixture_is_recorded_without_its_line() -> None:
    (entry,) = Baseline().compare(run(fixtures=[fixture_row(lost_socket())]), judged()).new
    assert entry.owner == "fixture 'client' (session scope, tests/conftest.py)"
    assert str(entry).startswith("sockets socket.socket 127.0.0.1:53122 -> 127.0.0.1:8000 (line unknown), left by")


# -- writing it anew ---------------------------------------------------------------------------------------------------


def test_the_order_of_tests_makes_no_difference() -> None:
    rows = [
        row("tests/test_b.py::test_1", thread(fingerprint="b" * 16)),
        row("tests/test_a.py::test_2", response()),
        row("tests/test_a.py::test_1", lost_socket()),
    ]
    assert Baseline().render(run(*rows), judged()) == Baseline().render(run(*reversed(rows)), judged())


def test_a_moved_line_makes_no_difference() -> None:
    assert Baseline().render(leaky(), judged()) == Baseline().render(leaky(created=site(60)), judged())


def test_another_port_makes_no_difference_to_an_entry_that_is_seen_again(baseline: Baseline, path: Path) -> None:
    again = leaky(summary="GET http://127.0.0.1:9999/items?*** [200]")
    assert baseline.render(again, judged(GET)) == path.read_text("utf-8")


def test_an_entry_stands_on_lines_of_its_own(path: Path, baseline: Baseline) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert lines[:4] == ["{", '  "httpleak-baseline": 1,', '  "leaks": [', "    {"]
    assert lines[4] == '      "fingerprint": "0123456789abcdef",'


def test_a_mended_leak_is_dropped(baseline: Baseline) -> None:
    assert json.loads(baseline.render(run(row(GET)), judged(GET)))["leaks"] == []


def test_a_partial_run_keeps_what_it_did_not_test(baseline: Baseline) -> None:
    text = baseline.render(
        run(row("tests/test_b.py::test_1", thread())), judged("tests/test_b.py::test_1", is_whole=False)
    )
    assert [leak["fingerprint"] for leak in json.loads(text)["leaks"]] == ["fedcba9876543210", "0123456789abcdef"]


def test_harmful_text_is_written_harmless(path: Path) -> None:
    path.write_text(
        Baseline().render(leaky(summary=EVIL + " http://a:hunter2@h/?s3cret=s3cret"), judged()), encoding="utf-8"
    )
    text = path.read_text("utf-8")
    assert text.isascii()
    assert "s3cret" not in text
    assert "hunter2" not in text
    (entry,) = Baseline.load(path).entries.values()
    assert entry.text.isprintable()


@pytest.mark.parametrize(
    ("owner", "stable"),
    [
        ("tests/test_a.py::test_b", "tests/test_a.py::test_b"),
        ("tests/test_a.py::test_b[x-1]", "tests/test_a.py::test_b"),
        ("tests/test_a.py::TestC::test_b[x::y[0]]", "tests/test_a.py::TestC::test_b"),
        ("tests/[odd]/test_a.py::test_b[1]", "tests/[odd]/test_a.py::test_b"),
        ("test_a.py", "test_a.py"),
    ],
)
def test_the_parameters_of_a_test_are_no_part_of_its_name(owner: str, stable: str) -> None:
    assert owner_without_parameters(owner) == stable


def test_the_root_is_not_written() -> None:
    assert ROOT not in Baseline().render(leaky(), judged())
