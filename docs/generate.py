"""Writes the parts of the documentation that are stated elsewhere: example output, versions, options.

`--check` writes nothing and fails where a part is out of date.
"""

import argparse
import difflib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pytest_httpleak.settings import option_table
from rows import RowRun

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SHOWN = "export_never_closed"
# What differs from run to run, and what is shown in its place.
CHANGING = (
    (re.compile(r"127\.0\.0\.1:\d+ ->"), "127.0.0.1:50000 ->"),
    (re.compile(r"127\.0\.0\.1:\d+(?! ->)\b"), "127.0.0.1:8000"),
    (re.compile(r"\bfd \d+"), "fd 14"),
    (re.compile(r"\d+\.\d+ ?(m?s\b|%)"), r"... \1"),
    (re.compile(r"'Task-\d+'"), "'Task-7'"),
    (re.compile(r'"fd": \d+'), '"fd": 14'),
    (re.compile(r"\((\w+\.py):\d+\)"), r"(\1)"),
    (re.compile(r"/\S*/pytest-of-\w+/pytest-\d+/"), "/.../"),
)


def failing_output() -> str:
    """One leaking example and its twin, as a user sees them run."""
    text = re.sub(r"(?m)^=+ httpleak =+\n.*?(?=^httpleak: )", "[...]\n", run("-q", "-k", SHOWN), flags=re.DOTALL)
    return f"```console\n$ pytest -p httpleak -q -k {SHOWN}\n{text.rstrip()}\n```"


def planted_leaks() -> str:
    """Every planted leak of the examples, as the report words it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "leaks.json")
        run(f"--httpleak-report={path}")
        report = json.loads(steady(path.read_text(encoding="utf-8")))
    rows = [planted_row(test["nodeid"], finding) for test in report["tests"] for finding in test["findings"]]
    return table(["example", "finding", "hint"], rows)


def planted_row(nodeid: str, finding: dict[str, Any]) -> list[str]:
    name = nodeid.rpartition("::")[2]
    count = f" x{finding['count']}" if finding["count"] > 1 else ""
    created = finding["created"]
    where = f"{created['file']}:{created['line']}"
    text = f"{finding['kind']}{count}, {finding['type']}, {finding['state']}: {finding['summary']}"
    return [f"`{name}`", f"{text}<br>at `{where}`", finding["hint"]]


def libraries() -> str:
    """Each library with the versions that noxfile.py tests."""
    tested = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest-httpleak"]["tested"]
    rows = []
    for name, entry in tested.items():
        own = [name.strip() for name in name.split(",")]
        oldest, newest = (
            ", ".join(version for package, _, version in (pin.partition("==") for pin in entry[age]) if package in own)
            for age in ("oldest", "newest")
        )
        rows.append([name, oldest, newest])
    return table(["library", "oldest tested", "newest tested"], rows)


def options() -> str:
    """Everything that can be set, from the plugin's own table: one row for each thing, wherever it can be written."""
    places = ["command line", "ini file", "marker"]
    rows: dict[str, dict[str, str]] = {}
    for row in option_table():
        cells = rows.setdefault(row.help, {"default": row.default and f"`{row.default}`"})
        cells[row.where] = f"`{row.name}`"
    heads = [*places, "default"]
    return table(
        [*heads, "what it does"], ([*(cells.get(head, "") for head in heads), text] for text, cells in rows.items())
    )


@functools.cache
def row_run() -> RowRun:
    """The one run that all rows are cut from."""
    return RowRun(environment(), steady)


BLOCKS: dict[str, Callable[[], str]] = {
    **{f"row{number}": functools.partial(lambda each: row_run().block(each), number) for number in range(1, 21)},
    "output": failing_output,
    "planted": planted_leaks,
    "libraries": libraries,
    "options": options,
}


def run(*arguments: str) -> str:
    """Run pytest on the examples, alone with the plugins they need; what changes from run to run is replaced."""
    command = [sys.executable, "-m", "pytest", "-p", "asyncio", "-p", "httpleak", "--color=no", *arguments]
    done = subprocess.run(command, cwd=EXAMPLES, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 1:
        sys.exit(f"pytest ended with status {done.returncode}, not 1:\n{done.stdout}{done.stderr}")
    return steady(done.stdout)


def environment() -> dict[str, str]:
    """The same on every machine: no settings of the person who runs it, and a terminal of a fixed width."""
    environment = os.environ | {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= {"COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS"):  # pytest and the plugin print more there
        environment.pop(name, None)
    return environment


def steady(text: str) -> str:
    for pattern, instead in CHANGING:
        text = pattern.sub(instead, text)
    return text


def table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(text: str, made: dict[str, str]) -> str:
    """The text with each of its blocks written anew."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in made:
            made[name] = BLOCKS[name]()
        return f"<!-- {name}:begin -->\n{made[name]}\n<!-- {name}:end -->"

    return re.sub(r"<!-- (?P<name>\w+):begin -->\n.*?<!-- (?P=name):end -->", block, text, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a part is out of date")
    is_check = parser.parse_args().check
    made: dict[str, str] = {}
    outdated = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        name = path.relative_to(ROOT).as_posix()
        old = path.read_text(encoding="utf-8")
        new = filled(old, made)
        if new == old:
            continue
        outdated.append(name)
        if is_check:
            print(
                *difflib.unified_diff(old.splitlines(), new.splitlines(), name, "as generated", lineterm=""), sep="\n"
            )
        else:
            path.write_text(new, encoding="utf-8")
    if is_check and outdated:
        print(f"docs: out of date: {', '.join(outdated)}; run `make docs`")
        return 1
    print(f"docs: written: {', '.join(outdated)}" if outdated else "docs: up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
