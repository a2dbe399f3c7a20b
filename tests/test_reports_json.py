"""The JSON report holds what section 8 of the contract promises."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from inner import Inner
from report_samples import (
    ROOT,
    evil_run,
    fixture_row,
    full_run,
    lost_socket,
    note,
    pool,
    response,
    row,
    run,
    site,
    trend,
)

from pytest_httpleak.model.data import finding_from_data
from pytest_httpleak.model.data import test_row_from_data as row_from_data
from pytest_httpleak.reports import json_report


def rendered(*tests: Any, **changes: Any) -> Any:
    return json.loads(json_report.render(run(*tests, **changes)))


@pytest.mark.parametrize("report", [run(), full_run(), evil_run()], ids=["empty", "full", "evil"])
def test_every_report_fits_the_published_schema(report: Any) -> None:
    schema = json_report.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json_report.render(report)), schema)


@pytest.mark.parametrize(
    ("where", "key"), [((), "schema"), (("tests", 0), "outcome"), (("tests", 0, "findings", 0), "verdict")]
)
def test_the_schema_refuses_a_report_that_lacks_something(where: tuple[Any, ...], key: str) -> None:
    report = json.loads(json_report.render(full_run()))
    inner = report
    for step in where:
        inner = inner[step]
    del inner[key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, json_report.schema())


def test_a_report_has_these_fields_and_no_others() -> None:
    report = rendered(row("a.py::b", response()), fixtures=[fixture_row()])
    assert list(report) == [
        "schema", "plugin", "version", "python", "platform", "summary", "tests", "fixtures", "pools", "trend",
    ]  # fmt: skip
    assert list(report["tests"][0]) == ["nodeid", "outcome", "findings"]
    assert list(report["fixtures"][0]) == ["name", "scope", "baseid", "file", "line", "outcome", "findings"]
    assert report["summary"] == {
        "checked": 1, "clean": 0, "leaked": 1, "tolerated": 0, "known": 0, "warned": 0, "complete": True,
        "seconds_in_plugin": 0.0042,
    }  # fmt: skip


def test_a_finding_is_written_whole() -> None:
    report = rendered(row("tests/test_api.py::test_get", response(count=2)))
    assert report["tests"][0]["findings"] == [
        {
            "kind": "responses",
            "library": "httpx",
            "type": "httpx.Response",
            "state": "open",
            "summary": "GET http://127.0.0.1:8000/items?*** [200]",
            "created": {"file": "tests/test_api.py", "line": 6, "function": "test_get"},
            "stack": [
                {"file": "/usr/lib/python3/site-packages/httpx/_client.py", "line": 901, "function": "send"},
                {"file": "tests/test_api.py", "line": 6, "function": "test_get"},
                {"file": "tests/steps.py", "line": 30, "function": "wrapper"},
            ],
            "count": 2,
            "holds": [
                {"kind": "connections", "summary": "HTTP/1.1 connection to 127.0.0.1:8000"},
                {"kind": "sockets", "summary": "127.0.0.1:53122 -> 127.0.0.1:8000", "fd": 12},
            ],
            "held_by": "module attribute app.api._last",
            "hint": "read the body to its end, or close the response",
            "verdict": "leaked",
            "fingerprint": "0123456789abcdef",
        }
    ]


def test_an_unknown_line_is_null() -> None:
    assert rendered(row("a.py::b", lost_socket()))["tests"][0]["findings"][0]["created"] is None


def test_a_finding_can_be_read_back() -> None:
    report = rendered(row("a.py::b", response(created=site(file="/opt/a.py"), stack=())))
    assert finding_from_data(report["tests"][0]["findings"][0]) == response(created=site(file="/opt/a.py"), stack=())


def test_the_file_of_a_fixture_is_relative_to_the_root() -> None:
    assert rendered(fixtures=[fixture_row()])["fixtures"][0]["file"] == "tests/conftest.py"


def test_pools_notes_and_trend_are_written() -> None:
    report = rendered(row("a.py::b", notes=(note(),), attempts=3, repeated=2), pools=[pool()], trend=trend(1))
    assert report["pools"][0]["reuse"] == 4.0
    assert report["pools"][0]["created"]["file"] == "tests/conftest.py"
    assert report["tests"][0]["notes"][0]["created"]["file"] == "tests/test_api.py"
    assert (report["tests"][0]["attempts"], report["tests"][0]["repeated"]) == (3, 2)
    assert report["trend"] == [
        {"nodeid": "tests/test_api.py::test_0", "open": {"fds": 9, "sockets": 0, "threads": 1, "tasks": 0}}
    ]


def test_a_test_that_did_not_come_to_its_end_is_marked_and_can_be_read_back() -> None:
    early, whole = rendered(row("a.py::b", finished=False), row("a.py::c"))["tests"]
    assert early["finished"] is False
    assert "finished" not in whole
    assert [row_from_data(each).finished for each in (early, whole)] == [False, True]


def test_what_was_switched_off_is_written_only_where_there_is_something() -> None:
    assert rendered(disabled=["adapter x: http://h/?a=s3cret"])["disabled"] == ["adapter x: http://h/?***"]
    assert "disabled" not in rendered()


def test_a_test_id_is_written_as_it_is() -> None:
    nodeid = "tests/test_a.py::test_b[\x1b-http://h/?a=b]"
    text = json_report.render(run(row(nodeid)))
    assert json.loads(text)["tests"][0]["nodeid"] == nodeid
    assert "\x1b" not in text


def test_no_secret_and_no_character_beyond_ascii_is_written() -> None:
    text = json_report.render(evil_run())
    assert text.isascii()
    assert "s3cret" not in text
    assert "hunter2" not in text


def test_the_root_itself_is_not_written() -> None:
    assert ROOT not in json_report.render(full_run())


UNLIKE = """
import asyncio, os, socket, threading

KEPT = []
LOOP = asyncio.new_event_loop()


def test_first():
    pass


def test_second():
    KEPT.extend([os.pipe(), socket.socket(), socket.socket(), socket.socket()])
    KEPT.extend(LOOP.create_task(asyncio.sleep(60)) for _ in range(4))
    KEPT.extend(threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(2))
    KEPT[-1].start(), KEPT[-2].start()
"""


def test_the_trend_has_what_was_open_of_each_kind_after_each_test(inner: Inner) -> None:
    inner.write(test_a=UNLIKE)
    inner.run()
    first, second = inner.report["trend"]
    assert (first["nodeid"], second["nodeid"]) == ("test_a.py::test_first", "test_a.py::test_second")
    grown = {kind: count - first["open"][kind] for kind, count in second["open"].items()}
    assert grown == {"fds": 5, "sockets": 3, "threads": 2, "tasks": 4}
