"""The baseline: a file of leaks that are known and do not fail, until somebody mends them."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pytest_httpleak.model.findings import OF_LIMIT, Finding, Site, digest, owner_without_parameters
from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.reports.causes import each_finding
from pytest_httpleak.reports.places import Owner, relative_path
from pytest_httpleak.reports.text_safety import plain
from pytest_httpleak.reports.wording import subject

if TYPE_CHECKING:
    import os

    from pytest_httpleak.model.run import Run
    from pytest_httpleak.reports.judged import Judged

_HEAD: Final = "httpleak-baseline"
_VERSION: Final = 1
_RECORDED: Final = (Verdict.LEAKED, Verdict.WARNED, Verdict.KNOWN)


class BaselineError(Exception):
    """A baseline file that cannot be used; the message names the file, the reason, and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One known leak.

    `lines` is how many lines of its function leak so in one test; 0 in an early file, which knows any number. `count` is
    the number of resources in the run at hand, and is not kept in the file.
    """

    fingerprint: str
    kind: str
    library: str
    file: str
    function: str
    owner: str
    text: str
    lines: int = 0
    count: int = 0

    @property
    def order(self) -> tuple[str, ...]:
        """Where the entry stands in the file."""
        return (self.file, self.function, self.kind, self.library, self.owner, self.fingerprint)

    def __str__(self) -> str:
        """One line that names the entry to a person."""
        where = f"{self.file} in {self.function}" if self.file else "line unknown"
        return f"{self.kind} {self.text} ({where}), left by {self.owner} [{self.fingerprint}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A baseline beside a run: what is still there, what is gone, what is new, and what this run cannot tell."""

    seen: tuple[Entry, ...]
    gone: tuple[Entry, ...]
    new: tuple[Entry, ...]
    untested: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The known leaks by fingerprint."""

    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a baseline file; one that does not exist yet is empty. Raises `BaselineError`."""
        try:
            text = Path(path).read_text("utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeError) as error:
            raise BaselineError(_message(path, f"cannot be read: {error}")) from error
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            conflict = "; it has merge conflict markers" if "\n<<<<<<< " in f"\n{text}" else ""
            raise BaselineError(_message(path, f"is not JSON: {error}{conflict}")) from error
        reason = _unusable(data)
        if reason:
            raise BaselineError(_message(path, reason))
        entries = [_entry_from(leak) for leak in data["leaks"]]
        return cls({entry.fingerprint: entry for entry in entries})

    def knows(self, fingerprint: str) -> bool:
        """Whether a finding with this fingerprint is recorded here."""
        return fingerprint in self.entries

    def lines_of(self, fingerprint: str) -> int:
        """How many lines may leak with this fingerprint in one test."""
        entry = self.entries.get(fingerprint)
        return 0 if entry is None else entry.lines or sys.maxsize

    def compare(self, run: Run, judged: Judged) -> Comparison:
        """What became of each entry in a run, each group in the order of the file.

        What was not seen is gone only where its owner was judged, or does not exist any more; else it is `untested`.
        """
        found = _entries_of(run)
        missing = [entry for entry in self.entries.values() if entry.fingerprint not in found]
        untested = [entry for entry in missing if not judged.can_tell(entry.owner, entry.kind)]
        return Comparison(
            seen=_sorted(self._kept(entry, judged) for entry in found.values() if self.knows(entry.fingerprint)),
            gone=_sorted(set(missing) - set(untested)),
            new=_sorted(entry for entry in found.values() if not self.knows(entry.fingerprint)),
            untested=_sorted(untested),
        )

    def render(self, run: Run, judged: Judged) -> str:
        """The text of the file that records the leaks of a run, to be written in place of this baseline.

        Entries that are still seen keep their text, so that a difference shows only what has changed.
        """
        comparison = self.compare(run, judged)
        entries = _sorted([*comparison.seen, *comparison.new, *comparison.untested])
        leaks = [_as_data(entry) for entry in entries]
        return json.dumps({_HEAD: _VERSION, "leaks": leaks}, indent=2) + "\n"

    def _kept(self, entry: Entry, judged: Judged) -> Entry:
        known = self.entries[entry.fingerprint]
        is_told = judged.can_tell(known.owner, known.kind)
        lines = entry.lines if is_told else known.lines and max(known.lines, entry.lines)
        return replace(known, lines=lines, count=entry.count)


_NAMES: Final = tuple(each.name for each in fields(Entry) if each.name not in ("lines", "count"))
_LIMIT: Final = re.compile(r"\d+ \w+ (?:open at once|made), and the limit is \d+")


def _entry_from(leak: dict[str, Any]) -> Entry:
    """An entry of a file, by the fingerprint that its leak has now.

    An early one knew a test by its id until the first `[`, and a breached limit by the name of a leak.
    """
    entry = Entry(**{name: leak[name] for name in _NAMES}, lines=leak.get("lines", 0))
    parts = entry.kind, entry.library, entry.file, entry.function
    is_early = "[" in entry.owner and entry.fingerprint == digest(*parts, entry.owner.partition("[")[0])
    name = digest(*parts, entry.owner) if is_early else entry.fingerprint
    if _LIMIT.fullmatch(entry.text) and not name.endswith(OF_LIMIT):
        name += OF_LIMIT
    return replace(entry, fingerprint=name)


def _as_data(entry: Entry) -> dict[str, Any]:
    data = {name: getattr(entry, name) for name in _NAMES}
    return data | {"lines": entry.lines} if entry.lines else data


def _entries_of(run: Run) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    lines: dict[tuple[str, Owner], set[Site | None]] = {}
    for owner, finding in each_finding(run):
        if finding.verdict in _RECORDED and finding.fingerprint:
            entry = entries.get(finding.fingerprint) or _entry(finding, owner, run.rootdir)
            of_owner = lines.setdefault((finding.fingerprint, owner), set())
            of_owner.add(finding.created)
            entries[finding.fingerprint] = replace(
                entry, lines=max(entry.lines, len(of_owner)), count=entry.count + finding.count
            )
    return entries


def _entry(finding: Finding, owner: Owner, rootdir: str) -> Entry:
    created = finding.created
    return Entry(
        fingerprint=finding.fingerprint,
        kind=finding.kind.value,
        library=finding.library,
        file="" if created is None else relative_path(created.file, rootdir),
        function="" if created is None else created.function,
        owner=name_of(owner),
        text=subject(finding),
    )


def name_of(owner: Owner) -> str:
    """The name of an owner that stays: a test's without its parameters, a fixture's without its line, which moves."""
    return plain(f"{owner.name.rpartition(':')[0]})" if owner.is_fixture else owner_without_parameters(owner.name))


def _sorted(entries: Any) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.order))


def _unusable(data: Any) -> str | None:
    if not isinstance(data, dict) or _HEAD not in data:
        return f"is no baseline: it has no {_HEAD!r}"
    version = data[_HEAD]
    if version != _VERSION or isinstance(version, bool):
        return f"has version {version!r}, but this plugin reads version {_VERSION}"
    leaks = data.get("leaks")
    if not isinstance(leaks, list):
        return "has no list of 'leaks'"
    for number, leak in enumerate(leaks, 1):
        if not isinstance(leak, dict):
            return f"has no object as leak {number}"
        for name in _NAMES:
            if not isinstance(leak.get(name), str):
                return f"has no text as {name!r} of leak {number}"
        lines = leak.get("lines", 0)
        if not isinstance(lines, int) or isinstance(lines, bool) or lines < 0:
            return f"has no number as 'lines' of leak {number}"
    return None


def _message(path: str | os.PathLike[str], reason: str) -> str:
    return plain(f"{path}: the baseline {reason}. Mend the file, or remove it and record it anew")
