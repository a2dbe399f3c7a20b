"""Which line is the user's."""

from __future__ import annotations

import importlib
import json
import runpy
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pytest_httpleak import userfiles
from pytest_httpleak.sites import Birth, capture

STANDARD = sysconfig.get_path("stdlib")


def test_the_site_is_the_innermost_line_of_user_code() -> None:
    def through_a_library() -> Birth:
        births: list[Birth] = []
        json.loads("{}", object_hook=lambda _: births.append(capture(1)))
        return births[0]

    site = through_a_library().site()
    assert site is not None
    assert (Path(site.file).name, site.function) == ("test_sites.py", "<lambda>")


def test_a_stack_without_user_code_has_the_site_of_its_maker() -> None:
    maker = capture(1)
    assert Birth([], False, maker).site() == maker.site()


def test_nothing_is_known_of_a_stack_without_user_code_and_maker() -> None:
    assert Birth([], False, None).site() is None


def test_the_line_is_that_of_the_call() -> None:
    birth = capture(1)
    site = birth.site()
    assert site is not None
    assert "birth = capture(1)" in Path(site.file).read_text().splitlines()[site.line - 1]


def test_what_is_made_while_a_module_is_imported_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_here.py").write_text("from pytest_httpleak.sites import capture\nBIRTH = capture(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import imported_here  # type: ignore[import-not-found]

    assert imported_here.BIRTH.is_import()
    assert not capture(1).is_import()


DEEP = """
from {place} import deep
from pytest_httpleak.sites import capture

BIRTH = deep({depth}, lambda: capture(1))
"""

CALLING = """
def deep(number, function):
    return deep(number - 1, function) if number else function()
"""


@pytest.mark.parametrize("depth", [0, 4, 5, 6, 20, 90])
@pytest.mark.parametrize("folder", [".", "site-packages"])
def test_an_import_is_seen_however_deep_what_is_made_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, depth: int
) -> None:
    place, name = f"calling_{folder[0]}_{depth}".replace(".", "a"), f"deep_{folder[0]}_{depth}".replace(".", "a")
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / f"{place}.py").write_text(CALLING)
    (tmp_path / f"{name}.py").write_text(DEEP.format(place=place, depth=depth))
    monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module(name).BIRTH.is_import()


def test_a_librarys_file_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    library: dict[str, Any] = {"__name__": "library"}
    exec(compile(CALLING, f"{STANDARD}/some_library.py", "exec"), library)
    asked: list[str] = []
    classify = userfiles._classify
    monkeypatch.setattr(userfiles, "_classify", lambda file, module: asked.append(file) or classify(file, module))
    mine: dict[str, Any] = {"__name__": "mine"}
    exec(compile(CALLING, "/some/mine.py", "exec"), mine)
    for _ in range(2):
        library["deep"](9, lambda: mine["deep"](9, lambda: capture(1)))
    assert [asked.count(file) for file in (f"{STANDARD}/some_library.py", "/some/mine.py")] == [1, 1]


@pytest.mark.parametrize("depth", [0, 4, 5, 6, 20])
def test_a_script_that_is_run_is_no_import(tmp_path: Path, depth: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(CALLING + DEEP.format(place="os", depth=depth).replace("from os import deep", ""))
    assert not runpy.run_path(str(script))["BIRTH"].is_import()
