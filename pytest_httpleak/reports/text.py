"""Findings as text for a terminal: the message of a `LeakError`, the section of a test, the summary of a run."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.reports.causes import Cause, causes, first_names, growing
from pytest_httpleak.reports.notes import LABEL, labelled
from pytest_httpleak.reports.places import UNKNOWN_LINE, callers, code_line, library_line, made_at, place
from pytest_httpleak.reports.text_safety import safe, safe_name
from pytest_httpleak.reports.wording import (
    described,
    grown,
    headline,
    held_label,
    held_lines,
    totals,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_httpleak.model.findings import Finding, Site
    from pytest_httpleak.model.run import Run

_MAX_GROUPS: Final = 20
_MAX_NAMES: Final = 3

_SECTIONS: Final = {
    Verdict.LEAKED: "It also leaks, which would fail it by itself:",
    Verdict.WARNED: "It leaks (a warning only):",
    Verdict.KNOWN: "Known leaks, recorded in the baseline:",
    Verdict.TOLERATED: "Tolerated leaks:",
    Verdict.IGNORED: "Ignored leaks:",
}
_GROUPED: Final = {
    Verdict.LEAKED: "Leaks, worst first:",
    Verdict.WARNED: "Leaks, as warnings only, worst first:",
    Verdict.KNOWN: "Known leaks, recorded in the baseline:",
}


def leak_text(findings: Sequence[Finding], *, owner: str, rootdir: str, when: str = "") -> str:
    """The message of a `LeakError`: each finding with its line of code, what it holds, and how to mend it.

    The first line stands alone, as that is what pytest's short summary shows. `owner` is a test id, or a
    description of a fixture, `when` what has led to them; paths are shown relative to `rootdir`.
    """
    left_by = [labelled("left by", safe_name(owner)), *([labelled("when", safe_name(when))] if when else [])]
    if len(findings) == 1:
        return "\n".join([headline(findings[0]), *left_by, *_details(findings[0], rootdir)])
    lines = [f"{len(findings)} leaks: {totals(findings)}", *left_by]
    for number, finding in enumerate(findings, 1):
        lines += ["", f"{number}. {headline(finding)}", *_details(finding, rootdir)]
    return "\n".join(lines)


def section_text(findings: Sequence[Finding], *, owner: str, rootdir: str) -> str:
    """The section of a test or fixture that is not failed by these findings, under one title for each verdict."""
    lines = [safe_name(owner)]
    order = list(_SECTIONS)
    ordered = sorted(findings, key=lambda finding: order.index(finding.verdict))
    for verdict, group in groupby(ordered, key=lambda finding: finding.verdict):
        lines.append(_SECTIONS[verdict])
        for finding in group:
            lines += ["", headline(finding), *_details(finding, rootdir)]
        lines.append("")
    return "\n".join(lines).rstrip("\n")


def one_line(finding: Finding, *, rootdir: str = "") -> str:
    """A finding in one line, for warnings and short summaries."""
    return f"{headline(finding)} ({made_at(finding, rootdir)})"


def grouped_text(run: Run) -> list[str]:
    """The lines of the terminal summary: each cause once, however many tests it leaks in, worst first.

    At most 20 causes are shown; findings that are tolerated or ignored are left to the report files. Ends with an
    empty line, unless there is nothing to show.
    """
    lines: list[str] = []
    found = causes(run, *_GROUPED)
    for verdict, group in groupby(found[:_MAX_GROUPS], key=lambda cause: cause.finding.verdict):
        lines.append(_GROUPED[verdict])
        for cause in group:
            lines += ["", *_cause(cause, run.rootdir)]
        lines.append("")
    if len(found) > _MAX_GROUPS:
        lines += [f"and {len(found) - _MAX_GROUPS:,} more; a report (--httpleak-report=PATH) has them all", ""]
    return lines


def growth_text(run: Run) -> list[str]:
    """What grows test after test, with its slope, the steepest first; ends with an empty line.

    At most 20 lines of code are named; a report has them all.
    """
    found = growing(run)
    lines: list[str] = []
    for growth in found[:_MAX_GROUPS]:
        lines += ["", f"{_where(growth.created, run.rootdir)}: {grown(growth)}"]
        code = code_line(growth.created, run.rootdir) if growth.created else ""
        lines += [f"    {code}"] if code else []
        held = f", held by {safe(growth.held_by)}" if growth.held_by else ""
        lines += [f"    {safe(growth.type)}: {safe(growth.summary)}{held}", f"    fix: {safe(growth.hint)}"]
    if len(found) > _MAX_GROUPS:
        lines += ["", f"and {len(found) - _MAX_GROUPS:,} more; a report (--httpleak-report=PATH) has them all"]
    return ["Growing, test after test:", *lines, ""] if lines else []


def _details(finding: Finding, rootdir: str) -> list[str]:
    lines = _created(finding, rootdir)
    library = library_line(finding)
    if library:
        lines.append(labelled("made in", library))
    lines += [labelled("from", place(site, rootdir)) for site in callers(finding, rootdir)]
    for number, line in enumerate(held_lines(finding, rootdir)):
        lines.append(labelled("" if number else held_label(finding), line))
    if finding.held_by:
        lines.append(labelled("held by", safe(finding.held_by)))
    if finding.hint:
        lines.append(labelled("fix", safe(finding.hint)))
    return lines


def _created(finding: Finding, rootdir: str) -> list[str]:
    site = finding.created
    created = labelled("created", made_at(finding, rootdir))
    if site is None:
        return [created]
    code = code_line(site, rootdir)
    gutter = " " * (LABEL + 2)
    return [created, *([f"{gutter}{site.line} |  {code}"] if code else [])]


def _where(site: Site | None, rootdir: str) -> str:
    return UNKNOWN_LINE if site is None else place(site, rootdir)


def _cause(cause: Cause, rootdir: str) -> list[str]:
    finding = cause.finding
    lines = [f"{made_at(finding, rootdir)}: {cause.extent}"]
    code = code_line(finding.created, rootdir) if finding.created else ""
    if code:
        lines.append(f"    {code}")
    lines += [f"    {described(finding)}", f"    in: {first_names(cause.owners, _MAX_NAMES)}"]
    if finding.hint:
        lines.append(f"    fix: {safe(finding.hint)}")
    return lines
