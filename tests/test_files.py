"""Bare descriptors: which calls are seen at their line, and what is never a leak."""
# ruff: noqa: PLW0108, PTH123, SIM115  # files opened as programs open them, and left open, are what is tested

from __future__ import annotations

import _thread
import builtins
import contextlib
import ctypes
import functools
import gc
import gzip
import importlib
import io
import logging
import logging.handlers
import mmap
import os
import pickle
import queue
import select
import selectors
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from inner import Inner
from marked import Leaks, Marked

from pytest_httpleak.asking import attribute
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner
from pytest_httpleak.probes import children
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.looking import Looking

# What is left open on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")


class Descriptor:
    """A bare descriptor as something to close."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 5000)
    return path


@pytest.fixture
def unlinked() -> Iterator[list[SharedMemory]]:
    """Shared memory that is taken out of the system at the test's end."""
    memories: list[SharedMemory] = []
    yield memories
    for memory in memories:
        memory.close()
        memory.unlink()


@pytest.fixture
def open_and_map() -> Any:
    """A library's function that opens a file and maps it."""
    namespace: dict[str, Any] = {}
    code = "import mmap\ndef both(path):\n    file = open(path, 'r+b')\n    return file, mmap.mmap(file.fileno(), 0)\n"
    exec(compile(code, str(Path(os.__file__).with_name("a_library.py")), "exec"), namespace)
    return namespace["both"]


