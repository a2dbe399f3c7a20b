"""Runs pytest inside a test: hermetic, in a process of its own, with the plugin and a JSON report."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from forkserver import ForkServer

# What a run says of errors of the plugin's own.
_FAULTS: Final = re.compile(r"httpleak: .*(was switched off|stays off|an error in|could not say).*|INTERNALERROR.*")


class Inner:
    """Inner runs in one folder; `report` is that of the last one."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path: Path = pytester.path
        self.report: dict[str, Any] = {}

    def write(self, **files: str) -> None:
        """Write test files: `write(test_a="...")`."""
        self.pytester.makepyfile(**files)

    def install(self, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
        """Write modules of a library, as if it were installed: `install(monkeypatch, sdk="...")`."""
        folder = self.path / "site-packages"
        folder.mkdir()
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text, "utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    def run(self, *args: str, plugin: tuple[str, ...] = ("-p", "httpleak"), faulty: bool = False) -> pytest.RunResult:
        """Run pytest with the plugin, which may have errors of its own only in what is made to be `faulty`."""
        path = self.path / "report.json"
        path.unlink(missing_ok=True)
        common = ("-p", "no:cacheprovider", "--httpleak-grace=0.1", f"--httpleak-report={path}")
        result = self.pytester.runpytest_subprocess(*plugin, *common, *args)
        self.report = json.loads(path.read_text("utf-8")) if path.exists() else {}
        faults = [match.group() for match in map(_FAULTS.search, result.outlines) if match is not None]
        assert faulty or faults == []
        return result

    def judge(self, *arguments: str, **outcomes: str) -> pytest.RunResult:
        """Run the tests, whose outcomes these are, with each leak found once."""
        result = self.run(*arguments)
        assert self.outcomes() == outcomes, result.stdout.str()
        counts = [finding["count"] for row in self.report["tests"] for finding in row["findings"]]
        assert counts == [1] * list(outcomes.values()).count("leaked")
        return result

    def outcomes(self) -> dict[str, str]:
        """Outcome by test name, without file and class."""
        return {row["nodeid"].rpartition("::")[2]: row["outcome"] for row in self.report["tests"]}


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer | None]:
    """What starts the inner runs, where processes can be forked."""
    server = ForkServer() if hasattr(os, "fork") else None
    yield server
    if server is not None:
        server.stop()


@pytest.fixture
def inner(
    request: pytest.FixtureRequest, fresh: Inner, monkeypatch: pytest.MonkeyPatch, fork_server: ForkServer | None
) -> Inner:
    """Inner runs without any plugin but those that are named."""
    if fork_server is not None:
        popen = partial(fork_server.popen, fresh.pytester, whole_heap="whole_heap" in request.fixturenames)
        monkeypatch.setattr(fresh.pytester, "popen", popen)
    return fresh


@pytest.fixture
def fresh(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    """The same in processes that have imported nothing before, which take half a second to begin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("BUILD_NUMBER", "CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return Inner(pytester)
