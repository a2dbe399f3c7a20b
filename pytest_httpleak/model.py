"""Frozen plain data that every layer speaks: kinds, sites, findings, rows of the report. Standard library only."""

from __future__ import annotations

import enum
import hashlib
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T", bound=Any)


def replace(record: T, **changes: Any) -> T:
    """The same record with some fields changed."""
    return record._replace(**changes)  # type: ignore[no-any-return]


# Named tuples and plain classes where the style would have dataclasses: they are made several times faster, and every
# run imports them.


class Kind(enum.StrEnum):
    """What can leak, from the most telling kind to the barest; one cause is one finding of the first kind that fits."""

    RESPONSES = "responses"
    CLIENTS = "clients"
    CONNECTIONS = "connections"
    LOOPS = "loops"
    TASKS = "tasks"
    THREADS = "threads"
    SOCKETS = "sockets"
    FDS = "fds"


class State(enum.StrEnum):
    """What a leaked resource was when it was judged."""

    OPEN = "open"
    PEAK = "peak"
    COLLECTED = "collected"
    PENDING = "pending"
    RUNNING = "running"


class Verdict(enum.StrEnum):
    """What becomes of one finding."""

    LEAKED = "leaked"
    KNOWN = "known"
    TOLERATED = "tolerated"
    IGNORED = "ignored"
    WARNED = "warned"


class Outcome(enum.StrEnum):
    """What becomes of one test or fixture, whatever its own result."""

    CLEAN = "clean"
    LEAKED = "leaked"
    TOLERATED = "tolerated"
    KNOWN = "known"
    WARNED = "warned"
    UNCHECKED = "unchecked"


class Site(NamedTuple):
    """One place in source code; `file` is absolute or as the interpreter names it."""

    file: str
    line: int
    function: str


class Held(NamedTuple):
    """Something that a leaked resource keeps alive: shown under it, never a finding of its own."""

    kind: Kind
    summary: str
    fd: int | None = None


class Suspect(NamedTuple):
    """One resource that its owner left behind, as facts taken at once; no reference to the resource itself.

    `claims` names the descriptors and objects it answers for: a suspect of a later kind whose claims are all
    taken is no finding. `owns` names, by key, suspects that end with this one, whatever their kind. `always` is for
    suspects that are a finding of their own even where all is claimed. `names` are what
    ignore patterns are matched with; `key` identifies the record it was taken from; `depth` puts a client (0) before the
    transports and pools inside it.
    """

    kind: Kind
    library: str
    type: str
    state: State
    summary: str
    key: int
    created: Site | None = None
    stack: tuple[Site, ...] = ()
    names: tuple[str, ...] = ()
    claims: frozenset[object] = frozenset()
    owns: frozenset[int] = frozenset()
    always: bool = False
    holds: tuple[Held, ...] = ()
    depth: int = 0
    held_by: str | None = None
    hint: str = ""


class Finding(NamedTuple):
    """One cause of a leak, as users see it: `count` resources that the same line left behind."""

    kind: Kind
    library: str
    type: str
    state: State
    summary: str
    created: Site | None = None
    stack: tuple[Site, ...] = ()
    count: int = 1  # type: ignore[assignment]  # of resources; nobody counts the fields of a record
    holds: tuple[Held, ...] = ()
    held_by: str | None = None
    hint: str = ""
    verdict: Verdict = Verdict.LEAKED
    fingerprint: str = ""

    def judged(self, verdict: Verdict) -> Finding:
        """The same finding with another verdict."""
        return self._replace(verdict=verdict)


class TestRow(NamedTuple):
    """One checked test in the report."""

    nodeid: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    notes: tuple[AuditNote, ...] = ()
    attempts: int = 1
    repeated: int = 1


class FixtureRow(NamedTuple):
    """One fixture of a wider scope that left something behind."""

    name: str
    scope: str
    baseid: str
    file: str
    line: int
    outcome: Outcome
    findings: tuple[Finding, ...] = ()


class AuditNote(NamedTuple):
    """Something that allows a leak in production; informs, never fails by itself."""

    name: str
    message: str
    hint: str
    created: Site | None = None
    count: int = 1  # type: ignore[assignment]  # of resources; nobody counts the fields of a record


