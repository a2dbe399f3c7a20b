"""Runs the examples with pytest-httpleak and checks the report against the comments in their source.

`# planted: KIND` stands on the line that creates what leaks, `xN` behind it where the line does so N times in
one test. Exit status 0 exactly when all of these were found, at their line, and nothing else was.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLANTED = re.compile(r"# planted: (?P<kind>[a-z]+)(?: x(?P<count>\d+))?$")
MENDED = "_mended"

Leak = tuple[str, str, int]  # kind, file below this folder, line


def planted(folder: Path = HERE) -> Counter[Leak]:
    """How many resources each commented line leaks."""
    found: Counter[Leak] = Counter()
    for path in sorted(folder.rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.COMMENT and (match := PLANTED.match(token.string)):
                leak = (match["kind"], path.relative_to(folder).as_posix(), token.start[0])
                found[leak] = int(match["count"] or 1)
    return found


def reported(findings: list[dict[str, Any]]) -> Counter[Leak]:
    """How many resources the report says each line leaked."""
    found: Counter[Leak] = Counter()
    for finding in findings:
        created = finding["created"] or {"file": "unknown", "line": 0}
        found[finding["kind"], Path(created["file"]).as_posix(), created["line"]] += finding["count"]
    return found


def differences(report: dict[str, Any], expected: Counter[Leak]) -> Iterator[str]:
    """What the report says differently from the comments, a line for each."""
    if report["schema"] != 1 or not report["summary"]["complete"]:
        yield "the report is not complete, or of another schema"
    found = reported([finding for test in report["tests"] for finding in test["findings"]])
    for leak in sorted(expected | found):
        kind, file, line = leak
        if found[leak] != expected[leak]:
            yield f"{file}:{line}: {found[leak]} {kind} found, {expected[leak]} planted"
    names = {test["nodeid"].rpartition("::")[2] for test in report["tests"]}
    for test in report["tests"]:
        name = test["nodeid"].rpartition("::")[2]
        seen = (test["outcome"], len(test["findings"]))
        right = ("clean", 0) if name.endswith(MENDED) else ("leaked", 1)
        if seen != right:
            yield f"{test['nodeid']}: {seen[0]} with {seen[1]} findings, not {right[0]} with {right[1]}"
        if (name.removesuffix(MENDED) if name.endswith(MENDED) else name + MENDED) not in names:
            yield f"{test['nodeid']}: its twin was not checked"
    for fixture in report["fixtures"]:
        yield f"fixture {fixture['name']} ({fixture['scope']}): {fixture['outcome']}"


def run_examples(report: Path) -> int:
    """Run pytest on this folder, its output shown as it comes, and return its exit status."""
    # Only the plugins that the examples need: whatever else is installed or configured here stays out of it.
    environment = os.environ | {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["GITHUB_ACTIONS"] = "false"  # planted leaks are not for the view of a change
    color = "yes" if sys.stdout.isatty() else "no"
    command = [sys.executable, "-m", "pytest", "-p", "asyncio", "-p", "httpleak", f"--httpleak-report={report}"]
    return subprocess.run([*command, f"--color={color}", "."], cwd=HERE, env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", type=Path, help="check this JSON report instead of running the examples")
    given = parser.parse_args().report
    with tempfile.TemporaryDirectory() as folder:
        path = given or Path(folder, "leaks.json")
        status = 1 if given else run_examples(path)
        if not path.exists():
            print(f"demo: pytest ended with status {status} and wrote no report")
            return 1
        report = json.loads(path.read_text(encoding="utf-8"))
    expected = planted()
    wrong = list(differences(report, expected))
    if status != 1:
        wrong.append(f"pytest ended with status {status}; failed tests, and nothing worse, make it 1")
    for line in wrong:
        print(f"demo: {line}")
    if wrong:
        print(f"demo: failed; differences between what was planted and what was found: {len(wrong)}")
        return 1
    found, clean = len(expected), report["summary"]["clean"]
    print(f"demo: {found} planted leaks found, each at its own line; {clean} mended twins clean; nothing else reported")
    return 0


if __name__ == "__main__":
    sys.exit(main())
