"""Inner suites whose comments state the truth: `# leak: KIND [xN] [@ID]` on the line that makes what leaks.

In a test it is that test's; in a fixture, a helper or a set-up method, that of each test whose docstring says so:
`Leaks: name, name.` `# leak-fixture: KIND [xN]` is the leak of the fixture of a wider scope around it.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

Found = Counter[tuple[str, int, str]]

_COMMENT = re.compile(r"#\s*leak(?P<wide>-fixture)?:\s*(?P<kind>[a-z]+)(?:\s+x(?P<count>\d+))?(?:\s+@(?P<id>\S+))?\s*$")


class Suite:
    """Files of one inner run."""

    def __init__(self, **files: str) -> None:
        self.files = {name.replace("__", "/") + ".py": text.lstrip("\n") for name, text in files.items()}
        self.tests: dict[str, ast.AST] = {}
        self._functions: dict[str, tuple[str, ast.AST]] = {}
        for file, text in self.files.items():
            self._read(file, ast.parse(text))
        self.folder = Path()

    def _read(self, file: str, tree: ast.Module) -> None:
        for node in tree.body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            for function in inner:
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    name = f"{node.name}.{function.name}" if isinstance(node, ast.ClassDef) else function.name
                    self._functions[name] = (file, function)
                    if function.name.startswith("test_"):
                        self.tests[f"{file}::{name.replace('.', '::')}"] = function

    @property
    def fixtures(self) -> list[str]:
        """The names of the functions with a wider fixture's leak."""
        return [name for name, (file, node) in self._functions.items() if self._causes(file, node, wide=True)]

    def run(self, folder: Path, *args: str, **environment: str) -> Suite:
        """Run the files, in a process of its own."""
        self.folder = folder
        for file, text in self.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        report = folder / "report.json"
        command = [sys.executable, "-m", "pytest", "-p", "httpleak", "-p", "no:cacheprovider", "--httpleak-grace=0.1"]
        command += [f"--httpleak-report={report}", f"--rootdir={folder}", "-q", *args, str(folder)]
        fixed = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "160"}
        variables = os.environ | fixed | environment
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False
        )
        (folder / "output.txt").write_text(done.stdout + done.stderr, "utf-8")
        assert report.exists(), self.output
        return self

    def in_folder(self, folder: Path) -> Suite:
        """The suite as somebody else has run it there."""
        self.folder = folder
        return self

    @functools.cached_property
    def output(self) -> str:
        """What the run has printed."""
        return (self.folder / "output.txt").read_text("utf-8")

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """The JSON report of the run."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text("utf-8"))
        return report

    def expected(self, nodeid: str) -> Found:
        """What the comments say of one test, given with its parameters."""
        base, _, parameters = nodeid.partition("[")
        file = nodeid.partition("::")[0]
        node = self.tests[base]
        found = self._found(file, node, parameters.rstrip("]"))
        for name in re.findall(r"Leaks: ([\w., ]+?)\.?$", ast.get_docstring(node) or "", re.MULTILINE):  # type: ignore[arg-type]
            for each in name.split(", "):
                found += self._found(*self._functions[each], parameters.rstrip("]"))
        return found

    def expected_of_fixture(self, name: str) -> Found:
        """What the comments say of one wider fixture."""
        return self._found(*self._functions[name], "", wide=True)

    def seen(self, nodeid: str) -> Found:
        """What the report says of one test."""
        rows = [row for row in self.report["tests"] if row["nodeid"] == nodeid]
        assert len(rows) == 1, f"{nodeid}: {len(rows)} rows\n{self.output}"
        found = _counted(rows[0]["findings"])
        assert rows[0]["outcome"] == ("leaked" if found else "clean")
        return found

    def seen_of_fixture(self, name: str) -> Found:
        """What the report says of one wider fixture."""
        return _counted([each for row in self.fixture_rows(name) for each in row["findings"]])

    def fixture_rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one wider fixture."""
        return [row for row in self.report["fixtures"] if row["name"] == name]

    def runs_of(self, nodeid: str) -> list[str]:
        """The test's id with each of its parameters."""
        return [row["nodeid"] for row in self.report["tests"] if row["nodeid"].partition("[")[0] == nodeid]

    def _found(self, file: str, node: ast.AST, parameters: str, *, wide: bool = False) -> Found:
        found: Found = Counter()
        for line, match in self._causes(file, node, wide=wide):
            if match["id"] in (None, parameters):
                found[file, line, match["kind"]] += int(match["count"] or 1)
        return found

    def _causes(self, file: str, node: Any, *, wide: bool) -> list[tuple[int, re.Match[str]]]:
        lines = self.files[file].splitlines()[node.lineno - 1 : node.end_lineno]
        found = [(number, _COMMENT.search(line)) for number, line in enumerate(lines, node.lineno)]
        return [(number, match) for number, match in found if match and bool(match["wide"]) == wide]


def _counted(findings: list[dict[str, Any]]) -> Found:
    found: Found = Counter()
    for finding in findings:
        created = finding["created"] or {"file": "", "line": 0}
        found[created["file"], created["line"], finding["kind"]] += finding["count"]
    return found
