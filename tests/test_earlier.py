"""Names that the user's modules have bound before the watch began."""

from __future__ import annotations

import _thread
import importlib.util
import mmap
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from inner import Inner

from pytest_httpleak.session.core import Session

PROGRAM = """
from _thread import start_new_thread
from io import open
from mmap import mmap
from os import pipe
from sqlite3 import connect
from threading import Thread
"""
NAMES = ("start_new_thread", "open", "mmap", "pipe", "connect")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports the program from a folder below the root."""

    def load(folder: str) -> ModuleType:
        path = tmp_path / folder / "program.py"
        path.parent.mkdir(parents=True)
        path.write_text(PROGRAM)
        spec = importlib.util.spec_from_file_location("program", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "program", module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Session]]:
    """Begins to watch a run of that root; ended with the test."""
    session = Session(rootdir=str(tmp_path / "root"))

    def start() -> Session:
        session.start()
        return session

    yield start
    session.stop()
    assert session.errors() == []


def test_a_name_that_was_bound_before_is_watched(load: Callable[[str], Any], start: Callable[[], Session]) -> None:
    program = load("root/app")
    before = [getattr(program, name) for name in NAMES]
    session = start()
    now = _thread.start_new_thread, open, mmap.mmap, os.pipe, sqlite3.connect
    for name, stand_in in zip(NAMES, now, strict=True):
        assert getattr(program, name) is stand_in
    session.stop()
    for name, value in zip(NAMES, before, strict=True):
        assert getattr(program, name) is value


@pytest.mark.parametrize("folder", ["other", "root/.venv/lib/site-packages"])
def test_a_name_of_a_module_that_is_not_the_users_is_left_alone(
    load: Callable[[str], Any], start: Callable[[], Session], folder: str
) -> None:
    program = load(folder)
    before = [getattr(program, name) for name in NAMES]
    start()
    for name, value in zip(NAMES, before, strict=True):
        assert getattr(program, name) is value


def test_a_test_of_an_installed_package_is_the_users_own_code(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = inner.path / "site-packages" / "sdk"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "__init__.py").touch()
    (folder / "__init__.py").write_text("import os\ndef make():\n    return os.pipe()\n", "utf-8")
    (folder / "tests" / "conftest.py").write_text(
        "import os, pytest\nKEPT = []\n@pytest.fixture\ndef kept():\n    KEPT.append(open(os.devnull))\n", "utf-8"
    )
    (folder / "tests" / "test_it.py").write_text(
        "import sdk\n\ndef test_leaks():\n    sdk.make()\n\ndef test_fixture_leaks(kept):\n    pass\n", "utf-8"
    )
    (inner.path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder.parent), prepend=":")
    inner.run("--pyargs", "sdk.tests")
    ((finding,), (of_fixture,)) = (row["findings"] for row in inner.report["tests"])
    assert (finding["created"]["line"], finding["created"]["function"]) == (4, "test_leaks")
    assert finding["hint"].startswith("close the object of sdk that opened it")
    assert (of_fixture["created"]["line"], of_fixture["created"]["function"]) == (5, "kept")


def test_a_leak_of_a_module_that_a_conftest_has_imported_is_told_at_its_line(inner: Inner) -> None:
    inner.write(
        conftest="import program",
        program="from os import pipe\ndef make():\n    return pipe()\n",
        test_a="""
        import os
        import program

        def test_leaks():
            program.make()

        def test_closes():
            for fd in program.make():
                os.close(fd)
        """,
    )
    inner.run()
    assert inner.outcomes() == {"test_leaks": "leaked", "test_closes": "clean"}
    (finding,) = inner.report["tests"][0]["findings"]
    assert (finding["created"]["file"], finding["created"]["line"]) == ("program.py", 3)


@pytest.mark.parametrize(
    "opening", ['tarfile.open("a.tar", "w")', 'bz2.open("a.bz2", "wb")', "tokenize.open(__file__)"]
)
def test_what_opens_files_by_a_name_of_its_own_is_watched(inner: Inner, opening: str) -> None:
    test = f"""
        import bz2
        import tarfile
        import tokenize

        import pytest

        KEPT = []

        class Lazy:
            file = None

            def get(self):
                self.file = self.file or {opening}

        @pytest.fixture(scope="module")
        def lazy():
            lazy = Lazy()
            yield lazy
            lazy.file.close()

        def test_leaks():
            KEPT.append({opening})

        def test_closes():
            with {opening}:
                pass

        def test_leaves_it_to_the_fixture(lazy):
            lazy.get()
        """
    inner.write(conftest="import bz2, tarfile, tokenize", test_a=test)
    inner.judge(test_leaks="leaked", test_closes="clean", test_leaves_it_to_the_fixture="clean")
    (finding,) = inner.report["tests"][0]["findings"]
    assert finding["created"]["function"] == "test_leaks"


class Frozen(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is frozen")


def test_a_module_that_lets_nothing_be_set_is_left_as_it_is(
    load: Callable[[str], Any], start: Callable[[], Session]
) -> None:
    program = load("root/app")
    program.__class__ = Frozen
    before = [getattr(program, name) for name in NAMES]
    start()
    for name, value in zip(NAMES, before, strict=True):
        assert getattr(program, name) is value
