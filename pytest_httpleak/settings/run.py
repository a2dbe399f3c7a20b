"""What counts for the whole run, joined from the command line and the ini file."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_httpleak.settings import options
from pytest_httpleak.settings.merge import RunSettings, default_settings, laid_over
from pytest_httpleak.settings.options import MARKER_KEYS, OPTIONS
from pytest_httpleak.settings.values import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_httpleak.settings.options import Option

T = TypeVar("T")

# `-p` takes the entry point's name or a module's; each of them asks for this plugin by name, for every test.
_PLUGIN_NAMES = frozenset({"httpleak", "pytest_httpleak", "pytest_httpleak.plugin"})


class _Raw:
    """What was written (None for nothing), where, and the folder that relative paths there start from."""

    __slots__ = ("folder", "place", "value")

    def __init__(self, value: object, place: str, folder: Path) -> None:
        self.value = value
        self.place = place
        self.folder = folder


def read_run_settings(config: pytest.Config) -> RunSettings:
    """Join command line and ini file; the command line wins. Raises pytest.UsageError for what cannot be used."""
    mode = _run_mode(config)
    audit = _given(config, options.AUDIT)
    baseline = _files(config, options.BASELINE)
    update_baseline = _given(config, options.UPDATE_BASELINE)
    if update_baseline and not baseline:
        raise pytest.UsageError(
            f"{options.UPDATE_BASELINE.flag} needs a file to write: "
            f"add {options.BASELINE.flag}=PATH or set {options.BASELINE.ini} in the ini file"
        )
    return RunSettings(
        mode=mode,
        default=laid_over(default_settings(), _test_values(config, mode)),
        reports=_files(config, options.REPORT),
        baseline=baseline[0] if baseline else None,
        update_baseline=update_baseline,
        confirm=_given(config, options.CONFIRM),
        audit_fail=audit.fail,
        audit_off=audit.is_off,
        strict_tolerances=_given(config, options.STRICT_TOLERANCES),
        github=_given(config, options.GITHUB) and os.environ.get("GITHUB_ACTIONS", "false") not in ("", "false"),
    )


def _run_mode(config: pytest.Config) -> Mode:
    raw = _raw(config, options.MODE)
    mode = None if raw.value is None else _read(options.MODE, raw)  # a bad one is never hidden by `-p httpleak`
    if raw.place != options.MODE.flag and not _PLUGIN_NAMES.isdisjoint(config.getoption("plugins")):
        return Mode.FAIL
    return Mode.MARKED if mode is None else mode


def _test_values(config: pytest.Config, mode: Mode) -> Iterator[tuple[Option[Any], Any]]:
    """Read the values that count for each test, the general before the particular."""
    yield options.TEST_MODE, Mode.FAIL if mode is Mode.MARKED else mode
    for key, number in (_optional(config, options.TOLERATE) or {}).items():
        yield MARKER_KEYS[key], number
    for option in OPTIONS:
        if option.field:
            value = _optional(config, option)
            if value is not None:
                yield option, value


def _given(config: pytest.Config, option: Option[T]) -> T:
    """Read an option that has a default."""
    return _read(option, _raw(config, option))


def _optional(config: pytest.Config, option: Option[T]) -> T | None:
    raw = _raw(config, option)
    return None if raw.value is None else _read(option, raw)


def _read(option: Option[T], raw: _Raw) -> T:
    try:
        return option.form.read(raw.value)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{raw.place}: {error}") from None


def _raw(config: pytest.Config, option: Option[Any]) -> _Raw:
    """Find what was written for an option: on the command line, else in the ini file, else the default."""
    cwd = config.invocation_params.dir
    if option.flag is not None:
        value = config.getoption(option.flag)
        if value is not None:
            return _Raw(value, option.flag, cwd)
    if option.ini is not None:
        folder = cwd if config.inipath is None else config.inipath.parent
        place = _ini_place(config, option.ini)
        try:
            value = config.getini(option.ini)
        except (TypeError, ValueError) as error:
            # pytest before 9.2 says neither where the value stands nor that it is the user's error.
            raise pytest.UsageError(f"{place}: {error}") from None
        # An empty value is how an ini file, or `-o KEY=`, takes a setting back.
        if value not in (None, "", []):
            return _Raw(value, place, folder)
    return _Raw(option.default, "default", cwd)


def _ini_place(config: pytest.Config, key: str) -> str:
    overrides = config.getoption("override_ini") or []
    if any(override.partition("=")[0] == key for override in overrides):
        return f"-o {key}"
    return f"{config.inipath}: {key}"


def _files(config: pytest.Config, option: Option[tuple[Path, ...]]) -> tuple[Path, ...]:
    """Read the files that an option names, absolute, each once; refused where none can be written."""
    raw = _raw(config, option)
    if raw.value is None:
        return ()
    paths = tuple(dict.fromkeys(raw.folder / path for path in _read(option, raw)))
    for path in paths:
        obstacle = _obstacle(path)
        if obstacle is not None:
            raise pytest.UsageError(f"{raw.place}: {str(path)!r} cannot be a file: {obstacle}")
    return paths


def _obstacle(path: Path) -> str | None:
    """Say why no file can be written at `path`, as far as what stands there tells; missing folders are no reason."""
    for place in (path, *path.parents):
        try:
            is_folder = stat.S_ISDIR(place.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return error.strerror
        if place == path:
            return "it is a directory" if is_folder else None
        return None if is_folder else f"{str(place)!r} is not a directory"
    return "its drive does not exist"
