"""The Markdown report: a summary for a pull request or for the page of a CI job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.reports.causes import Cause, causes, first_names, growing
from pytest_httpleak.reports.closing import closing_lines
from pytest_httpleak.reports.notes import counted, notes
from pytest_httpleak.reports.places import UNKNOWN_LINE, code_line, line_of, made_at, place
from pytest_httpleak.reports.text_safety import safe, safe_name
from pytest_httpleak.reports.wording import described, figures, grown, noun

if TYPE_CHECKING:
    from pytest_httpleak.model.run import Run

# GitHub cuts a job's summary off at 1 MiB; a row takes at most some 4 KiB.
_MAX_ROWS: Final = 100
_MAX_NAMES: Final = 3
_ACTIVE: Final = re.compile(r"""[\\`*_{}\[\]()#+\-.!|<>&"'~:@$=^/]""")


def render(run: Run) -> str:
    """The whole report: the figures, a table of the causes, and the audit notes."""
    lines = ["## HTTP leaks", "", _figures(run), ""]
    found = causes(run)
    if found:
        lines += ["| | What | Where | Left by | Fix |", "| --- | --- | --- | --- | --- |"]
        lines += [_row(cause, run.rootdir) for cause in found[:_MAX_ROWS]]
        if len(found) > _MAX_ROWS:
            lines += ["", f"and {len(found) - _MAX_ROWS:,} more causes"]
    else:
        lines.append("No leaks were found.")
    lines += [*_growth(run), *_notes(run)]
    lines += ["", *(f"{escaped(line)}  " for line in closing_lines(run))]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """`text` with every character that Markdown, its table syntax or HTML might act on as a character reference."""
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", text)


def _figures(run: Run) -> str:
    return " · ".join(f"**{number:,}** {name}" for name, number in figures(run.summary).items())


def _row(cause: Cause, rootdir: str) -> str:
    finding = cause.finding
    code = code_line(finding.created, rootdir) if finding.created is not None else ""
    where = _code(made_at(finding, rootdir)) + (f"<br>{_code(code)}" if code else "")
    cells = (
        f"**{finding.verdict.value}**" if finding.verdict is Verdict.LEAKED else finding.verdict.value,
        f"{escaped(noun(finding.kind))}<br>{_code(described(finding))}",
        where,
        f"{escaped(cause.extent)}<br>{escaped(first_names(cause.owners, _MAX_NAMES))}",
        escaped(safe(finding.hint)),
    )
    return f"| {' | '.join(cells)} |"


def _growth(run: Run) -> list[str]:
    found = growing(run)[:_MAX_ROWS]
    if not found:
        return []
    lines = ["", "### Growing, test after test", ""]
    for growth in found:
        where = UNKNOWN_LINE if growth.created is None else place(growth.created, run.rootdir)
        lines.append(
            f"- {_code(where)} {escaped(grown(growth))} ({_code(safe(growth.type))}). {escaped(safe(growth.hint))}"
        )
    return lines


def _notes(run: Run) -> list[str]:
    groups = notes(run)[:_MAX_ROWS]
    if not groups:
        return []
    lines = ["", "### Notes", ""]
    for group in groups:
        where = "" if group.note.created is None else f"{_code(line_of(group.note.created, run.rootdir))} "
        hint = f" {escaped(safe(group.note.hint))}" if group.note.hint else ""
        extent = f"{escaped(safe_name(group.note.name))}, {counted(group.tests, 'test')}"
        lines.append(f"- {where}{escaped(safe(group.note.message))} ({extent}).{hint}")
    return lines


def _code(text: str) -> str:
    return f"<code>{escaped(text)}</code>"