@pytest.fixture
def library() -> Any:
    return ctypes.CDLL(None)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_kept_open_leaks(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        kept.append(open(path))  # leak: fds

    def closing() -> None:
        with open(path) as file:
            kept.append(file)

    (finding,) = marked(leaking)
    assert finding.summary == f"fd {kept[0].fileno()}: {path}"
    marked(closing)


@pytest.mark.parametrize(
    "opening",
    [
        lambda path: io.open(path),  # noqa: UP020  # the name is what is tested
        lambda path: path.open("rb"),
        lambda path: gzip.open(path),
        lambda path: os.fdopen(os.open(path, os.O_RDONLY)),
        lambda path: tempfile.TemporaryFile(),
        lambda path: tempfile.NamedTemporaryFile(),
        lambda path: zipfile.ZipFile(path.with_suffix(".zip"), "w"),
    ],
)
def test_a_file_is_seen_through_whatever_opens_it(
    leaks: Leaks, kept: list[Any], path: Path, opening: Callable[[Path], Any]
) -> None:
    def leaking() -> None:
        kept.append(opening(path))

    (finding,) = leaks(leaking)
    assert (finding.kind, finding.count) == (Kind.FDS, 1)
    assert finding.created is not None
    assert finding.created.file == __file__
    kept.pop().close()
    assert leaks(lambda: opening(path).close()) == ()


def test_a_spooled_file_leaks_from_the_moment_that_it_is_a_file(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        file = tempfile.SpooledTemporaryFile(max_size=1)
        kept.append(file)
        file.write(b"data")  # leak: fds

    def small() -> None:
        kept.append(tempfile.SpooledTemporaryFile(max_size=100))
        kept[-1].write(b"data")

    marked(leaking)
    marked(small)


def test_a_file_that_is_dropped_is_pythons_own_business(leaks: Leaks, path: Path) -> None:
    def dropping() -> None:
        open(path)

    assert leaks(dropping) == ()


def test_a_file_that_is_dropped_in_a_cycle_is_pythons_own_business_too(leaks: Leaks, path: Path) -> None:
    def dropping() -> None:
        cycle: dict[str, Any] = {"file": open(path)}
        cycle["me"] = cycle

    assert leaks(dropping) == ()


def test_files_of_one_line_are_one_finding(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        for _ in range(3):
            kept.append(open(path))  # leak: fds x3

    assert len(marked(leaking)) == 1


@pytest.mark.parametrize("pattern", ["fds:*/data", "created:*test_files.py"])
def test_a_pattern_ignores_a_file_by_its_path_or_by_who_opened_it(
    leaks: Leaks, kept: list[Any], path: Path, pattern: str
) -> None:
    def leaking() -> None:
        kept.append(open(path))

    assert [finding.verdict for finding in leaks(leaking, ignore=[pattern])] == ["ignored"]


# -- descriptors -------------------------------------------------------------------------------------------------------


def test_bare_descriptors_leak(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        kept.append(Descriptor(os.open(path, os.O_RDONLY)))  # leak: fds
        kept.append(Descriptor(os.dup(kept[0].fd)))  # leak: fds
        kept.extend(map(Descriptor, os.pipe()))  # leak: fds x2
        kept.append(Descriptor(tempfile.mkstemp(dir=path.parent)[0]))  # leak: fds

    def closing() -> None:
        for fd in (os.open(path, os.O_RDONLY), os.dup(1), *os.pipe()):
            os.close(fd)

    marked(leaking)
    marked(closing)


@needs_linux
def test_descriptors_of_the_kernels_leak(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        kept.append(Descriptor(os.eventfd(0)))  # leak: fds
        kept.append(Descriptor(os.memfd_create("memory")))  # leak: fds
        kept.append(Descriptor(os.pidfd_open(os.getpid())))  # leak: fds
        kept.extend(map(Descriptor, os.openpty()))  # leak: fds x2
        kept.append(select.epoll())  # leak: fds

    def closing() -> None:
        os.close(os.eventfd(0))
        with select.epoll():
            pass

    marked(leaking)
    marked(closing)


@needs_linux
@pytest.mark.parametrize("opened_by", ["code in C", "Python"])
@pytest.mark.parametrize("what", ["loaded code", "data"])
def test_only_the_file_of_loaded_code_may_be_kept_open_by_code_in_c(
    leaks: Leaks, kept: list[Any], library: Any, path: Path, what: str, opened_by: str
) -> None:
    mappings = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    loaded = next(parts[5] for parts in mappings if "x" in parts[1] and parts[-1].startswith("/"))
    file = loaded if what == "loaded code" else str(path)

    def leaving() -> None:
        fd = library.open(os.fsencode(file), os.O_RDONLY) if opened_by == "code in C" else os.open(file, os.O_RDONLY)
        kept.append(Descriptor(fd))

    is_clean = (what, opened_by) == ("loaded code", "code in C")
    assert [finding.kind for finding in leaks(leaving)] == ([] if is_clean else [Kind.FDS])


def test_a_selector_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.append(selectors.DefaultSelector())  # leak: fds

    def closing() -> None:
        with selectors.DefaultSelector():
            pass

    marked(leaking)
    marked(closing)


@needs_linux
def test_a_map_has_a_descriptor_of_its_own(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        with open(path, "r+b") as file:
            kept.append(mmap.mmap(file.fileno(), 0))  # leak: fds

    def closing() -> None:
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0):
            pass
        kept.append(mmap.mmap(-1, 100))

    marked(leaking)
    marked(closing)


@needs_linux
def test_a_file_and_its_map_that_are_both_kept_are_two_leaks_of_the_users(
    marked: Marked, kept: list[Any], path: Path
) -> None:
    def leaking() -> None:
        kept.append(open(path, "r+b"))  # leak: fds
        kept.append(mmap.mmap(kept[0].fileno(), 0))  # leak: fds

    marked(leaking)


@needs_linux
def test_shared_memory_is_one_leak_at_its_line(marked: Marked, kept: list[Any], unlinked: list[SharedMemory]) -> None:
    def leaking() -> None:
        unlinked.append(SharedMemory(create=True, size=100))  # leak: fds
        for _ in range(2):
            kept.append(SharedMemory(unlinked[0].name))  # leak: fds x2

    def closing() -> None:
        unlinked.append(SharedMemory(create=True, size=100))
        unlinked[-1].close()

    marked(leaking)
    marked(closing)


@needs_linux
def test_the_map_of_shared_memory_leaks_where_its_descriptor_alone_is_closed(
    marked: Marked, unlinked: list[SharedMemory]
) -> None:
    def leaking() -> None:
        memory: Any = SharedMemory(create=True, size=100)  # leak: fds
        unlinked.append(memory)
        os.close(memory._fd)
        memory._fd = -1

    marked(leaking)


@needs_linux
@pytest.mark.parametrize("is_closed", [False, True], ids=["both kept", "map kept"])
def test_what_a_library_opens_and_maps_is_told_as_long_as_one_of_the_two_is_open(
    leaks: Leaks, kept: list[Any], path: Path, open_and_map: Callable[[Path], tuple[Any, Any]], is_closed: bool
) -> None:
    def leaking() -> None:
        kept.extend(open_and_map(path))
        if is_closed:
            kept[0].close()

    (finding,) = leaks(leaking)
    assert finding.count == 1
    assert finding.created is not None
    assert finding.created.file == __file__


@needs_linux
def test_a_map_is_not_told_by_another_file_that_has_got_the_number_of_its_own(
    leaks: Leaks, kept: list[Any], path: Path, open_and_map: Callable[[Path], tuple[Any, Any]]
) -> None:
    def leaking() -> None:
        kept.extend(open_and_map(path))
        number = kept[0].fileno()
        kept[0].close()
        kept.append(open(path))
        assert kept[-1].fileno() == number

    assert sum(finding.count for finding in leaks(leaking)) == 2


@needs_linux
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_database_leaks_once_whatever_files_it_keeps(
    marked: Marked, kept: list[Any], tmp_path: Path, is_deleted: bool
) -> None:
    def leaking() -> None:
        (tmp_path / "folder").mkdir()
        connection = sqlite3.connect(tmp_path / "folder" / "data.db")  # leak: fds
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (x)")
        kept.append(connection)
        if is_deleted:
            shutil.rmtree(tmp_path / "folder")

    def closing() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
            connection.execute("create table t (x)")
        kept.append(sqlite3.connect(":memory:"))

    marked(leaking)
    marked(closing)


@needs_linux
def test_a_database_leaks_at_its_line_by_whichever_name_it_is_opened(
    marked: Marked, kept: list[Any], tmp_path: Path
) -> None:
    def leaking() -> None:
        kept.append(sqlite3.dbapi2.connect(tmp_path / "data.db"))  # leak: fds

    def closing() -> None:
        sqlite3.dbapi2.connect(tmp_path / "data.db").close()
        kept.append(sqlite3.dbapi2.connect(":memory:"))

    marked(leaking)
    marked(closing)


@needs_linux
@pytest.mark.parametrize("module", [sqlite3, sqlite3.dbapi2])
def test_a_database_that_is_opened_is_noted_once(
    session: Session, leaks: Leaks, kept: list[Any], tmp_path: Path, module: Any
) -> None:
    def opening() -> None:
        before = session.watch.births
        kept.append(module.connect(tmp_path / "data.db"))
        assert session.watch.births == before + 1

    assert sum(finding.count for finding in leaks(opening)) == 1


@pytest.mark.parametrize("command", ["F_DUPFD", "F_DUPFD_CLOEXEC"])
def test_a_descriptor_that_is_doubled_by_a_command_leaks(
    marked: Marked, kept: list[Any], path: Path, command: str
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def leaking() -> None:
        with open(path) as file:
            kept.append(Descriptor(fcntl.fcntl(file, getattr(fcntl, command), 300)))  # leak: fds

    def closing() -> None:
        with open(path) as file:
            os.close(fcntl.fcntl(file, getattr(fcntl, command)))
            assert fcntl.fcntl(file, fcntl.F_GETFD) == fcntl.FD_CLOEXEC  # no descriptor, though there is one

    marked(leaking)
    marked(closing)


def test_a_descriptor_that_is_put_at_a_free_number_leaks_there(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        fd = os.open(path, os.O_RDONLY)
        kept.append(Descriptor(os.dup2(fd, 300)))  # leak: fds
        os.close(fd)

    marked(leaking)


def test_output_that_is_redirected_and_put_back_is_nothing(leaks: Leaks, path: Path) -> None:
    def redirecting() -> None:
        saved = os.dup(1)
        with open(path, "w") as file:
            os.dup2(file.fileno(), 1)
        os.dup2(saved, 1)
        os.close(saved)

    assert leaks(redirecting) == ()


@pytest.mark.parametrize("has_gap", [True, False])
def test_what_was_there_before_and_is_put_back_is_nothing(leaks: Leaks, path: Path, has_gap: bool) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)

    def restoring() -> None:
        saved = os.dup(fd)
        os.close(fd)
        if has_gap:
            assert os.open(path, os.O_RDONLY) == fd
        os.dup2(saved, fd)
        os.close(saved)

    found = leaks(restoring)
    os.close(fd)
    assert found == ()


def test_a_wider_fixtures_descriptor_that_is_put_back_is_still_its_own(inner: Inner) -> None:
    inner.write(
        test_a="""
import os
import pytest

@pytest.fixture(scope="module")
def log():
    return os.open(os.devnull, os.O_WRONLY)

def test_it(log):
    saved = os.dup(log)
    os.close(log)
    assert os.open("notes", os.O_CREAT) == log
    os.dup2(saved, log)
    os.close(saved)
"""
    )
    inner.run()
    assert inner.outcomes() == {"test_it": "clean"}
    assert [row["outcome"] for row in inner.report["fixtures"]] == ["leaked"]


def test_a_descriptor_of_the_same_sort_in_the_place_of_what_was_there_before_leaks(marked: Marked) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)

    def replacing() -> None:
        os.close(fd)
        new = os.open(os.devnull, os.O_WRONLY)  # leak: fds
        other = os.dup(new)
        os.close(new)
        os.dup2(other, fd)
        os.close(other)

    marked(replacing)
    os.close(fd)


def test_what_stays_in_the_place_of_what_was_there_before_leaks(marked: Marked, path: Path) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)

    def replacing() -> None:
        os.close(fd)
        new = os.open(path, os.O_RDONLY)  # leak: fds
        other = os.open(path, os.O_RDONLY)
        os.dup2(other, new)
        os.close(other)

    marked(replacing)
    os.close(fd)


def test_standard_input_that_was_closed_and_is_put_back_is_nothing(inner: Inner) -> None:
    inner.write(
        test_a="""
import os

def test_it():
    saved = os.dup(0)
    os.close(0)
    assert os.open(os.devnull, os.O_RDONLY) == 0
    os.dup2(saved, 0)
    os.close(saved)
"""
    )
    inner.judge(test_it="clean")


def test_the_pipe_of_a_child_leaks_until_it_is_read(marked: Marked, kept: list[Any]) -> None:
    command = [sys.executable, "-S", "-c", "pass"]

    def leaking() -> None:
        child = subprocess.Popen(command, stdout=subprocess.PIPE)  # leak: fds
        child.wait()
        assert child.stdout is not None
        kept.append(child.stdout)

    def reading() -> None:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.communicate()
        kept.append(Descriptor(-1))
        subprocess.run(command, capture_output=True, check=True)

    marked(leaking)
    marked(reading)


def test_the_pipe_of_a_dropped_child_leaks_as_long_as_that_runs(
    marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`subprocess` keeps it until it is known to have ended: whether that was just before it was dropped is chance."""
    theirs, ours = os.pipe()

    def start() -> None:
        child = subprocess.Popen(["sh", "-c", "exec >&-; read line"], stdin=theirs, stdout=subprocess.PIPE)  # leak: fds
        assert child.stdout is not None
        assert child.stdout.read() == b""
        pids.append(child.pid)

    def ending() -> None:
        start()
        assert children.are_left()
        os.close(ours)

    pids: list[int] = []
    marked(lambda: start(), start)
    monkeypatch.setattr(_thread, "_count", lambda: 0)  # nothing else is at work that could put anything right
    assert marked.found(ending, grace=10) == ()
    os.close(theirs)
    for child in subprocess._active:  # type: ignore[attr-defined]  # not in the stubs
        if child.pid in pids:
            child.stdout.close()
    assert [os.waitpid(pid, 0)[0] for pid in pids] == pids  # whoever has kept the numbers can wait for them yet


@pytest.mark.parametrize("number", range(1, 6))
def test_a_child_that_ends_just_after_a_look_has_ended(
    marked: Marked, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    theirs, ours = os.pipe()
    pids: list[int] = []
    look = Looking.look
    looks: list[None] = []

    def look_and_let_it_end(looking: Looking, owner: Owner, *args: Any, **kwargs: Any) -> Any:
        found = look(looking, owner, *args, **kwargs)
        looks.extend([None] * bool(found))
        if pids and len(looks) == number:
            os.close(ours)
            os.waitid(os.P_PID, pids.pop(), os.WEXITED | os.WNOWAIT)
        return found

    def ending() -> None:
        child = subprocess.Popen(["sh", "-c", "exec >&-; read line"], stdin=theirs, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.read() == b""
        pids.append(child.pid)

    monkeypatch.setattr(Looking, "look", look_and_let_it_end)
    monkeypatch.setattr(_thread, "_count", lambda: 0)
    found = marked.found(ending, grace=10)
    os.close(theirs)
    subprocess.Popen([sys.executable, "-S", "-c", ""]).wait()  # at which `subprocess` lets go of what has ended
    assert found == ()
    assert not pids


@pytest.mark.parametrize("number", range(1, 6))
def test_what_a_thread_that_ends_closes_just_after_a_look_is_closed(
    marked: Marked, kept: list[Any], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    look = Looking.look
    looks: list[None] = []
    running = [True]

    def look_and_let_it_end(looking: Looking, owner: Owner, *args: Any, **kwargs: Any) -> Any:
        found = look(looking, owner, *args, **kwargs)
        looks.extend([None] * bool(found))
        if running and len(looks) == number:
            kept[0].close()
            running.clear()
        return found

    def closing() -> None:
        kept.append(socket.socket())

    monkeypatch.setattr(Looking, "look", look_and_let_it_end)
    monkeypatch.setattr(_thread, "_count", lambda: len(running))
    assert marked.found(closing, grace=10) == ()
    assert not running


def test_a_mock_of_subprocess_has_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "subprocess", mock.MagicMock())
    assert not children.are_left()
    assert [*children.pipes_of_ended()] == []


def test_descriptors_that_arrive_over_a_socket_leak(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, open(path) as file:
            socket.send_fds(ours, [b"x"], [file.fileno()])
            fds = socket.recv_fds(theirs, 1, 1)[1]  # leak: fds
        kept.append(Descriptor(fds[0]))

    marked(leaking)


def test_a_socket_that_has_become_a_bare_number_leaks_at_its_own_line(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        ours, theirs = socket.socketpair()  # leak: sockets
        theirs.close()
        kept.append(Descriptor(ours.detach()))

    def closing() -> None:
        ours, theirs = socket.socketpair()
        theirs.close()
        os.close(ours.detach())
        ours, theirs = socket.socketpair()
        theirs.close()
        socket.socket(fileno=ours.detach()).close()

    marked(leaking)
    marked(closing)


# -- closed behind the plugin's back, numbers used again ---------------------------------------------------------------


@needs_linux
@pytest.mark.parametrize("end", ["close in C", "closerange"])
def test_a_descriptor_that_is_closed_in_another_way_is_nothing(
    leaks: Leaks, path: Path, library: Any, end: str
) -> None:
    def closing() -> None:
        fd = os.open(path, os.O_RDONLY)
        if end == "closerange":
            os.closerange(fd, fd + 1)
        else:
            library.close(fd)

    assert leaks(closing) == ()


def test_a_number_that_is_used_again_is_the_leak_of_its_second_use(marked: Marked, kept: list[Any], path: Path) -> None:
    def leaking() -> None:
        first = open(path)
        number = first.fileno()
        first.close()
        kept.append(open(path.with_name("other"), "w"))  # leak: fds
        assert kept[0].fileno() == number

    marked(leaking)


@pytest.mark.parametrize("opened", [open, lambda path: Descriptor(socket.socket().detach())], ids=["file", "socket"])
def test_a_number_that_is_used_again_is_not_handed_over_by_a_socket_that_had_it(
    marked: Marked, kept: list[Any], path: Path, opened: Callable[[Path], Any]
) -> None:
    def detaching() -> None:
        sock = socket.socket()
        number = sock.fileno()
        os.close(number)
        kept.append(life.make(lambda: opened(path)))
        assert sock.detach() == number
        assert os.fstat(number)

    with marked.fixture() as life:
        marked(detaching)
        kept[0].close()


@needs_linux
def test_what_code_in_c_opens_has_no_line_not_even_that_of_an_earlier_use_of_its_number(
    leaks: Leaks, kept: list[Any], path: Path, library: Any
) -> None:
    def leaking() -> None:
        open(path).close()
        kept.append(Descriptor(library.inotify_init()))

    (finding,) = leaks(leaking)
    assert (finding.kind, finding.created) == (Kind.FDS, None)


def test_what_code_in_c_opens_is_not_taken_for_a_file_of_the_same_path_that_had_its_number(
    marked: Marked, leaks: Leaks, kept: list[Any], path: Path
) -> None:
    def leaking() -> None:
        kept.append(io.FileIO(path))
        assert kept[1].fileno() == number

    with marked.fixture() as life:
        kept.append(life.make(lambda: open(path)))
        number = kept[0].fileno()
        life.make(kept[0].close)
        (finding,) = leaks(leaking)
    assert (finding.kind, finding.created) == (Kind.FDS, None)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("mode", ["r", "rb", "wb", "r+b"])
def test_a_file_that_was_detached_leaks_at_its_own_line(
    marked: Marked, kept: list[Any], path: Path, mode: str, times: int
) -> None:
    def detached(file: Any) -> Any:
        return detached_as_often(file, times if mode == "r" else 1)

    def leaking() -> None:
        file = open(path, mode)  # leak: fds
        kept.append(detached(file))

    def closing() -> None:
        file = open(path, mode)
        detached(file).close()

    marked(leaking)
    marked(closing)


def detached_as_often(file: Any, times: int) -> Any:
    for _ in range(times):
        file = file.detach()
    return file


@needs_linux
def test_a_socket_of_code_in_c_is_a_socket(leaks: Leaks, kept: list[Any], library: Any) -> None:
    (finding,) = leaks(lambda: kept.append(Descriptor(library.socket(2, 1, 0))))
    assert finding.kind is Kind.SOCKETS
    assert leaks(lambda: library.close(library.socket(2, 1, 0))) == ()


def test_a_descriptor_of_a_wider_fixture_that_the_test_swaps_for_its_own_is_the_tests(
    marked: Marked, kept: list[Any], path: Path
) -> None:
    def swapping() -> None:
        os.close(wide)
        kept.append(Descriptor(os.open(path, os.O_RDONLY)))  # leak: fds
        assert kept[0].fd == wide

    with marked.fixture() as life:
        wide = life.make(lambda: os.open(path, os.O_RDONLY))
        marked(swapping)


@needs_linux
def test_what_appears_before_a_fixture_is_set_up_stays_the_tests(
    session: Session, kept: list[Any], leaks: Leaks, library: Any
) -> None:
    found: list[Any] = []

    def leaking() -> None:
        from marked import Life

        kept.append(Descriptor(library.inotify_init()))
        life = Life(session, "session")
        life.end()
        found.extend(life.check.findings)

    assert [finding.kind for finding in leaks(leaking)] == [Kind.FDS]
    assert found == []


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "dropped"])
def test_a_poller_that_code_in_c_opens_is_not_taken_for_an_earlier_one(
    leaks: Leaks, request: pytest.FixtureRequest, *, is_closed: bool
) -> None:
    kept: list[selectors.BaseSelector] = []

    def leaking() -> None:
        kept.append(selectors.DefaultSelector())
        number = kept[0].fileno()  # type: ignore[attr-defined]
        if is_closed:
            kept[0].close()
        else:
            kept.clear()
            gc.collect()  # it refers to itself
        fd = ctypes.CDLL(None).epoll_create1(0)
        request.addfinalizer(functools.partial(os.close, fd))
        assert fd == number

    assert [finding.created for finding in leaks(leaking)] == [None]


# -- never a leak ------------------------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test_files")
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def test_the_file_of_a_logging_handler_is_never_a_leak(leaks: Leaks, logger: logging.Logger, tmp_path: Path) -> None:
    assert leaks(lambda: logger.addHandler(logging.FileHandler(tmp_path / "log"))) == ()


def test_the_socket_of_a_logging_handler_is_never_a_leak(leaks: Leaks, logger: logging.Logger) -> None:
    def adding() -> None:
        handler = logging.handlers.SysLogHandler(("127.0.0.1", 9))
        logger.addHandler(handler)

    assert leaks(adding) == ()


@pytest.mark.parametrize("way", ["behind a memory handler", "behind a queue's listener"])
def test_the_file_of_a_handler_that_a_logger_reaches_is_never_a_leak(
    leaks: Leaks, logger: logging.Logger, tmp_path: Path, request: pytest.FixtureRequest, way: str
) -> None:
    def adding() -> None:
        file = logging.FileHandler(tmp_path / "log")
        request.addfinalizer(file.close)
        if way == "behind a memory handler":
            logger.addHandler(logging.handlers.MemoryHandler(10, target=file))
        else:
            queued = logging.handlers.QueueHandler(queue.SimpleQueue())
            listener = logging.handlers.QueueListener(queued.queue, file)
            queued.listener = listener  # as `logging.config` does from Python 3.12 on
            logger.addHandler(queued)

    assert leaks(adding) == ()


class Sending(logging.Handler):
    """Sends what is logged in a thread of its own, as those of many services do."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.session = requests.Session()
        self.jobs: queue.Queue[bool] = queue.Queue()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        while self.jobs.get():
            self.session.post(self.url, timeout=10)
            self.jobs.task_done()

    def emit(self, record: logging.LogRecord) -> None:
        self.jobs.put(True)

    def close(self) -> None:
        self.jobs.put(False)
        self.thread.join()
        self.session.close()
        super().close()


def test_what_a_handler_sends_with_is_the_processs_as_long_as_a_logger_writes_to_it(
    leaks: Leaks, logger: logging.Logger, kept: list[Any], server: str
) -> None:
    def add() -> None:
        handler = Sending(f"{server}/ok")
        logger.addHandler(handler)
        logger.warning("sent")
        handler.jobs.join()

    def piling_up() -> None:
        add()

    def taking_off() -> None:
        add()
        kept.append(logger.handlers[-1])
        logger.removeHandler(kept[-1])

    both = {Kind.THREADS, Kind.CLIENTS}
    assert {finding.kind for finding in leaks(taking_off)} == both
    assert leaks(add) == ()
    assert {finding.kind for finding in leaks(piling_up)} == both


class Last(logging.Handler):
    """Keeps what was logged last."""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record


def test_what_a_handler_was_last_given_to_log_is_not_the_handlers(
    leaks: Leaks, logger: logging.Logger, ending: contextlib.ExitStack
) -> None:
    def logging_it() -> None:
        logger.addHandler(Last())
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        ending.callback(thread.join)
        ending.callback(stop.set)
        logger.warning("started %s", thread)

    assert [finding.kind for finding in leaks(logging_it)] == [Kind.THREADS]


def test_a_thread_of_a_handlers_own_is_the_handlers_though_it_keeps_it_nowhere(
    leaks: Leaks, logger: logging.Logger, ending: contextlib.ExitStack
) -> None:
    class Working(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.stop = threading.Event()
            thread = threading.Thread(target=self.work)
            thread.start()
            ending.callback(thread.join)
            ending.callback(self.stop.set)

        def work(self) -> None:
            self.stop.wait()

    def leaving() -> None:
        Working()

    assert leaks(lambda: logger.addHandler(Working())) == ()
    assert [finding.kind for finding in leaks(leaving)] == [Kind.THREADS]


def test_handlers_that_each_test_adds_to_a_logger_leak(leaks: Leaks, logger: logging.Logger, tmp_path: Path) -> None:
    def start() -> None:
        for name in ("app", "errors"):
            logger.addHandler(logging.FileHandler(tmp_path / name))

    def second() -> None:
        logger.addHandler(logging.FileHandler(tmp_path / "audit"))

    def third() -> None:
        start()

    def fourth() -> None:
        start()

    assert leaks(start) == ()
    assert leaks(second) == ()
    assert [finding.count for finding in leaks(third)] == [2]
    assert [finding.count for finding in leaks(fourth)] == [2]
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    assert leaks(third) == ()


def delayed(path: Path) -> logging.Handler:
    return logging.FileHandler(path, delay=True)


def rotating(path: Path) -> logging.Handler:
    return logging.handlers.RotatingFileHandler(path, maxBytes=10, backupCount=1)


def to_a_file(path: Path) -> logging.Handler:
    return logging.StreamHandler(open(path, "w"))


def to_a_syslog(_: Path) -> logging.Handler:
    return logging.handlers.SysLogHandler(("127.0.0.1", 9))


def behind_another(path: Path) -> logging.Handler:
    return logging.handlers.MemoryHandler(1, target=logging.FileHandler(path, delay=True))


@pytest.mark.parametrize("new", [delayed, rotating, to_a_file, to_a_syslog, behind_another])
def test_so_do_those_that_open_something_late_or_again_or_are_given_it(
    leaks: Leaks,
    logger: logging.Logger,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    new: Callable[[Path], logging.Handler],
) -> None:
    def write() -> None:
        for _ in range(3):
            logger.warning("more than ten characters")

    def start() -> None:
        handler = new(tmp_path / "log")
        request.addfinalizer(getattr(attribute(handler, "stream"), "close", handler.close))
        logger.addHandler(handler)
        write()

    def again() -> None:
        start()

    assert leaks(start) == ()
    (finding,) = leaks(again)
    assert (finding.count, finding.kind) == (1, Kind.SOCKETS if new is to_a_syslog else Kind.FDS)
    assert leaks(write) == ()  # and told once


def test_so_do_those_that_tests_add_to_one_that_was_there_before_all_of_them(
    leaks: Leaks, logger: logging.Logger, tmp_path: Path
) -> None:
    def start() -> None:
        logger.addHandler(logging.FileHandler(tmp_path / "log"))

    start()
    assert [finding.kind for finding in leaks(start)] == [Kind.FDS]


@pytest.mark.parametrize("new", [delayed, rotating])
def test_who_writes_to_a_handler_that_piles_up_but_is_another_ones_is_clean(
    marked: Marked, logger: logging.Logger, tmp_path: Path, new: Callable[[Path], logging.Handler]
) -> None:
    def start() -> logging.Handler:
        handler = new(tmp_path / "log")
        logger.addHandler(handler)
        return handler

    def stop(handler: logging.Handler) -> None:
        logger.removeHandler(handler)
        handler.close()

    def write() -> None:
        for _ in range(3):
            logger.warning("more than ten characters")

    start()
    with marked.fixture() as life:
        handler = life.make(start)
        assert marked.found(write) == ()
        with life.during():
            stop(handler)


@pytest.mark.parametrize(
    "put",
    [
        lambda logger, thing, patch: patch.setitem(logging.Logger.manager.loggerDict, "a mock", thing),
        lambda logger, thing, patch: logger.addHandler(thing),
        lambda logger, thing, patch: logger.addHandler(logging.handlers.MemoryHandler(10, target=thing)),
    ],
    ids=["logger", "handler", "target"],
)
@pytest.mark.parametrize("cls", [mock.Mock, mock.MagicMock])
def test_what_stands_in_for_a_logger_or_handler_is_asked_for_no_more(
    leaks: Leaks,
    logger: logging.Logger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    put: Callable[..., object],
    cls: type[mock.Mock],
) -> None:
    put(logger, cls(level=0), monkeypatch)
    test_the_file_of_a_logging_handler_is_never_a_leak(leaks, logger, tmp_path)
    assert len(leaks(lambda: monkeypatch.setattr(sys, "a_socket", socket.socket(), raising=False))) == 1
    sys.a_socket.close()  # type: ignore[attr-defined]


def test_handlers_that_a_test_adds_when_it_is_run_again_do_not_pile_up(
    leaks: Leaks, logger: logging.Logger, tmp_path: Path
) -> None:
    def start() -> None:
        logger.addHandler(logging.FileHandler(tmp_path / "app"))

    assert leaks(start) == ()
    assert leaks(start) == ()


def test_what_handlers_open_when_they_first_write_does_not_pile_up(
    leaks: Leaks, logger: logging.Logger, tmp_path: Path
) -> None:
    handlers = [logging.FileHandler(tmp_path / name, delay=True) for name in ("a", "b")]
    for handler in handlers:
        logger.addHandler(handler)
    for handler in handlers:
        assert leaks(lambda handler=handler: handler.emit(logging.makeLogRecord({}))) == ()  # type: ignore[misc]
        assert handler.stream is not None


def test_the_file_of_a_handler_that_was_taken_off_its_logger_unclosed_leaks(
    leaks: Leaks, logger: logging.Logger, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def swapping(*, closing: bool) -> None:
        handler = logging.FileHandler(tmp_path / "log")
        request.addfinalizer(handler.close)
        logger.addHandler(handler)
        logger.removeHandler(handler)
        if closing:
            handler.close()

    assert [finding.kind for finding in leaks(lambda: swapping(closing=False))] == [Kind.FDS]
    assert leaks(lambda: swapping(closing=True)) == ()


def test_what_is_opened_while_a_module_is_imported_is_the_processs(
    leaks: Leaks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opens_a_file.py").write_text("file = open(__file__)\n")
    monkeypatch.syspath_prepend(tmp_path)

    def importing() -> None:
        import opens_a_file  # type: ignore[import-not-found]

        assert not opens_a_file.file.closed

    assert leaks(importing) == ()
    sys.modules.pop("opens_a_file").file.close()


def test_a_capture_of_the_test_runners_is_never_a_leak(leaks: Leaks, capfd: pytest.CaptureFixture[str]) -> None:
    def printing() -> None:
        os.write(1, b"x\n")

    assert leaks(printing) == ()
    assert capfd.readouterr().out == "x\n"


# -- what is put in the place of others' functions and classes ---------------------------------------------------------


def test_stand_ins_answer_as_the_classes_they_stand_for(session: Session, path: Path) -> None:
    assert isinstance(mmap.mmap, type)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        assert isinstance(pages, mmap.mmap)
        assert type(pages).__name__ == "mmap"
    assert not isinstance(1, mmap.mmap)
    assert issubclass(mmap.mmap, mmap.mmap)
    assert mmap.mmap.__name__ == "mmap"
    assert callable(mmap.mmap.find)


def test_a_class_that_inherits_from_a_stand_in_works(session: Session) -> None:
    class Mine(mmap.mmap):
        extra = 1

    with Mine(-1, 10) as mine:
        assert type(mine) is Mine
        assert isinstance(mine, Mine)
        assert mine.extra == 1
        assert len(mine) == 10


@needs_linux
def test_a_poller_from_a_descriptor_is_still_made(session: Session) -> None:
    with select.epoll() as poller:
        assert isinstance(poller, select.epoll)
        assert isinstance(mock.Mock(spec=select.epoll), select.epoll)
        assert not isinstance(mock.Mock(spec=select.poll), select.epoll)
        assert issubclass(select.epoll, select.epoll)
        again = select.epoll.fromfd(os.dup(poller.fileno()))
        again.close()


def test_everything_is_put_back() -> None:
    def places() -> list[Any]:
        names: list[Any] = [(builtins, "open"), (io, "open"), (os, "open"), (os, "pipe"), (os, "dup2"), (mmap, "mmap")]
        names += [
            (sqlite3, "connect"),
            (sqlite3.dbapi2, "connect"),
            (socket.socket, "detach"),
            (selectors.DefaultSelector, "__init__"),
        ]
        shared = sys.modules.get("_posixshmem")
        names += [] if shared is None else [(shared, "shm_open")]
        return [getattr(place, name) for place, name in names]

    before = places()
    session = Session(rootdir="/")
    session.start()
    during = places()
    session.stop()
    assert not any(one is other for one, other in zip(before, during, strict=True))
    assert places() == before


def test_everything_is_put_back_in_a_module_that_is_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original = sqlite3.dbapi2.connect
    session = Session(rootdir="/")
    session.start()
    monkeypatch.delitem(sys.modules, "sqlite3")
    again = importlib.import_module("sqlite3")
    during = again.connect, sqlite3.connect, sqlite3.dbapi2.connect
    session.stop()
    assert not any(each is original for each in during)
    assert len({*during}) == 1
    assert [again.connect, sqlite3.connect, sqlite3.dbapi2.connect] == [original] * 3


def test_open_is_still_found_and_pickled_by_its_name(session: Session) -> None:
    assert pickle.loads(pickle.dumps(open)) is open
    assert open is io.open
    assert open.__name__ == "open"
