"""The last line of a run in the terminal, and what did not work in it; imported in every run, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_httpleak.model.kinds import Outcome

if TYPE_CHECKING:
    from pytest_httpleak.model.run import Run


def closing_lines(run: Run) -> list[str]:
    """What did not work in this run, then the one closing line."""
    lines = _disabled(run.disabled) if run.disabled else []
    if not run.summary.complete:
        lines.append(
            "httpleak: incomplete: not all tests were run to their end and judged, so more may leak than is shown"
        )
    return [*lines, closing_line(run)]


def _disabled(reasons: list[str]) -> list[str]:
    from pytest_httpleak.reports.text_safety import safe

    return [f"httpleak: {safe(each)}" for each in reasons]


def closing_line(run: Run) -> str:
    """`httpleak: 12 checked, 2 leaked, 1 tolerated, 0 known; 0.004 s in the plugin (0.3 % of the run)`."""
    summary = run.summary
    words = [f"{summary.checked:,} checked", f"{summary.leaked:,} leaked"]
    if summary.warned:
        words.append(f"{summary.warned:,} warned")
    words += [f"{summary.tolerated:,} tolerated", f"{summary.known:,} known"]
    for outcome in (Outcome.LEAKED, Outcome.WARNED):
        fixtures = len({(row.name, row.file, row.line) for row in run.fixtures if row.outcome is outcome})
        if fixtures:
            words.append(f"{fixtures:,} fixture{'' if fixtures == 1 else 's'} {outcome.value}")
    seconds = run.seconds * run.processes
    share = f" ({100 * summary.seconds_in_plugin / seconds:.1f} % of the run)" if seconds > 0 else ""
    return f"httpleak: {', '.join(words)}; {summary.seconds_in_plugin:.3f} s in the plugin{share}"
