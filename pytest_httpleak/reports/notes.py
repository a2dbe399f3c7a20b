"""The audit notes of a run, and how the terminal shows them; many a run has nothing else to show, so it imports little."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pytest_httpleak.reports.places import line_of
from pytest_httpleak.reports.text_safety import safe, safe_name

if TYPE_CHECKING:
    from pytest_httpleak.model.rows import AuditNote
    from pytest_httpleak.model.run import Run

LABEL: Final = len("held by: ")
_MAX_NOTES: Final = 10


class NoteGroup:
    """One audit note, the number of times that it was taken, and of the tests that it came up in."""

    __slots__ = ("count", "latest", "note", "tests")

    def __init__(self, note: AuditNote) -> None:
        self.note = note
        self.tests = 0
        self.latest = ""  # the id of the last of them
        self.count = 0


def notes(run: Run) -> list[NoteGroup]:
    """The audit notes of a run, the most frequent first."""
    groups: dict[tuple[object, ...], NoteGroup] = {}
    known: dict[int, NoteGroup] = {}  # by the identity of a note, as tests that do the same have it in common
    for row in run.tests:
        for note in row.notes:
            group = known.get(id(note))
            if group is None:
                key = (note.name, note.created, None if note.created else re.sub(r"\d+", "#", note.message))
                group = known[id(note)] = groups.setdefault(key, NoteGroup(note))
            group.count += note.count
            if group.latest != row.nodeid:  # rows are in order, so that only the last can be the same
                group.latest = row.nodeid
                group.tests += 1
    return sorted(groups.values(), key=lambda group: (-group.tests, -group.count, group.note.name))


def notes_text(run: Run) -> list[str]:
    """One line and one hint for each audit note of the run, the most frequent first; ends with an empty line.

    At most ten are shown; a report has them all.
    """
    lines: list[str] = []
    found = notes(run)
    for group in found[:_MAX_NOTES]:
        lines += note_lines(group.note, counted(group.tests, "test"), run.rootdir)
    if len(found) > _MAX_NOTES:
        lines.append(f"and {len(found) - _MAX_NOTES:,} more notes; a report (--httpleak-report=PATH) has them all")
    return [*lines, ""] if lines else []


def note_lines(note: AuditNote, extent: str, rootdir: str) -> list[str]:
    """An audit note with its line, its name and how to mend it."""
    where = "" if note.created is None else f"{line_of(note.created, rootdir)}: "
    lines = [f"note: {where}{safe(note.message)} [{safe_name(note.name)}] ({extent})"]
    return [*lines, labelled("fix", safe(note.hint))] if note.hint else lines


def counted(number: int, word: str) -> str:
    """`1 test`, `31 tests`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def labelled(label: str, text: str) -> str:
    """A line of what is shown under a title, in its column."""
    return "  " + (f"{label}: " if label else "").ljust(LABEL) + text
