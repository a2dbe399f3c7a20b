"""Adapters are handed a library once the tested code has imported it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from inner import Inner

from pytest_httpleak import adapters
from pytest_httpleak.importing import AfterImport

NAME = "a_library_to_import"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module on the path that nobody has imported yet."""
    path = tmp_path / f"{NAME}.py"
    path.write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop(NAME, None)


@pytest.fixture
def seen() -> Iterator[list[ModuleType]]:
    """The modules that were handed over."""
    modules: list[ModuleType] = []
    finder = AfterImport({NAME: object()}, modules.append)
    finder.install()
    yield modules
    finder.remove()
    assert finder not in sys.meta_path


def test_a_module_is_handed_over_when_it_has_been_executed(library: Path, seen: list[ModuleType]) -> None:
    module = importlib.import_module(NAME)
    assert seen == [module]
    assert "exec_module" not in vars(module.__spec__.loader)  # type: ignore[union-attr]


def test_a_module_is_handed_over_again_when_it_is_reloaded(library: Path, seen: list[ModuleType]) -> None:
    module = importlib.import_module(NAME)
    importlib.reload(module)
    assert seen == [module, module]


def test_a_module_that_fails_to_import_is_not_handed_over(library: Path, seen: list[ModuleType]) -> None:
    library.write_text("raise ValueError('broken')\n")
    with pytest.raises(ValueError, match="broken"):
        importlib.import_module(NAME)
    assert seen == []


def test_a_module_that_is_there_already_is_handed_over_at_once(library: Path) -> None:
    module = importlib.import_module(NAME)
    seen: list[ModuleType] = []
    finder = AfterImport({NAME: object()}, seen.append)
    finder.install()
    finder.remove()
    assert seen == [module]


def test_a_library_that_nobody_imports_is_never_looked_for(seen: list[ModuleType]) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("a_library_that_does_not_exist")
    assert seen == []


def test_every_adapter_of_the_package_says_which_modules_it_wants_without_being_imported() -> None:
    wanted = adapters.by_module(adapters.found())
    assert {"httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "requests", "aiohttp", "http.client"} <= set(wanted)
    for adapter in adapters.found():
        assert importlib.import_module(adapter.__name__).MODULES == adapter.MODULES


ALL = """
import importlib, os, pkgutil, sys, threading
import pytest
watched = {watched}
for name in watched:
    sys.modules.pop(name, None)
import pytest_httpleak
for folder in ("", ".adapters", ".probes", ".session"):
    package = importlib.import_module("pytest_httpleak" + folder)
    for each in pkgutil.iter_modules(package.__path__):
        if folder or each.name.endswith(("records", "pools")) or each.name in ("asking", "ownership", "patches", "sites"):
            importlib.import_module(f"{package.__name__}.{each.name}")
print([name for name in watched if name in sys.modules])
"""


def test_what_watches_a_module_never_imports_one_that_is_watched() -> None:
    """It would be handed to an adapter in the middle of the import of what that adapter needs."""
    names = adapters.by_module(adapters.found())
    watched = sorted(set(names) - {"os", "threading", "_thread"})
    code = ALL.replace("{watched}", repr(watched))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize(("module", "findings"), [("notes", False), ("text", True)])
def test_what_shows_notes_does_not_import_what_shows_findings(module: str, findings: bool) -> None:
    """A run that has notes and no more would pay for it: of what it shows nothing needs a pattern for secrets."""
    names = [f"pytest_httpleak.reports.{each}" for each in ("causes", "wording")]
    code = (
        f"import sys, pytest_httpleak.reports.{module} as shown; print(all(each in sys.modules for each in {names}))\n"
    )
    code += "shown.safe('plain'); print('pytest_httpleak.reports.redaction' in sys.modules)\n"
    code += "shown.safe('http://me:secret@host/'); print('pytest_httpleak.reports.redaction' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([str(findings), "False", "True"], "")


CLEAN = """
import asyncio
import os
import sys

import pytest


@pytest.fixture(scope="module")
def end():
    ends = os.pipe()
    yield ends[0]
    for each in ends:
        os.close(each)


def test_uses_what_a_fixture_has_open(end):
    pass


def test_nothing_of_that_was_imported():
    wanted = "psutil", "pytest_httpleak.session.tasksuspects", "pytest_httpleak.session.loopends"
    assert not [name for name in wanted if name in sys.modules]


def test_a_loop():
    asyncio.new_event_loop().close()
    assert "pytest_httpleak.session.loopends" in sys.modules
"""


def test_a_clean_run_does_not_import_what_tells_leaks_nor_what_asks_loops_that_there_are_none_of(fresh: Inner) -> None:
    fresh.write(test_a=CLEAN)
    fresh.run().assert_outcomes(passed=3)


BLOCKED = """
import asyncio
import sys

KEPT = []


class Blocker:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(name)


def test_makes_the_first_loop_where_nothing_can_be_imported(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [Blocker()])
    asyncio.new_event_loop().close()


def test_leaves_a_loop():
    KEPT.append(asyncio.new_event_loop())


def test_leaves_a_task():
    async def main():
        KEPT.append(asyncio.create_task(asyncio.sleep(60)))

    KEPT[0].run_until_complete(main())


def test_closes_the_loop():
    KEPT[1].cancel()
    KEPT[0].run_until_complete(asyncio.wait([KEPT[1]]))
    KEPT[0].close()
"""


def test_the_first_loop_may_be_made_where_nothing_can_be_imported(fresh: Inner) -> None:
    fresh.write(test_a=BLOCKED)
    fresh.judge(
        test_makes_the_first_loop_where_nothing_can_be_imported="clean",
        test_leaves_a_loop="leaked",
        test_leaves_a_task="leaked",
        test_closes_the_loop="clean",
    )
