"""The SARIF 2.1.0 report, for code scanning: one rule for each kind, one result for each fingerprint."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pytest_httpleak.model.kinds import Kind, Verdict
from pytest_httpleak.reports.causes import each_finding
from pytest_httpleak.reports.places import Owner, callers, code_line, is_below, place, relative_path
from pytest_httpleak.reports.text_safety import plain, safe, safe_name
from pytest_httpleak.reports.wording import RULES, headline, noun

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Finding, Site
    from pytest_httpleak.model.run import Run

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT: Final = "SRCROOT"
_RULES: Final = list(Kind)

_LEVELS: Final = {
    Verdict.LEAKED: "error",
    Verdict.WARNED: "warning",
    Verdict.KNOWN: "note",
    Verdict.TOLERATED: "note",
    Verdict.IGNORED: "note",
}
_SUPPRESSIONS: Final = {
    Verdict.KNOWN: {"kind": "external", "justification": "recorded in the baseline"},
    Verdict.TOLERATED: {"kind": "inSource", "justification": "tolerated by a marker or an option"},
    Verdict.IGNORED: {"kind": "inSource", "justification": "ignored by a marker or an option"},
}


def render(run: Run) -> str:
    """The whole log as ASCII text with a final line end."""
    driver = {
        "name": "pytest-httpleak",
        "version": plain(run.version),
        "rules": [_rule(kind) for kind in _RULES],
    }
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {_ROOT: {"description": {"text": "The root directory of the pytest run"}}},
                "invocations": [_invocation(run)],
                "results": _results(run),
            }
        ],
    }
    return json.dumps(log, indent=1) + "\n"


def _rule(kind: Kind) -> dict[str, Any]:
    return {
        "id": f"httpleak/{kind.value}",
        "name": f"{noun(kind).title().replace(' ', '').replace('Http', 'HTTP')}Leak",
        "shortDescription": {"text": f"Leaked {noun(kind)}"},
        "fullDescription": {"text": RULES[kind]},
        "defaultConfiguration": {"level": "error"},
    }


def _invocation(run: Run) -> dict[str, Any]:
    invocation: dict[str, Any] = {"executionSuccessful": run.summary.complete}
    if run.disabled:
        invocation["toolExecutionNotifications"] = [
            {"level": "warning", "message": {"text": safe(each)}} for each in run.disabled
        ]
    return invocation


def _results(run: Run) -> list[dict[str, Any]]:
    results: dict[tuple[object, ...], dict[str, Any]] = {}
    for owner, finding in each_finding(run):
        key = (finding.verdict, finding.fingerprint or (finding.kind, finding.created, owner))
        if key in results:
            results[key]["occurrenceCount"] += finding.count
        else:
            results[key] = _result(finding, owner, run.rootdir)
    return list(results.values())


def _result(finding: Finding, owner: Owner, rootdir: str) -> dict[str, Any]:
    lines = [headline(finding), f"Left by {safe_name(owner.name)}."]
    if finding.held_by:
        lines.append(f"Held by: {safe(finding.held_by)}.")
    if finding.hint:
        lines.append(f"Fix: {safe(finding.hint).rstrip('.')}.")
    result: dict[str, Any] = {
        "ruleId": f"httpleak/{finding.kind.value}",
        "ruleIndex": _RULES.index(finding.kind),
        "level": _LEVELS[finding.verdict],
        "message": {"text": "\n".join(lines)},
        "locations": [_location(finding.created, owner, rootdir)],
        "occurrenceCount": finding.count,
    }
    if finding.fingerprint:
        result["partialFingerprints"] = {"httpleak/v1": finding.fingerprint}
    related = [_physical(site.file, site.line, rootdir) for site in callers(finding, rootdir)]
    if related:
        result["relatedLocations"] = [
            {"id": number, "message": {"text": "called from here"}, "physicalLocation": location}
            for number, location in enumerate(related, 1)
        ]
    if finding.verdict in _SUPPRESSIONS:
        result["suppressions"] = [_SUPPRESSIONS[finding.verdict]]
    return result


def _location(created: Site | None, owner: Owner, rootdir: str) -> dict[str, Any]:
    if created is None:
        return {"physicalLocation": _physical(owner.file, max(owner.line, 1), rootdir)}
    physical = _physical(created.file, created.line, rootdir)
    code = code_line(created, rootdir)
    if code:
        physical["region"]["snippet"] = {"text": code}
    return {
        "physicalLocation": physical,
        "logicalLocations": [{"fullyQualifiedName": place(created, rootdir), "kind": "function"}],
    }


def _physical(file: str, line: int, rootdir: str) -> dict[str, Any]:
    artifact = (
        {"uri": _uri(relative_path(file, rootdir)), "uriBaseId": _ROOT}
        if is_below(file, rootdir)
        else {"uri": f"file://{_uri('/' + PurePath(file).as_posix().lstrip('/'))}"}
    )
    return {"artifactLocation": artifact, "region": {"startLine": line}}


def _uri(path: str) -> str:
    return quote(path.replace("\\", "/"), errors="surrogateescape")
