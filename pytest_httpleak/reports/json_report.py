"""The JSON report, schema 1: everything that a run found, for programs; its JSON Schema lies next to this file."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from pytest_httpleak.model.data import fixture_row_as_data, growth_as_data, pool_as_data, test_row_as_data
from pytest_httpleak.reports.places import relative_path, shortened
from pytest_httpleak.reports.text_safety import plain, redact_url

if TYPE_CHECKING:
    from pytest_httpleak.model.run import Run


def render(run: Run) -> str:
    """The whole report as ASCII text with a final line end; paths below the root are relative to it."""
    return json.dumps(as_data(run), indent=1) + "\n"


def schema() -> dict[str, Any]:
    """The published JSON Schema of the report."""
    text = resources.files(__package__).joinpath("schema-1.json").read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


def as_data(run: Run) -> dict[str, Any]:
    """The report before it is written out."""
    root = run.rootdir
    summary = run.summary
    data: dict[str, Any] = {
        "schema": 1,
        "plugin": "pytest-httpleak",
        "version": run.version,
        "python": run.python,
        "platform": run.platform,
        "summary": {
            "checked": summary.checked,
            "clean": summary.clean,
            "leaked": summary.leaked,
            "tolerated": summary.tolerated,
            "known": summary.known,
            "warned": summary.warned,
            "complete": summary.complete,
            "seconds_in_plugin": round(summary.seconds_in_plugin, 6),
        },
        "tests": [_row(test_row_as_data(row), root) for row in run.tests],
        "fixtures": [_row(fixture_row_as_data(row), root) for row in run.fixtures],
        "pools": [_pool(pool_as_data(pool), root) for pool in run.pools],
        "trend": [{"nodeid": point.nodeid, "open": dict(point.open)} for point in run.trend],
    }
    if run.growth:
        data["growth"] = [_growth(growth_as_data(growth), root) for growth in run.growth]
    if run.disabled:
        data["disabled"] = [_harmless(each) for each in run.disabled]
    return data


def _row(row: dict[str, Any], root: str) -> dict[str, Any]:
    # Test ids stay as they are: they have to match those of other reports, and JSON escapes them.
    if "file" in row:
        row["file"] = relative_path(row["file"], root)
    for finding in row["findings"]:
        _finding(finding, root)
    for note in row.get("notes", ()):
        note |= {"message": _harmless(note["message"]), "hint": _harmless(note["hint"])}
        _site(note["created"], root)
    return row


def _finding(finding: dict[str, Any], root: str) -> None:
    for key in ("summary", "held_by", "hint"):
        if finding[key] is not None:
            finding[key] = _harmless(finding[key])
    for held in finding["holds"]:
        held["summary"] = _harmless(shortened(held["summary"], root))
    for site in (finding["created"], *finding["stack"]):
        _site(site, root)


def _pool(pool: dict[str, Any], root: str) -> dict[str, Any]:
    pool["origin"] = _harmless(pool["origin"])
    _site(pool["created"], root)
    return pool


def _growth(growth: dict[str, Any], root: str) -> dict[str, Any]:
    for key in ("summary", "held_by"):
        if growth[key] is not None:
            growth[key] = _harmless(growth[key])
    _site(growth["created"], root)
    return growth


def _site(site: dict[str, Any] | None, root: str) -> None:
    if site is not None:
        site["file"] = relative_path(site["file"], root)


def _harmless(text: str) -> str:
    return redact_url(plain(text))
