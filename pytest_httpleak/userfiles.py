"""Whose code a file has: the user's own, a library's, or the test runner's."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Final

from pytest_httpleak.asking import attribute, is_a

PLUGIN: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
GENERATED: Final = "<pytest_httpleak"  # begins the name of the file that wrappers say they come from
_STANDARD: Final = os.path.dirname(os.__file__) + os.sep  # asking sysconfig takes longer than the rest of this module
_INSTALLED: Final = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

# Their own frames are never the user's code, not even where one of them runs its own tests from a source tree.
HTTP_PACKAGES: Final = frozenset(
    "aiohttp anyio h11 h2 httpcore httpcore2 httpx httpx2 requests sniffio trio urllib3 urllib3_future uvloop".split()
)
_RUNNERS: Final = frozenset(("_pytest", "pluggy"))

LIBRARY: Final = 0  # false, as most frames are a library's
USER: Final = 1
RUNNER: Final = 2
_STANDARD_CLIENTS: Final = frozenset({"xmlrpc.client"})

known_sorts: dict[str, int] = {}  # by file
module_of: dict[str, str] = {}  # by the same files, the module's name
_tests: set[str] = set()
_user_root: str | None = None


def set_user_root(path: str) -> None:
    """Counts the files below `path` (pytest's rootdir) as user code even where it lies among installed packages."""
    global _user_root  # noqa: PLW0603  # one rootdir for the process; births are too many to carry it
    _user_root = path.rstrip(os.sep) + os.sep
    for filename, module in list(module_of.items()):  # of births that are older, and may still have to be told
        known_sorts[filename] = _classify(filename, module)


def set_tests(files: set[str]) -> None:
    """Counts files of tests as user code wherever they lie: `--pyargs` finds them in the folders of installed packages."""
    _tests.clear()
    _tests.update(files)
    known_sorts.update(dict.fromkeys(_tests & module_of.keys(), USER))


def is_user_file(filename: str) -> bool:
    """Whether frames of that file were seen to be the user's own code."""
    return known_sorts.get(filename, LIBRARY) == USER


def is_user_frame(frame: FrameType) -> bool:
    """Whether a frame is of the user's own code, also of a file that has not been met yet."""
    sort = known_sorts.get(frame.f_code.co_filename)
    return (sort_of(frame) if sort is None else sort) == USER


def is_among_packages(filename: str) -> bool:
    """Whether that file lies where packages are installed."""
    return any(part in filename for part in _INSTALLED)


def is_installed_file(filename: str) -> bool:
    """Whether that is a file of an installed library, but for those whose own books tell what they have made.

    A client of the standard library's that keeps its connection counts, too.
    """
    module = module_of.get(filename, "")
    if module in _STANDARD_CLIENTS:
        return True
    return (
        filename not in _tests
        and is_among_packages(filename)
        and module.partition(".")[0] not in HTTP_PACKAGES | _RUNNERS
    )


def is_user_module(name: str, filename: str | None) -> bool:
    """Whether a module with that name and file is the user's own code."""
    return filename is not None and _classify(filename, name) == USER


def is_user_class(cls: type) -> bool:
    """Whether a class is the user's own, by its module."""
    return is_user_module(str(attribute(cls, "__module__")), file_of_class(cls))


def file_of_class(cls: type) -> str | None:
    """The file of the module that a class says it is of; None where there is none."""
    file = attribute(sys.modules.get(str(attribute(cls, "__module__"))), "__file__")
    return file if is_a(file, str) else None


def is_of_asyncio(filename: str) -> bool:
    """Whether that is a file of the standard library's asyncio."""
    return filename.startswith(_ASYNCIO)


_ASYNCIO: Final = f"{_STANDARD}asyncio{os.sep}"


def sort_of(frame: FrameType) -> int:
    """The sort of the file that a frame is of; where there are many to ask, `known_sorts` is asked first."""
    filename = frame.f_code.co_filename
    module = module_of[filename] = str(frame.f_globals.get("__name__") or "")
    sort = known_sorts[filename] = _classify(filename, module)
    return sort


def _classify(filename: str, module: str) -> int:
    package = module.partition(".")[0]
    if package in _RUNNERS:
        return RUNNER
    if filename in _tests:
        return USER
    if package in HTTP_PACKAGES or filename.startswith(PLUGIN):
        return LIBRARY
    if filename.startswith("<"):  # generated code, frozen modules; a doctest is its author's
        return USER if filename.startswith("<doctest ") else LIBRARY
    if _user_root is not None and filename.startswith(_user_root) and is_among_packages(_user_root):
        return LIBRARY if is_among_packages(filename[len(_user_root) - 1 :]) else USER
    if filename.startswith(_STANDARD) or is_among_packages(filename):
        return LIBRARY
    if os.sep in filename and not os.path.isabs(filename) and not os.path.exists(filename):
        return LIBRARY  # compiled elsewhere, as Cython's modules are, whose frames know nothing of their module
    return USER
