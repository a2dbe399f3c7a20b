"""One judged life: who answers, on what terms, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.owners import Owner
from pytest_httpleak.settings import Mode, Settings

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Finding
    from pytest_httpleak.model.rows import AuditNote


class Check:
    """One judged life - a test's, a wider fixture's, a block's - with the settings that count for it and its findings."""

    __slots__ = (
        "cleanly",
        "failed",
        "findings",
        "finished",
        "judged",
        "notes",
        "of_blocks",
        "owner",
        "repeated",
        "runs",
        "settings",
        "tasks_before",
    )

    def __init__(self, owner: Owner, settings: Settings) -> None:
        self.owner = owner
        self.settings = settings
        self.findings: tuple[Finding, ...] = ()
        self.of_blocks: tuple[Finding, ...] = ()  # those of checked blocks inside it, which have terms of their own
        self.notes: tuple[AuditNote, ...] = ()
        self.judged = False
        self.failed = False  # by an error of the plugin's own, so that nobody knows all that it has left
        self.cleanly = False  # torn down without an error of its own: what fails the teardown is a wider fixture's
        self.finished = False  # nothing has failed or skipped it: what it has not left by its end it does not leave
        self.tasks_before = 0
        self.runs = 1
        self.repeated = 1

    @property
    def is_unchecked(self) -> bool:
        """Whether nothing can be said of what it has left."""
        return self.settings.mode is Mode.OFF or (self.failed and not self.findings)

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that fail."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.LEAKED)

    @property
    def own_leaks(self) -> tuple[Finding, ...]:
        """The same without those that a checked block has raised already."""
        return tuple(each for each in self.leaks if not any(each is told for told in self.of_blocks))

    def take_from_block(self, findings: tuple[Finding, ...]) -> None:
        """Show the findings of a checked block as well."""
        self.findings += findings
        self.of_blocks += findings

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that only warn."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.WARNED)