class PoolState(NamedTuple):
    """One connection pool at one moment, by its library's own books.

    `idle`, `active`, `expired` (idle, but too long or already closed by the server) and `connecting` are connections that
    are there now; `waiting` are requests that have none yet. `connections_made` counts those that were established,
    `requests` those that were sent on them, `overflow` the usable connections that were closed because the pool was full.
    A limit that is None does not bound the pool; any other figure that is None is one its library has no notion of.
    """

    library: str
    origin: str
    idle: int = 0
    active: int = 0
    expired: int = 0
    connecting: int = 0
    waiting: int | None = 0
    max_connections: int | None = None
    max_keepalive: int | None = None
    per_host: int | None = None
    connections_made: int = 0
    requests: int = 0
    overflow: int | None = 0
    created: Site | None = None
    owner: str = ""

    @property
    def reuse(self) -> float | None:
        """Requests per connection made, or None before the first connection."""
        return self.requests / self.connections_made if self.connections_made else None

    def __repr__(self) -> str:
        waiting = None if self.waiting is None else f"{self.waiting} waiting"
        rare = ((self.expired, "expired"), (self.connecting, "connecting"))
        now = [f"{self.active} active", f"{self.idle} idle", *(f"{number} {word}" for number, word in rare if number)]
        limit = "none" if self.max_connections is None else self.max_connections
        so_far = f" | {_number(self.requests, 'request')} on {_number(self.connections_made, 'connection')}"
        lost = f", {self.overflow} thrown away" if self.overflow else ""
        return (
            f"<PoolState {self.library} {self.origin} [{', '.join(filter(None, (*now, waiting)))} | max {limit}"
            f"{so_far if self.connections_made else ''}{lost}]>"
        )


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


class Growth(NamedTuple):
    """One line that leaves more and more open, test after test: `first` after the beginning of the run, `last` at its end."""

    kind: Kind
    library: str
    type: str
    created: Site | None
    summary: str
    first: int
    last: int
    tests: int
    slope: float  # resources per test
    held_by: str | None = None
    hint: str = ""


class TrendPoint(NamedTuple):
    """How many of each kind were open in the process after one test."""

    nodeid: str
    open: dict[str, int]


class Summary:
    """Counts of checked tests by outcome, and what checking them cost."""

    __slots__ = ("checked", "clean", "complete", "known", "leaked", "seconds_in_plugin", "tolerated", "warned")

    def __init__(self) -> None:
        self.checked = 0
        self.clean = 0
        self.leaked = 0
        self.tolerated = 0
        self.known = 0
        self.warned = 0
        self.complete = True
        self.seconds_in_plugin = 0.0


class Run:
    """All that one pytest run found: what every report is made from."""

    __slots__ = (
        "disabled",
        "fixtures",
        "growth",
        "platform",
        "pools",
        "python",
        "rootdir",
        "seconds",
        "summary",
        "tests",
        "trend",
        "version",
    )

    def __init__(self, *, version: str, python: str, platform: str, rootdir: str, seconds: float = 0.0) -> None:
        self.version = version
        self.python = python
        self.platform = platform
        self.rootdir = rootdir
        self.seconds = seconds
        self.summary = Summary()
        self.tests: list[TestRow] = []
        self.fixtures: list[FixtureRow] = []
        self.pools: list[PoolState] = []
        self.trend: list[TrendPoint] = []
        self.growth: list[Growth] = []
        self.disabled: list[str] = []

    def count(self, row: TestRow) -> None:
        """Take one test's row into the rows and the figures."""
        self.tests.append(row)
        if row.outcome is not Outcome.UNCHECKED:
            self.summary.checked += 1
            setattr(self.summary, row.outcome.value, getattr(self.summary, row.outcome.value) + 1)


def fingerprint(finding: Finding, owner: str, file: str | None) -> str:
    """Names a finding across runs: kind, library, function and file of creation, owner; never a line number."""
    function = finding.created.function if finding.created else ""
    parts = (finding.kind.value, finding.library, file or "", function, owner)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def outcome_of(findings: tuple[Finding, ...]) -> Outcome:
    """The outcome that a test's findings amount to: the worst verdict among them."""
    verdicts = {finding.verdict for finding in findings}
    for verdict, outcome in _WORST_FIRST:
        if verdict in verdicts:
            return outcome
    return Outcome.CLEAN


_WORST_FIRST: tuple[tuple[Verdict, Outcome], ...] = (
    (Verdict.LEAKED, Outcome.LEAKED),
    (Verdict.WARNED, Outcome.WARNED),
    (Verdict.KNOWN, Outcome.KNOWN),
    (Verdict.TOLERATED, Outcome.TOLERATED),
    (Verdict.IGNORED, Outcome.TOLERATED),
)


# -- plain data, for files and for the way from an xdist worker to its controller --------------------------------------


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
    return growth._asdict() | {"kind": growth.kind.value, "created": site_as_data(growth.created)}


def growth_from_data(data: dict[str, Any]) -> Growth:
    """The reverse of `growth_as_data`."""
    return Growth(**data | {"kind": Kind(data["kind"]), "created": site_from_data(data["created"])})
