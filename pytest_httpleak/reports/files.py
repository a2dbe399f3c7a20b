"""Writes reports, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_httpleak.model.run import Run

# The module of this package whose `render` makes that form; imported when it is asked for.
_RENDERERS: Final[dict[str, str]] = {
    ".json": "json_report",
    ".html": "html_report",
    ".sarif": "sarif_report",
    ".md": "markdown_report",
    ".prom": "prom_report",
}

SUFFIXES: Final = tuple(_RENDERERS)


def write_report(path: str | os.PathLike[str], run: Run) -> None:
    """Write the report of a run in the form that the suffix of `path` names.

    Raises `ValueError` for an unknown suffix, `OSError` with the path where it cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _RENDERERS:
        raise ValueError(f"{os.fspath(path)}: unknown kind of report {suffix!r}. Valid suffixes: {', '.join(SUFFIXES)}")
    renderer = importlib.import_module(f"pytest_httpleak.reports.{_RENDERERS[suffix]}")
    write_atomically(path, renderer.render(run))


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, through a temporary file beside it, so that no half of it is ever seen.

    Missing directories are made, a symbolic link is followed, and an existing file keeps its permissions. Raises
    `OSError` with the path; whatever was there before is then still there, and no temporary file is left.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")
        try:
            with beside.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                beside.chmod(mode)
            beside.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _mode(target: Path) -> int | None:
    """The permissions of the file that is to be replaced; None where there is none yet."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):  # a pipe or a device: replacing it would take it from everybody else
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "not a regular file")
    return stat.S_IMODE(mode)
