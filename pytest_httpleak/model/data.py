"""Findings and rows as plain data and back: for files, and for the way from an xdist worker to its controller."""

from __future__ import annotations

from typing import Any

from pytest_httpleak.model.findings import Finding, Held, Site
from pytest_httpleak.model.kinds import Kind, Outcome, State, Verdict
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.model.rows import AuditNote, FixtureRow, Growth, TestRow


def site_as_data(site: Site | None) -> dict[str, Any] | None:
    """A site as JSON-ready data."""
    return None if site is None else {"file": site.file, "line": site.line, "function": site.function}


def site_from_data(data: dict[str, Any] | None) -> Site | None:
    """The reverse of `site_as_data`."""
    return None if data is None else Site(data["file"], data["line"], data["function"])


def finding_as_data(finding: Finding) -> dict[str, Any]:
    """A finding in the form of the JSON report, schema 1."""
    return {
        "kind": finding.kind.value,
        "library": finding.library,
        "type": finding.type,
        "state": finding.state.value,
        "summary": finding.summary,
        "created": site_as_data(finding.created),
        "stack": [site_as_data(site) for site in finding.stack],
        "count": finding.count,
        "holds": [
            {"kind": held.kind.value, "summary": held.summary} | ({} if held.fd is None else {"fd": held.fd})
            for held in finding.holds
        ],
        "held_by": finding.held_by,
        "hint": finding.hint,
        "verdict": finding.verdict.value,
        "fingerprint": finding.fingerprint,
    }


def finding_from_data(data: dict[str, Any]) -> Finding:
    """The reverse of `finding_as_data`."""
    return Finding(
        kind=Kind(data["kind"]),
        library=data["library"],
        type=data["type"],
        state=State(data["state"]),
        summary=data["summary"],
        created=site_from_data(data["created"]),
        stack=tuple(site for site in map(site_from_data, data["stack"]) if site is not None),
        count=data["count"],
        holds=tuple(Held(Kind(held["kind"]), held["summary"], held.get("fd")) for held in data["holds"]),
        held_by=data["held_by"],
        hint=data["hint"],
        verdict=Verdict(data["verdict"]),
        fingerprint=data["fingerprint"],
    )


def note_as_data(note: AuditNote) -> dict[str, Any]:
    """An audit note as JSON-ready data."""
    return {
        "name": note.name,
        "message": note.message,
        "hint": note.hint,
        "created": site_as_data(note.created),
        "count": note.count,
    }


def note_from_data(data: dict[str, Any]) -> AuditNote:
    """The reverse of `note_as_data`."""
    return AuditNote(data["name"], data["message"], data["hint"], site_from_data(data["created"]), data["count"])


def test_row_as_data(row: TestRow) -> dict[str, Any]:
    """A test's row in the form of the JSON report, schema 1."""
    data: dict[str, Any] = {
        "nodeid": row.nodeid,
        "outcome": row.outcome.value,
        "findings": [finding_as_data(finding) for finding in row.findings],
    }
    if row.notes:
        data["notes"] = [note_as_data(note) for note in row.notes]
    if row.attempts > 1:
        data |= {"attempts": row.attempts, "repeated": row.repeated}
    if not row.finished:
        data["finished"] = False
    return data


def test_row_from_data(data: dict[str, Any]) -> TestRow:
    """The reverse of `test_row_as_data`."""
    return TestRow(
        nodeid=data["nodeid"],
        outcome=Outcome(data["outcome"]),
        findings=tuple(finding_from_data(finding) for finding in data["findings"]),
        notes=tuple(note_from_data(note) for note in data.get("notes", ())),
        attempts=data.get("attempts", 1),
        repeated=data.get("repeated", 1),
        finished=data.get("finished", True),
    )


def fixture_row_as_data(row: FixtureRow) -> dict[str, Any]:
    """A fixture's row in the form of the JSON report, schema 1."""
    return {
        "name": row.name,
        "scope": row.scope,
        "baseid": row.baseid,
        "file": row.file,
        "line": row.line,
        "outcome": row.outcome.value,
        "findings": [finding_as_data(finding) for finding in row.findings],
    }


def fixture_row_from_data(data: dict[str, Any]) -> FixtureRow:
    """The reverse of `fixture_row_as_data`."""
    return FixtureRow(
        name=data["name"],
        scope=data["scope"],
        baseid=data["baseid"],
        file=data["file"],
        line=data["line"],
        outcome=Outcome(data["outcome"]),
        findings=tuple(finding_from_data(finding) for finding in data["findings"]),
    )


def pool_as_data(pool: PoolState) -> dict[str, Any]:
    """A pool's figures as JSON-ready data."""
    names = (
        "library origin idle active expired connecting waiting max_connections max_keepalive per_host "
        "connections_made requests overflow owner"
    ).split()
    return {name: getattr(pool, name) for name in names} | {"reuse": pool.reuse, "created": site_as_data(pool.created)}


def pool_from_data(data: dict[str, Any]) -> PoolState:
    """The reverse of `pool_as_data`."""
    plain = {name: value for name, value in data.items() if name not in ("reuse", "created")}
    return PoolState(**plain, created=site_from_data(data["created"]))


def growth_as_data(growth: Growth) -> dict[str, Any]:
    """What grows, as JSON-ready data."""
    return growth.values() | {"kind": growth.kind.value, "created": site_as_data(growth.created)}


def growth_from_data(data: dict[str, Any]) -> Growth:
    """The reverse of `growth_as_data`."""
    return Growth(**data | {"kind": Kind(data["kind"]), "created": site_from_data(data["created"])})
