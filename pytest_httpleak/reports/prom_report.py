"""The OpenMetrics report, for a textfile collector or a push gateway; Prometheus' older text format reads it too."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_httpleak.model.kinds import Outcome
from pytest_httpleak.reports.causes import each_finding
from pytest_httpleak.reports.places import line_of
from pytest_httpleak.reports.text_safety import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_httpleak.model.pools import PoolState
    from pytest_httpleak.model.run import Run

    Sample = tuple[dict[str, str], float]


def render(run: Run) -> str:
    """All metrics of a run. They are gauges: each run stands for itself."""
    summary = run.summary
    build = {"version": run.version, "python": run.python, "platform": run.platform}
    lines = _metric("httpleak_build_info", "The plugin that made these figures.", [(build, 1)])
    lines += _metric("httpleak_tests", "Tests by outcome of the leak check.", _tests(run))
    lines += _metric("httpleak_leaks", "Resources that were left behind.", _leaks(run))
    lines += _metric("httpleak_pool_connections", "Connections of all pools at the end, by state.", _pools(run))
    lines += _metric("httpleak_pool_requests", "Requests that went through all pools.", _totals(run, "requests"))
    lines += _metric(
        "httpleak_pool_connections_made", "Connections that all pools made.", _totals(run, "connections_made")
    )
    lines += _metric(
        "httpleak_pool_overflow", "Usable connections that full pools threw away.", _totals(run, "overflow")
    )
    lines += _metric("httpleak_open_resources", "Resources open in the process after the last test.", _open(run))
    lines += _metric("httpleak_growth_per_test", "What became more with each test, by its line.", _growth(run))
    lines += _metric("httpleak_complete", "Whether every test was judged to its end.", [({}, float(summary.complete))])
    lines += _metric("httpleak_plugin_seconds", "Time spent in the plugin.", [({}, summary.seconds_in_plugin)])
    lines += _metric("httpleak_run_seconds", "Time that the whole run took.", [({}, run.seconds)])
    return "\n".join([*lines, "# EOF"]) + "\n"


def _metric(name: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# TYPE {name} gauge", f"# HELP {name} {text}"]
    if name.endswith("_seconds"):
        lines.append(f"# UNIT {name} seconds")
    for labels, value in samples:
        shown = ",".join(f'{key}="{_label(value)}"' for key, value in labels.items())
        number = int(value) if value == int(value) else round(value, 6)
        lines.append(f"{name}{{{shown}}} {number}" if shown else f"{name} {number}")
    return lines


def _label(text: str) -> str:
    return safe(text).replace("\\", r"\\").replace('"', r"\"")


def _tests(run: Run) -> list[Sample]:
    counts = Counter(row.outcome for row in run.tests)
    return [({"outcome": outcome.value}, counts[outcome]) for outcome in Outcome]


def _leaks(run: Run) -> list[Sample]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for _, finding in each_finding(run):
        counts[(finding.library, finding.kind.value, finding.verdict.value)] += finding.count
    names = ("library", "kind", "verdict")
    return [(dict(zip(names, key, strict=True)), number) for key, number in sorted(counts.items())]


def _pools(run: Run) -> list[Sample]:
    return [
        (labels | {"state": state}, _sum(pools, state))
        for labels, pools in _by_origin(run)
        for state in ("idle", "active", "expired", "connecting", "waiting")
    ]


def _totals(run: Run, attribute: str) -> list[Sample]:
    return [(labels, _sum(pools, attribute)) for labels, pools in _by_origin(run)]


def _sum(pools: list[PoolState], attribute: str) -> int:
    """What the pools come to; a figure that a library has no notion of adds nothing."""
    return sum(getattr(pool, attribute) or 0 for pool in pools)


def _growth(run: Run) -> list[Sample]:
    slopes: dict[tuple[str, str, str], float] = {}
    for growth in run.growth:
        created = "" if growth.created is None else line_of(growth.created, run.rootdir)
        key = (growth.library, growth.kind.value, created)
        slopes[key] = slopes.get(key, 0.0) + growth.slope
    return [(dict(zip(("library", "kind", "created"), key, strict=True)), slope) for key, slope in slopes.items()]


def _by_origin(run: Run) -> list[tuple[dict[str, str], list[PoolState]]]:
    """The pools by library and origin as they are shown: two of them must not become two equal lines."""
    groups: dict[tuple[str, str], list[PoolState]] = {}
    for pool in run.pools:
        groups.setdefault((safe(pool.library), safe(pool.origin)), []).append(pool)
    return [({"library": library, "origin": origin}, pools) for (library, origin), pools in sorted(groups.items())]


def _open(run: Run) -> list[Sample]:
    return [({"kind": kind}, number) for kind, number in sorted(run.trend[-1].open.items())] if run.trend else []
