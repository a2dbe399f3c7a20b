"""What becomes more and more while some code is called again and again: looks at what is open, line by line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_httpleak import rules
from pytest_httpleak.asking import collect
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import State, Verdict
from pytest_httpleak.session.growth import hint_for
from pytest_httpleak.session.linecounts import Key, LineCounts
from pytest_httpleak.session.slopes import CONFIDENCE, Slope, rising
from pytest_httpleak.session.verdicts import named
from pytest_httpleak.settings import Mode

if TYPE_CHECKING:
    from pytest_httpleak.owners import Owner
    from pytest_httpleak.session.checks import Check
    from pytest_httpleak.session.core import Session


class LinesMeanwhile:
    """The numbers of what is open of each line, at each look; what rises is a finding."""

    def __init__(self, session: Session, check: Check) -> None:
        self._session = session
        self._check = check
        self._lines = LineCounts(session.watch, session.ledger, session.looking)
        self._at: list[int] = []  # calls before each look
        self._counts: dict[Key, list[int]] = {}

    def look(self, calls: int) -> None:
        """Count what is open after so many calls, unless that was just done."""
        if self._at and calls == self._at[-1]:
            return
        for key, number in self._lines.now().items():
            counts = self._counts.setdefault(key, [])
            counts += [0] * (len(self._at) - len(counts))
            counts.append(number)
        self._at.append(calls)

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Let what is started meanwhile, which calls the code, not count among what the test has open at once."""
        owner: Owner | None = self._check.owner
        peaks = []
        while owner is not None:
            if owner.peaks is not None and not owner.peaks.busy:
                peaks.append(owner.peaks)
            owner = owner.parent
        for each in peaks:
            each.busy = True
        try:
            yield
        finally:
            for each in peaks:
                each.busy = False

    @property
    def number(self) -> int:
        """How many looks there were, after different numbers of calls."""
        return len(self._at)

    def findings(self) -> tuple[Finding, ...]:
        """What rises, but for what the calls are told to have left themselves."""
        known = {(finding.kind, finding.library, finding.created or finding.type) for finding in self._check.findings}
        found = {key: slope for key, slope in self._rising() if key[:3] not in known}
        if not found or self._check.settings.mode is Mode.OFF:
            return ()
        collect()
        still = self._lines.now(thorough=True)
        for key in found:
            if key in still:
                self._lines.name_keeper(key)
        suspects = {key: self._lines.told[key] for key in found if key in still}
        files = {site.file: self._session.relative(site.file) for each in suspects.values() for site in each.stack}
        settings = self._check.settings
        counted, _ = rules.split_ignored(suspects.values(), settings.ignore, files)
        verdict = Verdict.WARNED if settings.mode is Mode.WARN else Verdict.LEAKED
        rising = [
            self._finding(key, found[key], verdict)
            for key, suspect in suspects.items()
            if any(suspect is each for each in counted) and suspect.kind in settings.kinds
        ]
        return named(self._session, rising, self._check)

    def _rising(self) -> Iterator[tuple[Key, Slope]]:
        for key, counts in self._counts.items():
            counts.extend([0] * (len(self._at) - len(counts)))
            slope = rising(self._at, counts)
            if slope is not None:
                yield key, slope

    def _finding(self, key: Key, slope: Slope, verdict: Verdict) -> Finding:
        told, counts = self._lines.told[key], self._counts[key]
        more = (
            f"{counts[0]} -> {counts[-1]} in {self._at[-1]} calls, {slope.middle:.3g} more with each "
            f"({CONFIDENCE:.0%} sure: {slope.low:.3g} to {slope.high:.3g}); the last one: {told.summary}"
        )
        return Finding(
            kind=told.kind,
            library=told.library,
            type=told.type,
            state=State.OPEN,
            summary=more,
            created=told.created,
            stack=told.stack,
            count=max(1, counts[-1] - counts[0]),
            holds=told.holds,
            held_by=told.held_by,
            hint=hint_for(told.type, "call"),
            verdict=verdict,
        )
