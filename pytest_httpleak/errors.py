"""The exceptions and the warning in which it is said what the code under test did."""

from __future__ import annotations

from pytest_httpleak.model.findings import Finding


class LeakError(AssertionError):
    """Something was left open, pending or running by its owner; `findings` says what."""

    def __init__(self, text: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(text)
        self.findings = findings
        # The test whose row it has been put into: pytest raises that of a wider fixture for each of its tests.
        self.taken = ""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class LatencyError(AssertionError):
    """Calls took longer than `httpleak.soak()` was told that they may."""


class HttpLeakWarning(UserWarning):
    """A leak in the mode `warn`: reported, and no failure."""
