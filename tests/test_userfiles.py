"""Whose code a file has."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from pytest_httpleak import userfiles
from pytest_httpleak.userfiles import is_user_module

PACKAGES = sysconfig.get_path("purelib")
STANDARD = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(
    ("name", "file", "user"),
    [
        ("app.client", "/src/app/client.py", True),
        ("test_a", "/src/tests/test_a.py", True),
        ("app", "/src/.venv/lib/python3.11/site-packages/app.py", False),
        ("app", "/usr/lib/python3/dist-packages/app.py", False),
        ("app", f"{PACKAGES}/app.py", False),
        ("json", f"{STANDARD}/json/__init__.py", False),
        ("urllib3.pool", "/src/urllib3/src/urllib3/pool.py", False),
        ("gen", "<string>", False),
        ("doc", "<doctest doc[0]>", True),
        ("none", None, False),
        ("__main__", "script.py", True),
        ("", "compiled/elsewhere.py", False),
    ],
)
def test_user_code_is_neither_installed_nor_standard_nor_generated(name: str, file: str | None, user: bool) -> None:
    assert is_user_module(name, file) is user


def test_a_script_that_is_named_from_the_working_directory_is_user_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "script.py").touch()
    monkeypatch.chdir(tmp_path)
    assert is_user_module("__main__", "tools/script.py")


def test_tests_that_are_installed_themselves_are_user_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userfiles, "_user_root", f"{PACKAGES}/app/")
    monkeypatch.setattr(userfiles, "known_sorts", {})
    assert is_user_module("app.tests.test_a", f"{PACKAGES}/app/tests/test_a.py")
    assert not is_user_module("other", f"{PACKAGES}/other.py")
