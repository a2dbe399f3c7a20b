"""Inner runs of pytest that do without its start: each is a fork of a process that has imported pytest.

Half of the time that a run of two tests takes is the start of the interpreter and the import of pytest. Everything that can
differ from run to run is the fork's own: the plugin and what it watches, environment, directory, import path, descriptors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

_PYTEST: Final = [sys.executable, "-mpytest"]  # as pytester starts it
_MAIN: Final = Path(__file__).with_name("forkserver_main.py")
_EXEC: Final = f"exec(compile(open({str(_MAIN)!r}).read(), '<forkserver>', 'exec'))"


def _of_the_start(environment: dict[str, str]) -> dict[str, str]:
    """What the interpreter and coverage look at when they start; the import path can be changed afterwards."""
    names = ("PYTHON", "COVERAGE_")
    return {key: value for key, value in environment.items() if key.startswith(names) and key != "PYTHONPATH"}


class ForkServer:
    """Starts runs of pytest for one process of the outer run, one at a time; where it cannot, as usual."""

    def __init__(self) -> None:
        self._environment = _of_the_start(dict(os.environ))
        is_measured = any(key.startswith("COVERAGE_PROCESS_") for key in self._environment)
        own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("COVERAGE_PROCESS_")}
        command = [sys.executable, "-c", _EXEC, *["coverage"] * is_measured]
        self._process = subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> None:
        """End the process."""
        self._process.communicate(timeout=10)

    def popen(self, pytester: pytest.Pytester, command: tuple[str, ...], *, whole_heap: bool, **options: Any) -> Any:
        """What `pytester.popen` gives, for a run whose output goes to files; a watch there passes over what was there before."""
        environment = dict(os.environ)
        if list(command[:2]) != _PYTEST or _of_the_start(environment) != self._environment:
            return type(pytester).popen(pytester, command, **options)
        folder = str(Path.cwd())
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, environment.get("PYTHONPATH", "")]))
        request = {
            "argv": command[1:],
            "cwd": folder,
            "env": environment,
            "stdout": options["stdout"].name,
            "stderr": options["stderr"].name,
            "whole_heap": whole_heap,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return _Run(self._process)


class _Run:
    """A run that goes on, as pytester sees it."""

    stdin = None

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def wait(self) -> int:
        """Its exit status, when it is over."""
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())
