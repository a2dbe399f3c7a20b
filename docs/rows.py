"""What the plugin prints for each file of examples/rows, cut out of one run over all of them."""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROWS = Path(__file__).resolve().parent.parent / "examples" / "rows"
# Sections of the terminal that belong to one test; whatever it printed is among the passed ones.
_HEADING = re.compile(r"_+ (?P<name>test_\w+)(?:\[.*\])? _+$")
_RULE = re.compile(r"[-=_]{5,}")
_LINES_OF_FINDING = 40


class RowRun:
    """One run over all rows, whose changing parts have been replaced by `steady`."""

    def __init__(self, environment: dict[str, str], steady: Callable[[str], str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            reports = {suffix: Path(folder, f"leaks.{suffix}") for suffix in ("prom", "json")}
            command = [sys.executable, "-m", "pytest", "-p", "asyncio", "-p", "httpleak", "-rP", "--color=no"]
            command += [f"--httpleak-report={path}" for path in reports.values()]
            done = subprocess.run(command, cwd=ROWS, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 1:
                sys.exit(f"pytest ended with status {done.returncode}, not 1:\n{done.stdout}{done.stderr}")
            self.text = steady(done.stdout)
            self.metrics = steady(reports["prom"].read_text(encoding="utf-8"))
            self.report = json.loads(steady(reports["json"].read_text(encoding="utf-8")))

    def block(self, number: int) -> str:
        """The example of a row, and what is printed for it."""
        (path,) = ROWS.glob(f"test_row_{number:02}_*.py")
        code = re.sub(r"  # noqa: .*", "", path.read_text(encoding="utf-8").strip())
        said = [*self._sections(code), *self._summary(path.name), *self._files(number, path.name)]
        shown = "\n".join(said).strip("\n")
        name = path.relative_to(ROWS.parent.parent).as_posix()
        return f"[{name}](../{name})\n\n```python\n{code}\n```\n\n```text\n{shown}\n```"

    def _sections(self, code: str) -> list[str]:
        """The messages of the tests in that file, and what they printed, from the sections of the terminal."""
        said: list[str] = []
        name = ""
        for line in self.text.splitlines():
            match = _HEADING.match(line)
            if match:
                name = match["name"]
            elif line.startswith("=" * 5):
                name = ""
            elif name and f"def {name}(" in code and not _RULE.match(line):
                said.append(line)
        return said

    def _summary(self, file: str) -> list[str]:
        """The lines of the summary that name the file: what grows, and notes."""
        _, _, growing = self.text.partition("Growing, test after test:\n")
        paragraphs = [part.strip("\n") for part in growing.partition("\nnote: ")[0].split("\n\n")]
        said = [part for part in paragraphs if part.startswith(file)]
        for line, fix in itertools.pairwise(self.text.splitlines()):
            if line.startswith(f"note: {file}:"):
                said += [line, fix]
        return said

    def _files(self, number: int, file: str) -> list[str]:
        """Where a row is about a report, what that says."""
        if number == 18:
            lines = (line for line in self.metrics.splitlines() if 'library="urllib3"' in line)
            return ["# of leaks.prom:", *(line for line in lines if "state=" not in line)]
        if number == 20:
            (test,) = (each for each in self.report["tests"] if each["nodeid"].startswith(f"{file}::"))
            (finding,) = test["findings"]
            del finding["stack"]
            return ["# of leaks.json:", *json.dumps(finding, indent=1).splitlines()[:_LINES_OF_FINDING]]
        return []
