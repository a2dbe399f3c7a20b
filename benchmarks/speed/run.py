#!/usr/bin/env python3
"""What the plugin costs a suite, beside what doing nothing in the same hooks costs, and beside what others cost.

    run.py [--python PY] [--runs N] [--only NAME ...] [--contenders NAME,...] [--autoload] [--bytecode] [--json FILE]

Every contender runs in turn (A B C A B C ...), so that a change of the machine's speed meets them all. The figure is CPU
seconds (user and system) of the whole process tree, the minimum over the runs, as a ratio to the bare run's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from workloads import WORKLOADS, Workload

FLOOR = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    return (yield)

@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    return (yield)
"""

PSUTIL = """
import threading
import psutil, pytest

PROCESS = psutil.Process()

@pytest.fixture(autouse=True)
def _counted():
    before = PROCESS.net_connections(), PROCESS.num_fds(), set(threading.enumerate())
    yield
    after = PROCESS.net_connections(), PROCESS.num_fds(), set(threading.enumerate())
"""

# Arguments, and the module that must be installed.
CONTENDERS = {
    "bare": (["-p", "no:httpleak"], None),
    "floor": (["-p", "no:httpleak", "-p", "floor_hooks"], None),
    "httpleak": (["-p", "httpleak"], "pytest_httpleak"),
    "psutil-fixture": (["-p", "no:httpleak", "-p", "psutil_fixture"], "psutil"),
    "pyleak": (["-p", "no:httpleak", "-p", "pyleak.pytest_plugin"], "pyleak"),
    "pytest-threadleak": (["-p", "no:httpleak", "-p", "pytest_threadleak", "--threadleak"], "pytest_threadleak"),
}


def has(python: str, module: str | None) -> bool:
    """Whether that interpreter can import a module."""
    if module is None:
        return True
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


class Start(NamedTuple):
    """How pytest is started: whether it finds plugins by itself, and whether bytecode may be written for the next run."""

    autoload: bool = False
    bytecode: bool = False

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of a run in that folder."""
        environment = dict(os.environ, PYTHONPATH=str(folder))
        for name, is_unset in (
            ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", self.autoload),
            ("PYTHONDONTWRITEBYTECODE", self.bytecode),
        ):
            environment.pop(name, None)
            if not is_unset:
                environment[name] = "1"
        return environment


def seconds(python: str, arguments: list[str], workload: Workload, folder: Path, start: Start) -> float:
    """CPU seconds of one run."""
    plugins = ["-p", "asyncio"] if "pytest_asyncio" in workload.needs and not start.autoload else []
    environment = start.environment(folder)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(python: str, workload: Workload, contenders: list[str], runs: int, start: Start) -> dict[str, float]:
    """The fastest of some alternating runs of each contender."""
    with tempfile.TemporaryDirectory(prefix="httpleak-speed-") as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text(
            "[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = asyncio\n"
        )
        (folder / "conftest.py").write_text(workload.conftest)
        (folder / "test_workload.py").write_text(workload.test)
        (folder / "floor_hooks.py").write_text(FLOOR)
        (folder / "psutil_fixture.py").write_text(PSUTIL)
        best = dict.fromkeys(contenders, float("inf"))
        for _ in range(runs):
            for contender in contenders:
                spent = seconds(python, CONTENDERS[contender][0], workload, folder, start)
                best[contender] = min(best[contender], spent)
    return best


def main() -> None:
    """Measure, print a line for each workload, and write the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", action="append", choices=list(WORKLOADS), default=[])
    parser.add_argument("--contenders", default="bare,floor,httpleak")
    parser.add_argument("--autoload", action="store_true", help="let pytest find the installed plugins by itself")
    parser.add_argument("--bytecode", action="store_true", help="let bytecode be written, and read by the next run")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    wanted = given.contenders.split(",")
    if given.runs < 1:
        parser.error(f"--runs={given.runs}: there must be at least 1")
    unknown = set(wanted) - CONTENDERS.keys()
    if unknown or "bare" not in wanted:
        wrong = f"unknown: {', '.join(sorted(unknown))}" if unknown else "'bare' is what the others are compared with"
        parser.error(f"--contenders={given.contenders}: {wrong}. Valid names: {', '.join(CONTENDERS)}")
    contenders = [name for name in wanted if has(given.python, CONTENDERS[name][1])]
    for name in set(wanted) - set(contenders):
        print(f"{name}: not installed, left out")
    figures = {}
    for name in given.only or WORKLOADS:
        workload = WORKLOADS[name]
        if not all(has(given.python, module) for module in workload.needs):
            print(f"{name:12} left out: needs {', '.join(workload.needs)}")
            continue
        best = figures[name] = measured(
            given.python, workload, contenders, given.runs, Start(given.autoload, given.bytecode)
        )
        print(
            f"{name:12} " + "  ".join(f"{each} {best[each]:.3f} s x{best[each] / best['bare']:.3f}" for each in best),
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
