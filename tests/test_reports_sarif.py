"""The SARIF report, against its published schema: `data` has the copy of the npm package @microsoft/jest-sarif."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from report_samples import (
    evil_run,
    fixture_row,
    full_run,
    lost_socket,
    peak,
    response,
    row,
    run,
    site,
    thread,
    write_source,
)

from pytest_httpleak.model.kinds import Kind, Verdict
from pytest_httpleak.reports import sarif_report

SCHEMA = json.loads((Path(__file__).parent / "data" / "sarif-2.1.0-rtm.5.json").read_text("utf-8"))


def strings(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [each for part in inner for each in strings(part)]


def log_of(*tests: Any, **changes: Any) -> Any:
    return json.loads(sarif_report.render(run(*tests, **changes)))["runs"][0]


def result_of(*tests: Any, **changes: Any) -> Any:
    (result,) = log_of(*tests, **changes)["results"]
    return result


@pytest.mark.parametrize("report", [run(), full_run(), evil_run()], ids=["empty", "full", "evil"])
def test_every_log_fits_the_schema(report: Any) -> None:
    jsonschema.validate(json.loads(sarif_report.render(report)), SCHEMA)


def test_the_schema_refuses_a_log_with_an_unknown_level() -> None:
    log = json.loads(sarif_report.render(full_run()))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, SCHEMA)


def test_there_is_one_rule_for_each_kind() -> None:
    rules = log_of()["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == {f"httpleak/{kind.value}" for kind in Kind}
    assert rules[0]["name"] == "HTTPResponseLeak"


@pytest.mark.parametrize("leak", [response(), thread(), lost_socket()])
def test_a_result_points_to_its_rule(leak: Any) -> None:
    log = log_of(row("a.py::b", leak))
    result = log["results"][0]
    assert (
        log["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == f"httpleak/{leak.kind.value}"
    )


def test_a_result_stands_at_the_creating_line(tmp_path: Path) -> None:
    leak = response(created=site(file=str(write_source(tmp_path))))
    result = result_of(row("tests/test_api.py::test_get", leak), rootdir=str(tmp_path))
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "tests/test_api.py", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 6, "snippet": {"text": "response = client.send(request, stream=True)"}},
    }
    assert result["partialFingerprints"] == {"httpleak/v1": "0123456789abcdef"}


def test_callers_are_related_locations() -> None:
    (related,) = result_of(row("a.py::b", response()))["relatedLocations"]
    assert related["physicalLocation"]["artifactLocation"]["uri"] == "tests/steps.py"


def test_a_leak_without_a_line_stands_at_its_test_file() -> None:
    result = result_of(row("tests/sub dir/test_a.py::test_b[1]", lost_socket()))
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "tests/sub%20dir/test_a.py", "uriBaseId": "SRCROOT"},
                "region": {"startLine": 1},
            }
        }
    ]


def test_a_leak_without_a_line_stands_at_its_fixture() -> None:
    result = result_of(fixtures=[fixture_row(lost_socket())])
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "tests/conftest.py"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}


def test_a_file_outside_the_root_has_a_whole_uri() -> None:
    result = result_of(row("a.py::b", response(created=site(file="/opt/a b.py"))))
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/a%20b.py"}


def test_one_fingerprint_is_one_result_that_counts() -> None:
    result = result_of(row("a.py::b[1]", response(count=2)), row("a.py::b[2]", response()))
    assert result["occurrenceCount"] == 3


def test_without_a_fingerprint_each_owner_has_its_result() -> None:
    leak = lost_socket(fingerprint="")
    results = log_of(row("a.py::b", leak), row("a.py::c", leak))["results"]
    assert len(results) == 2
    assert "partialFingerprints" not in results[0]


@pytest.mark.parametrize(
    ("verdict", "level", "suppression"),
    [
        (Verdict.LEAKED, "error", None),
        (Verdict.WARNED, "warning", None),
        (Verdict.KNOWN, "note", "external"),
        (Verdict.TOLERATED, "note", "inSource"),
        (Verdict.IGNORED, "note", "inSource"),
    ],
)
def test_the_level_follows_the_verdict(verdict: Verdict, level: str, suppression: str | None) -> None:
    result = result_of(row("a.py::b", thread(verdict=verdict)))
    assert result["level"] == level
    assert [each["kind"] for each in result.get("suppressions", ())] == ([suppression] if suppression else [])


def test_the_message_tells_who_and_how_to_mend_it() -> None:
    text = result_of(row("a.py::b", response()))["message"]["text"]
    assert text.splitlines() == [
        "1 HTTP response leaked: httpx.Response GET http://127.0.0.1:8000/items?*** [200], still open",
        "Left by a.py::b.",
        "Held by: module attribute app.api._last.",
        "Fix: read the body to its end, or close the response.",
    ]


def test_a_message_without_holder_and_hint_is_short() -> None:
    assert len(result_of(row("a.py::b", peak()))["message"]["text"].splitlines()) == 2


def test_an_incomplete_run_says_what_was_switched_off() -> None:
    cut = run(disabled=["adapter x was switched off"])
    cut.summary.complete = False
    (invocation,) = json.loads(sarif_report.render(cut))["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "adapter x was switched off"


def test_no_secret_and_no_character_beyond_ascii_is_written() -> None:
    text = sarif_report.render(evil_run())
    assert text.isascii()
    assert "s3cret" not in text
    assert "hunter2" not in text
    assert all(line.isprintable() for each in strings(json.loads(text)) for line in each.split("\n"))
