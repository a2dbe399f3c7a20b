"""Where something stands in the source: paths as users write them, and the lines of code themselves."""

from __future__ import annotations

import functools
import linecache
import os
from itertools import takewhile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.facts import Facts
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.probes import infrastructure
from pytest_httpleak.reports.text_safety import safe_code, safe_name

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Finding, Site
    from pytest_httpleak.model.rows import TestRow

UNKNOWN_LINE: Final = "line unknown (made by C code, in another interpreter, or before the plugin was attached)"
UNKNOWN_CALLER: Final = "line unknown (a library made it in a callback or a thread, with no line of yours on the way)"
FIXTURE: Final = "fixture '"  # begins the name of an owner that is one
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_MAX_CALLERS: Final = 3
_NAMELESS: Final = (Kind.SOCKETS, Kind.FDS, Kind.LOOPS, Kind.THREADS)


class Owner(Facts):
    """A test or fixture that left something behind; `name` is raw, `file` and `line` say where it is defined."""

    name: str
    file: str
    line: int
    is_fixture: bool = False


def owner_of_test(row: TestRow) -> Owner:
    """A test as the owner of its findings."""
    return Owner(row.nodeid, file_of_test(row.nodeid), 1)


def relative_path(file: str, rootdir: str) -> str:
    """`file` relative to `rootdir`, with forward slashes, where it lies below it; else as it is."""
    return _relative(file, rootdir) or file


def shortened(text: str, rootdir: str) -> str:
    """`text` with the root taken off the paths in it."""
    return text.replace(rootdir.rstrip("/\\") + os.sep, "") if rootdir else text


def is_below(file: str, rootdir: str) -> bool:
    """Whether `file` lies below `rootdir`, or is written relative to it."""
    return _relative(file, rootdir) is not None or not (PurePath(file).is_absolute() or file.startswith("<"))


def place(site: Site, rootdir: str) -> str:
    """`tests/test_api.py:14 in test_get`, safe to show."""
    return f"{line_of(site, rootdir)} in {safe_name(site.function)}"


def line_of(site: Site, rootdir: str) -> str:
    """`tests/test_api.py:14`, safe to show."""
    return f"{safe_name(relative_path(site.file, rootdir))}:{site.line}"


def code_line(site: Site, rootdir: str) -> str:
    """The line of code itself, without indentation and secrets; empty where the source cannot be read."""
    try:
        # As an absolute path first: a relative one would be looked for along the import path.
        line = linecache.getline(_absolute(site, rootdir), site.line) or linecache.getline(site.file, site.line)
    except ValueError:  # a name that no file can have, as code made by `compile` may
        return ""
    return safe_code(line)


def callers(finding: Finding, rootdir: str) -> list[Site]:
    """Up to three sites of the user's own code that led to the creating line, the nearest first."""
    sites: list[Site] = []
    for site in finding.stack:
        own = is_below(site.file, rootdir) and _INSTALLED.isdisjoint(PurePath(site.file).parts)
        if own and site != finding.created and site not in sites:
            sites.append(site)
    return sites[:_MAX_CALLERS]


def library_line(finding: Finding) -> str:
    """`sdk/transport.py:156 in __init__`: the line of an installed library that has made it, or had an HTTP library make it.

    Empty where the user's own code has, alone, by the standard library or by the HTTP library that the finding names.
    """
    site = _library_site(finding)
    if site is None:
        return ""
    return f"{safe_name(infrastructure.installed_place(site.file) or '')}:{site.line} in {safe_name(site.function)}"


def _library_site(finding: Finding) -> Site | None:
    if finding.created is None:
        return infrastructure.maker_of(finding.stack)
    if finding.created not in finding.stack:
        return None
    inside = list(takewhile(lambda site: site != finding.created, finding.stack))
    return _maker(inside) if finding.kind in _NAMELESS else _caller_of(finding.library, inside)


def made_at(finding: Finding, rootdir: str) -> str:
    """The place of the user's line, or why there is none."""
    if finding.created is not None:
        return place(finding.created, rootdir)
    return UNKNOWN_CALLER if library_line(finding) else UNKNOWN_LINE


def _maker(inside: list[Site]) -> Site | None:
    return next((site for site in inside if infrastructure.installed_place(site.file)), None)


def _caller_of(library: str, inside: list[Site]) -> Site | None:
    """Who among other libraries called this one; those that only watch calls are none."""
    found = None
    for site in reversed(inside):
        package = infrastructure.package_of(site.file)
        if package == library:
            break
        if package:
            found = site
    return found


def file_of_test(nodeid: str) -> str:
    """The file part of a test id."""
    return nodeid.partition("::")[0]


def _absolute(site: Site, rootdir: str) -> str:
    return os.path.join(rootdir, site.file)  # an absolute name stays as it is


@functools.lru_cache(maxsize=4096)
def _relative(file: str, rootdir: str) -> str | None:
    if not rootdir or not PurePath(file).is_absolute():
        return None
    path = PurePath(os.path.normpath(file))
    if path.is_relative_to(rootdir):
        return path.relative_to(rootdir).as_posix()
    # A root that is reached through a symbolic link: /tmp on macOS, a home directory on a network drive.
    try:
        real, root = Path(os.path.realpath(file)), os.path.realpath(rootdir)
    except (OSError, ValueError):
        return None
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else None
