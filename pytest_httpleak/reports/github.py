"""Leaks as annotations of a GitHub Actions run: each stands beside its line of code in the pull request."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.kinds import State, Verdict
from pytest_httpleak.reports.causes import Cause, causes, first_names
from pytest_httpleak.reports.places import relative_path
from pytest_httpleak.reports.text_safety import safe, safe_name
from pytest_httpleak.reports.wording import described, noun

if TYPE_CHECKING:
    from pytest_httpleak.model.run import Run

_MAX_NAMES: Final = 5


def error_commands(run: Run, *, workspace: str | None = None) -> list[str]:
    """One `::error` command for each new cause, worst first: GitHub shows no more than ten of a step.

    `workspace` is the root of the checkout (`GITHUB_WORKSPACE`), where that is not pytest's rootdir.
    """
    return [_annotation(cause, run.rootdir, workspace or run.rootdir) for cause in causes(run, Verdict.LEAKED)]


def _annotation(cause: Cause, rootdir: str, workspace: str) -> str:
    finding = cause.finding
    created = finding.created
    file, line = (cause.owners[0].file, cause.owners[0].line) if created is None else (created.file, created.line)
    if created is None and rootdir != workspace:
        file = str(PurePath(rootdir, file))
    title = "limit exceeded" if finding.state is State.PEAK else "leaked"
    properties = {
        "file": safe_name(relative_path(file, workspace)),
        "line": str(line),
        "title": f"{noun(finding.kind)} {title} ({cause.extent})",
    }
    lines = [described(finding), f"in: {first_names(cause.owners, _MAX_NAMES)}"]
    if finding.hint:
        lines.append(f"fix: {safe(finding.hint)}")
    shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::error {shown}::{_data(chr(10).join(lines))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
