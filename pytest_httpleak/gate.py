"""The CI gate: reports, the baseline, tolerances that nobody needs any more, annotations for GitHub."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_httpleak.model.findings import owner_without_parameters
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.reports import baseline as baselines
from pytest_httpleak.reports.files import write_atomically, write_report
from pytest_httpleak.reports.text_safety import safe_name

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard
    from pytest_httpleak.model.run import Run

_MOST_NAMED = 20  # lines of one list in the terminal


def close(guard: Guard, run: Run, *, is_partial: bool, is_split: bool) -> tuple[list[str], pytest.ExitCode | None]:
    """Do all that the options ask for at the end; give the lines to show, and the exit status if one is called for.

    What cannot be written is named and turns a green status into 4: a gate that cannot report must not look green.
    """
    run.platform = platform.platform()
    lines: list[str] = []
    failed: list[str] = []
    for path in guard.settings.reports:
        failed += _attempt(f"the report {path}", lambda path=path: write_report(path, run))  # type: ignore[misc]
    if guard.baseline is not None:
        lines += _compared(guard, guard.baseline, run, failed, is_partial=is_partial, is_split=is_split)
    stale = _stale(guard, run, is_split=is_split)
    strict = guard.settings.strict_tolerances and any(stale.values())
    if stale:
        fails = ", which fails the run (httpleak_strict_tolerances)" if strict else ""
        lines += [f"httpleak: tolerances that are wider than needed{fails}:", *_listed(list(stale))]
    if guard.settings.github:
        lines += _github(run, failed)
    if failed:
        return [*lines, *failed], pytest.ExitCode.USAGE_ERROR
    return lines, pytest.ExitCode.TESTS_FAILED if strict else None


class Everything:
    """Knows every leak: the run writes the baseline, so what it finds is being recorded."""

    def lines_of(self, fingerprint: str) -> int:
        """As many as there may be."""
        return sys.maxsize


def load_baseline(path: Path) -> baselines.Baseline:
    """Read the baseline. Raises pytest.UsageError for a file that is none."""
    try:
        return baselines.Baseline.load(path)
    except baselines.BaselineError as error:
        raise pytest.UsageError(str(error)) from None


def _attempt(what: str, write: Callable[[], None]) -> Iterator[str]:
    try:
        write()
    except Exception as error:  # whatever it is, the run's own result must be shown  # noqa: BLE001  # this is the wall
        yield f"httpleak: {what} could not be written: {type(error).__name__}: {error}"


def _compared(
    guard: Guard, baseline: baselines.Baseline, run: Run, failed: list[str], *, is_partial: bool, is_split: bool
) -> Iterator[str]:
    path, collected = guard.settings.baseline, guard.results.collected
    if path is None or collected is None:
        return
    judged = collected.judged(run, guard.settings.default.kinds, is_whole=not is_partial, is_split=is_split)
    found = baseline.compare(run, judged)
    if guard.settings.update_baseline:
        if not judged.finished and not any(found.seen + found.new):
            yield f"httpleak: baseline {path}: no test was judged to its end, so it stays as it is"
            return
        text = baseline.render(run, judged)
        failed += _attempt(f"the baseline {path}", lambda: write_atomically(path, text))
        kept = len(found.seen) + len(found.new) + len(found.untested)
        more = f", {len(found.untested)} not judged in this run and kept" if found.untested else ""
        yield (
            f"httpleak: baseline {path}: {kept} leaks recorded, {len(found.new)} of them new, "
            f"{len(found.gone)} removed{more}"
        )
    elif found.gone:
        yield "httpleak: in the baseline, but no longer seen (--httpleak-update-baseline removes them):"
    elif found.new and not os.path.exists(path):
        yield f"httpleak: baseline {path} does not exist, so no leak is known (--httpleak-update-baseline writes it)"
    yield from _listed([str(entry) for entry in found.gone])


def _stale(guard: Guard, run: Run, *, is_split: bool) -> dict[str, bool]:
    """A line for each test that tolerates more than it needs, where all of its parameters have run; and whether it can fail."""
    untold = {owner_without_parameters(row.nodeid) for row in run.tests if row.nodeid.endswith("]")} if is_split else ()
    return {
        f"{safe_name(place)}: tolerates {kind}={allowed}, but {needed or 'none'} leaked": bool(fails)
        for place, kinds in guard.results.needed.items()
        for kind, (allowed, needed, fails) in kinds.items()
        if needed < allowed and place not in untold and Kind(kind) in guard.settings.default.kinds
    }


def _listed(lines: list[str]) -> Iterator[str]:
    for line in lines[:_MOST_NAMED]:
        yield f"  {line}"
    if len(lines) > _MOST_NAMED:
        yield f"  and {len(lines) - _MOST_NAMED} more"


def _github(run: Run, failed: list[str]) -> list[str]:
    """Annotations on standard output, and the summary of the job in the file that GitHub names."""
    from pytest_httpleak.reports import github, markdown_report

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        text = markdown_report.render(run)

        def append() -> None:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(text + "\n")

        failed += _attempt(f"the job summary {summary}", append)
    return github.error_commands(run, workspace=os.environ.get("GITHUB_WORKSPACE"))
