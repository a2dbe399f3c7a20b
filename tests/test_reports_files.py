"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from report_samples import full_run

from pytest_httpleak.reports.files import SUFFIXES, write_atomically, write_report

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links are those of POSIX")


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".json", "{"),
        (".html", "<!doctype html>"),
        (".sarif", "{"),
        (".md", "## HTTP leaks"),
        (".prom", "# TYPE httpleak_build_info gauge"),
    ],
)
def test_the_suffix_chooses_the_form(tmp_path: Path, suffix: str, start: str) -> None:
    write_report(tmp_path / f"report{suffix}", full_run())
    assert (tmp_path / f"report{suffix}").read_text("utf-8").startswith(start)


def test_the_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    write_report(tmp_path / "REPORT.JSON", full_run())
    assert json.loads((tmp_path / "REPORT.JSON").read_text("utf-8"))["schema"] == 1


def test_an_unknown_suffix_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"report\.txt: unknown kind of report '\.txt'\. Valid suffixes: \.json, \.html"
    ):
        write_report(tmp_path / "report.txt", full_run())
    assert names(tmp_path) == []


def test_the_suffixes_are_those_of_the_contract() -> None:
    assert SUFFIXES == (".json", ".html", ".sarif", ".md", ".prom")


def test_missing_directories_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "report.md", "text\n")
    assert (tmp_path / "a" / "b" / "report.md").read_bytes() == b"text\n"


def test_an_older_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old and longer", encoding="utf-8")
    write_atomically(str(tmp_path / "report.md"), "new")
    assert (tmp_path / "report.md").read_text("utf-8") == "new"
    assert names(tmp_path) == ["report.md"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "report.md").write_text("old", encoding="utf-8")

    def full_disk(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(type(error)):
        write_atomically(tmp_path / "report.md", "new")
    assert (tmp_path / "report.md").read_text("utf-8") == "old"
    assert names(tmp_path) == ["report.md"]


def test_an_error_names_the_path_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError) as raised:
        write_atomically(tmp_path / "report.md", "new")
    assert raised.value.filename == str(tmp_path / "report.md")
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_directory_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match=r"file/report\.md") as raised:
        write_atomically(tmp_path / "file" / "report.md", "new")
    assert raised.value.filename == str(tmp_path / "file" / "report.md")


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "report.md", "new")


@posix_only
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.md")
    with pytest.raises(OSError, match="not a regular file"):
        write_atomically(tmp_path / "report.md", "new")
    assert stat.S_ISFIFO((tmp_path / "report.md").stat().st_mode)


@posix_only
def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.md").write_text("old", encoding="utf-8")
    (tmp_path / "link.md").symlink_to("real.md")
    write_atomically(tmp_path / "link.md", "new")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text("utf-8") == "new"


@posix_only
def test_an_existing_file_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old", encoding="utf-8")
    (tmp_path / "report.md").chmod(0o640)
    write_atomically(tmp_path / "report.md", "new")
    assert stat.S_IMODE((tmp_path / "report.md").stat().st_mode) == 0o640


@posix_only
def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual.md").write_text("", encoding="utf-8")
    write_atomically(tmp_path / "report.md", "new")
    assert (tmp_path / "report.md").stat().st_mode == (tmp_path / "usual.md").stat().st_mode


def test_line_ends_and_characters_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "report.md", "a\nb · é\n")
    assert (tmp_path / "report.md").read_bytes() == b"a\nb \xc2\xb7 \xc3\xa9\n"
