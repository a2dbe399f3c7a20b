"""Small runs to render: a leak in each shape that the reports have to tell apart, and texts that mean harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding, Held, Site, outcome_of
from pytest_httpleak.model.kinds import Kind, Outcome, State, Verdict
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.model.rows import AuditNote, FixtureRow, Growth, TestRow, TrendPoint
from pytest_httpleak.model.run import Run

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "/srv/shop"

# Clears a screen, turns the direction of writing, closes tags, tables and commands of every form that is rendered.
EVIL = "\x1b[2J\x9b31m\u202e<script>alert(1)</script>|`x`\"'&\r\n::error::[a](javascript:b)\x00*/-->]]>\udc80"

SECRET_URL = "http://alice:hunter2@127.0.0.1:8000/items?token=s3cret&q=1#part"

SOURCE = """\
import httpx


def test_get(client):
    request = client.build_request("GET", "/items")
    response = client.send(request, stream=True)
    assert response.status_code == 200


def fetch(client):
    return client.send(client.build_request("GET", "/items?token=s3cret"), stream=True)
"""


def site(line: int = 6, function: str = "test_get", file: str = f"{ROOT}/tests/test_api.py") -> Site:
    return Site(file, line, function)


def response(**changes: Any) -> Finding:
    finding = Finding(
        kind=Kind.RESPONSES,
        library="httpx",
        type="httpx.Response",
        state=State.OPEN,
        summary="GET http://127.0.0.1:8000/items?*** [200]",
        created=site(),
        stack=(
            Site("/usr/lib/python3/site-packages/httpx/_client.py", 901, "send"),
            site(),
            site(30, "wrapper", f"{ROOT}/tests/steps.py"),
        ),
        holds=(
            Held(Kind.CONNECTIONS, "HTTP/1.1 connection to 127.0.0.1:8000"),
            Held(Kind.SOCKETS, "127.0.0.1:53122 -> 127.0.0.1:8000", 12),
        ),
        held_by="module attribute app.api._last",
        hint="read the body to its end, or close the response",
        fingerprint="0123456789abcdef",
    )
    return replace(finding, **changes)


def thread(**changes: Any) -> Finding:
    finding = Finding(
        kind=Kind.THREADS,
        library="threading",
        type="threading.Thread",
        state=State.RUNNING,
        summary="poller-1",
        created=site(12, "start", f"{ROOT}/app/poller.py"),
        hint="join the thread",
        fingerprint="fedcba9876543210",
    )
    return replace(finding, **changes)


def lost_socket(**changes: Any) -> Finding:
    finding = Finding(
        kind=Kind.SOCKETS,
        library="socket",
        type="socket.socket",
        state=State.COLLECTED,
        summary="127.0.0.1:53122 -> 127.0.0.1:8000",
        fingerprint="00000000ffffffff",
    )
    return replace(finding, **changes)


def peak(**changes: Any) -> Finding:
    finding = Finding(
        kind=Kind.CONNECTIONS,
        library="httpx",
        type="connections",
        state=State.PEAK,
        summary="12 connections open at once, and the limit is 10",
        created=site(40, "fan_out"),
        holds=(Held(Kind.CONNECTIONS, f"12 from {ROOT}/tests/test_api.py:40"),),
        fingerprint="aaaaaaaaaaaaaaaa",
    )
    return replace(finding, **changes)


def row(nodeid: str, *findings: Finding, **changes: Any) -> TestRow:
    outcome = changes.pop("outcome", outcome_of(findings))
    return TestRow(nodeid, outcome, findings, **changes)


def fixture_row(*findings: Finding, **changes: Any) -> FixtureRow:
    fixture = FixtureRow("client", "session", "tests", f"{ROOT}/tests/conftest.py", 7, outcome_of(findings), findings)
    return replace(fixture, **changes)


def note(**changes: Any) -> AuditNote:
    finding = AuditNote("no-timeout", "this client waits for ever", "give it a timeout", site(3, "<module>"))
    return replace(finding, **changes)


def pool(**changes: Any) -> PoolState:
    state = PoolState(
        library="httpx",
        origin="http://127.0.0.1:8000",
        idle=2,
        active=1,
        max_connections=100,
        connections_made=3,
        requests=12,
        created=site(5, "client", f"{ROOT}/tests/conftest.py"),
        owner="fixture 'client'",
    )
    return state._replace(**changes)


def growth(**changes: Any) -> Growth:
    known = Growth(
        kind=Kind.CLIENTS,
        library="httpx",
        type="httpx.Client",
        created=site(5, "client", f"{ROOT}/tests/conftest.py"),
        summary="not closed, with 1 open connection",
        first=1,
        last=40,
        tests=40,
        slope=1.0,
        held_by="module attribute app.registry",
        hint="close it where it is made, or bound what keeps it",
    )
    return replace(known, **changes)


def run(*tests: TestRow, rootdir: str = ROOT, **changes: Any) -> Run:
    result = Run(version="0.1.0", python="3.11.7", platform="linux", rootdir=rootdir, seconds=1.5)
    result.summary.seconds_in_plugin = 0.0042
    for each in tests:
        result.count(each)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def full_run(rootdir: str = ROOT) -> Run:
    """One of everything."""
    tests = [
        row("tests/test_api.py::test_get", response()),
        row("tests/test_api.py::test_get[b]", response(count=3)),
        row("tests/test_api.py::test_dropped", lost_socket()),
        row("tests/test_api.py::test_known", thread(verdict=Verdict.KNOWN)),
        row("tests/test_api.py::test_tolerated", thread(verdict=Verdict.TOLERATED, fingerprint="1" * 16)),
        row("tests/test_api.py::test_warned", thread(verdict=Verdict.WARNED, fingerprint="2" * 16)),
        row("tests/test_api.py::test_peak", peak()),
        row("tests/test_api.py::test_noted", notes=(note(), note(name="unbounded-pool", created=None))),
        row("tests/test_api.py::test_clean"),
        row("tests/test_other.py::test_unchecked", outcome=Outcome.UNCHECKED, finished=False),
    ]
    return run(
        *tests,
        rootdir=rootdir,
        fixtures=[fixture_row(lost_socket(fingerprint="3" * 16))],
        pools=[pool(), pool(max_connections=None, connections_made=0, requests=0, created=None)],
        trend=trend(5),
        growth=[growth(), growth(kind=Kind.SOCKETS, created=None, held_by=None, slope=0.5)],
        disabled=["the adapter for urllib3 was switched off for the rest of this run: TypeError: unexpected"],
    )


def evil_run() -> Run:
    """Harmful text in every field that takes text."""
    where = Site(f"{ROOT}/{EVIL}", 3, EVIL)
    finding = response(
        library=EVIL,
        type=EVIL,
        summary=f"{EVIL} {SECRET_URL}",
        created=where,
        stack=(where, Site(f"{ROOT}/b{EVIL}", 4, EVIL)),
        holds=(Held(Kind.SOCKETS, f"{EVIL} {SECRET_URL}", 3),),
        held_by=f"{EVIL} {SECRET_URL}",
        hint=f"{EVIL} {SECRET_URL}",
    )
    evil_note = AuditNote(EVIL, f"{EVIL} {SECRET_URL}", f"{EVIL} {SECRET_URL}", where)
    return run(
        row(f"tests/test_api.py::test_get[{EVIL}]", finding, notes=(evil_note,)),
        row(f"tests/{EVIL}.py::test_other", response(created=None, summary=EVIL)),
        fixtures=[fixture_row(finding, name=EVIL, file=f"{ROOT}/{EVIL}")],
        pools=[pool(library=EVIL, origin=f"{EVIL} {SECRET_URL}", owner=EVIL, created=where)],
        trend=[TrendPoint(EVIL, {"fds": 4}), TrendPoint(EVIL, {"fds": 5})],
        growth=[
            growth(
                kind=Kind.TASKS,
                library=EVIL,
                type=EVIL,
                created=where,
                held_by=EVIL,
                hint=EVIL,
                summary=f"{EVIL} {SECRET_URL}",
            )
        ],
        disabled=[f"{EVIL} {SECRET_URL}"],
        version=EVIL,
        python=EVIL,
        platform=EVIL,
    )


def trend(length: int) -> list[TrendPoint]:
    return [
        TrendPoint(
            f"tests/test_api.py::test_{number}",
            {
                "fds": 9 + number // 40,
                "sockets": number % 17 // 4,
                "threads": 1 + number // 300,
                "tasks": number % 5 % 2,
            },
        )
        for number in range(length)
    ]


def big_run(rootdir: str, tests: int = 2000, leaks: int = 300) -> Run:
    """A large suite: `leaks` of its tests leak, from 60 places."""
    rows = []
    for number in range(tests):
        nodeid = f"tests/integration/test_module_{number // 50}.py::TestOrders::test_place_order[{number}-eu-west]"
        file = f"{rootdir}/app/clients/module_{number % 60}.py"
        created = Site(file, 10 + number % 60, f"fetch_{number % 60}")
        stack = tuple(
            Site("/usr/lib/python3/site-packages/httpx/_client.py", 900 + depth, "send") for depth in range(20)
        )
        leak = response(
            kind=list(Kind)[number % 60 % 4], created=created, stack=(*stack, created), fingerprint=f"{number:016x}"
        )
        rows.append(row(nodeid, *([leak] if number < leaks else [])))
    return run(*rows, rootdir=rootdir, pools=[pool()] * 30, trend=trend(tests))


def write_source(root: Path) -> Path:
    """The file that the sample sites below `root` point to."""
    file = root / "tests" / "test_api.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(SOURCE, encoding="utf-8")
    return file
