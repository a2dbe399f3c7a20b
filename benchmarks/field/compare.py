"""Tells what the plugin changed in a suite: outcomes by test, findings, warnings, time."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from suites import Suite

Result = dict[str, Any]
# The first line of the plugin's own failure, which is all that a JUnit file tells of an error's class.
LEAK = re.compile(
    r"(?:.*LeakError: |failed on teardown with \")?\d+ "
    r"(?:leaks: |(?:HTTP \w+|socket|file descriptor|asyncio task|thread|event loop)s? leaked\b)"
)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One run: for each test what became of it, leaks left out; the closing line's figures; the time it took."""

    tests: dict[str, tuple[str, ...]]
    leaks: frozenset[str]
    warnings: int
    seconds: float
    crashed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between a run without the plugin and one with it."""

    suite: Suite
    without: Outcomes
    with_plugin: Outcomes
    report: Result
    changed: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    flickering: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing differs save the plugin's own findings, and no part of it was switched off."""
        cut_short = self.with_plugin.crashed or self.without.crashed
        return not (self.changed or cut_short or self.report.get("disabled"))

    def text(self) -> str:
        """The figures in a few lines, and each outcome that changed."""
        summary = self.report["summary"]
        found = [row for row in self.report["tests"] + self.report["fixtures"] if row["findings"]]
        figures = (
            f"{len(self.without.tests)} tests",
            f"{len(self.changed)} outcomes changed",
            f"{sum(len(row['findings']) for row in found)} findings in {len(found)} tests and fixtures",
            f"{self.without.seconds:.1f} s without and {self.with_plugin.seconds:.1f} s with",
        )
        cost = f"{summary['seconds_in_plugin']:.2f} s in the plugin"
        lines = [f"{self.suite.name} {self.suite.version}: {', '.join(figures)} ({cost})"]
        if self.without.warnings != self.with_plugin.warnings:
            lines.append(f"  warnings: {self.without.warnings} without, {self.with_plugin.warnings} with")
        for run, words in ((self.without, "without"), (self.with_plugin, "with")):
            if run.crashed:
                lines.append(
                    f"  CUT SHORT: the run {words} the plugin could not collect all tests, or has an internal error"
                )
        lines += [
            f"  changed: {name}: {' '.join(a) or 'absent'} -> {' '.join(b) or 'absent'}"
            for name, (a, b) in self.changed.items()
        ]
        lines += [f"  SWITCHED OFF: {each}" for each in self.report.get("disabled", ())]
        lines += [f"  flickers without the plugin: {name}" for name in self.flickering]
        return "\n".join(lines)


def read_outcomes(junit: Path) -> Outcomes:
    """Read a JUnit file, and the log and time beside it."""
    tests: dict[str, list[str]] = defaultdict(list)
    leaks = set()
    for case in ET.parse(junit).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcomes = tests[name]
        for part in case:
            if part.tag in ("failure", "error", "skipped"):
                if LEAK.match(part.get("message") or ""):
                    leaks.add(name)
                else:
                    outcomes.append(f"{part.tag}({part.get('type') or _first_words(part.get('message') or '')})")
    log = junit.with_suffix(".log").read_text(errors="replace")
    closing = re.findall(r"(\d+) warnings?\b.* in [\d.]+s", log)
    return Outcomes(
        tests={name: tuple(sorted(outcomes)) or ("passed",) for name, outcomes in tests.items()},
        leaks=frozenset(leaks),
        warnings=int(closing[-1]) if closing else 0,
        seconds=float(junit.with_suffix(".seconds").read_text()),
        crashed="INTERNALERROR" in log or "!!! Interrupted: " in log,
    )


def _first_words(message: str) -> str:
    return message.partition(":")[0][:60]


def compare(
    suite: Suite, without: Outcomes, with_plugin: Outcomes, report: Result, again: Outcomes | None = None
) -> Comparison:
    """What the plugin changed; `again` is a second run without it, to tell which tests flicker by themselves."""
    changed = {}
    flickering = []
    for name in without.tests | with_plugin.tests:
        a, b = without.tests.get(name, ()), with_plugin.tests.get(name, ())
        if a != b:
            if again is not None and again.tests.get(name, ()) != a:
                flickering.append(name)
            else:
                changed[name] = (a, b)
    return Comparison(suite, without, with_plugin, report, changed, flickering)


def findings_text(report: Result) -> str:
    """Every finding, those of the same kind and line together with the first test that has it."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in report["tests"] + report["fixtures"]:
        for finding in row["findings"]:
            created = finding["created"]
            place = "?" if created is None else f"{created['file']}:{created['line']} {created['function']}"
            key = (
                finding["kind"],
                finding["type"],
                finding["state"],
                place,
                re.sub(r"(?<=\bfd )\d+|\d{4,}\b", "N", finding["summary"]),
            )
            owner = row.get("nodeid") or f"fixture {row['name']} ({row['scope']}, {row['file']}:{row['line']})"
            groups[key].append(f"{owner} x{finding['count']} {finding['held_by'] or ''}".rstrip())
    lines = []
    for key, owners in sorted(groups.items()):
        lines.append(f"[{len(owners)}] " + " | ".join(key))
        lines.append(f"      {owners[0]}")
    return "\n".join(lines)
