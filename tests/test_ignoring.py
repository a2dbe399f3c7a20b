"""`httpleak.ignore()`: an object is someone else's with what it holds, of every kind, and nothing else is."""
# ruff: noqa: PTH123, SIM115  # files opened as programs open them, and left open, are what is tested

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import mmap
import os
import select
import selectors
import sqlite3
import subprocess
import sys
import types
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings, settings_from_keywords

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere less is seen"),
]

Kept = list[Any]


@pytest.fixture
def check(session: Session) -> Iterator[Check]:
    """A test's life, in which something is ignored."""
    check = session.begin("test_x", "function", settings_from_keywords(default_settings(), {"grace": 0.02}, "check"))
    yield check
    session.end(check)


@pytest.fixture
def loop(session: Session) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that is older than the test's life."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Holder:
    """An object with attributes, as any."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


class Slotted:
    """An object that keeps what it has in a slot."""

    __slots__ = ("file",)

    def __init__(self, file: Any) -> None:
        self.file = file


class Numbered:
    """An object that opens a descriptor and keeps its number."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self.fd)


class Process(subprocess.Popen[bytes]):
    """A process that ends with its input."""

    def __init__(self) -> None:
        super().__init__(["cat"], stdin=subprocess.PIPE)

    def close(self) -> None:
        self.communicate()


def stack_of(file: Any, enter: Callable[[contextlib.ExitStack, Any], Any]) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    enter(stack, file)
    return stack


def pages_of(path: Path) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path.with_suffix(".db"))
    connection.execute("create table if not exists t (a)")
    return connection


def kept_file(path: Path, kept: Kept, mode: str = "w+") -> Any:
    kept.append(open(path, mode))
    return kept[-1]


# What is made, so that it is ended with the test, and what has it: each leaks descriptors where it is not ignored.
HOLDERS: dict[str, Callable[[Path, Kept], Any]] = {
    "process": lambda path, kept: kept.append(Process()) or kept[-1],
    "log handler": lambda path, kept: kept.append(logging.FileHandler(path)) or kept[-1],
    "archive": lambda path, kept: kept.append(zipfile.ZipFile(path, "w")) or kept[-1],
    "database": lambda path, kept: kept.append(database(path)) or kept[-1],
    "map": lambda path, kept: kept.append(pages_of(path)) or kept[-1],
    "object with a poller": lambda path, kept: kept.append(select.epoll()) or Holder(poller=kept[-1]),
    "object with a selector": lambda path, kept: kept.append(selectors.DefaultSelector()) or Holder(it=kept[-1]),
    "object with a number": lambda path, kept: kept.append(Numbered(path)) or Holder(parts=[kept[-1]]),
    "ends of a pipe": lambda path, kept: kept.extend(Pipe(duplex=False)) or kept[-2:],
    "stack that was entered": lambda path, kept: stack_of(kept_file(path, kept), contextlib.ExitStack.enter_context),
    "stack with a callback": lambda path, kept: stack_of(kept_file(path, kept).close, contextlib.ExitStack.callback),
    "file without a birth": lambda path, kept: kept.append(io.FileIO(path)) or Holder(file=kept[-1]),
    "file in a file": lambda path, kept: Holder(raw=kept_file(path, kept).buffer),
    "dict of files": lambda path, kept: {name: kept_file(path, kept) for name in "ab"},
    "dict by files": lambda path, kept: {kept_file(path, kept): 1},
    "list of files": lambda path, kept: [kept_file(path, kept), kept_file(path, kept)],
    "queue of files": lambda path, kept: Holder(queue=deque([kept_file(path, kept)])),
    "attribute": lambda path, kept: Holder(file=kept_file(path, kept)),
    "attribute of an attribute": lambda path, kept: Holder(part=Holder(file=kept_file(path, kept))),
    "slot": lambda path, kept: Slotted(kept_file(path, kept)),
}


@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
class TestDescriptors:
    def test_what_an_ignored_object_holds_is_someone_elses(
        self, session: Session, check: Check, kept: Kept, tmp_path: Path, make: Callable[[Path, Kept], Any]
    ) -> None:
        (tmp_path / "x").write_text("x" * 100)
        thing = make(tmp_path / "x", kept)
        session.ignore(thing)
        session.end(check)
        del thing
        assert check.findings == ()

    def test_what_another_one_of_its_sort_holds_leaks(
        self, session: Session, check: Check, kept: Kept, tmp_path: Path, make: Callable[[Path, Kept], Any]
    ) -> None:
        for name in "xy":
            (tmp_path / name).write_text("x" * 100)
        thing, other = (make(tmp_path / name, kept) for name in "xy")
        session.ignore(thing)
        session.end(check)
        del thing, other
        assert {finding.kind for finding in check.findings} == {Kind.FDS}


def test_all_of_very_many_files_are_someone_elses(session: Session, check: Check, kept: Kept) -> None:
    kept += [open(os.devnull) for _ in range(600)]
    session.ignore(kept)
    session.end(check)
    assert check.findings == ()


class TestDescriptorsTakenOver:
    """SQLite keeps what it has opened of a file while another connection has a lock, and gives it to the next one."""

    @pytest.fixture(autouse=True)
    def locked(self, session: Session, tmp_path: Path) -> Iterator[None]:
        """A connection with a lock, which is older than the test's life."""
        with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as connection:
            connection.execute("create table things (name)")
            connection.execute("insert into things values (1)")
            yield

    @pytest.fixture
    def taken_over(self, locked: None, check: Check, kept: Kept, tmp_path: Path) -> sqlite3.Connection:
        """A connection that has opened nothing."""
        with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as earlier:
            earlier.execute("select 1 from sqlite_master").fetchall()
        kept.append(sqlite3.connect(tmp_path / "x.db"))
        return kept[-1]

    def test_that_of_a_connection_which_is_held_is_someone_elses(
        self, session: Session, taken_over: sqlite3.Connection, check: Check
    ) -> None:
        session.ignore(Holder(connection=taken_over))
        session.end(check)
        assert check.findings == ()

    def test_that_of_one_which_is_not_held_leaks(
        self, session: Session, taken_over: sqlite3.Connection, check: Check
    ) -> None:
        session.ignore(Holder())
        session.end(check)
        assert [finding.kind for finding in check.findings] == [Kind.FDS]


class TestNumbersUsedAgain:
    def test_what_has_the_number_of_a_file_that_was_closed_leaks(
        self, session: Session, check: Check, kept: Kept, tmp_path: Path
    ) -> None:
        file = open(tmp_path / "x", "w")
        number = file.fileno()
        file.close()
        kept.append(io.FileIO(tmp_path / "y", "w"))
        assert kept[0].fileno() == number
        session.ignore(Holder(file=file))
        session.end(check)
        assert [finding.kind for finding in check.findings] == [Kind.FDS]


def only_known(kept: Kept) -> dict[str, Callable[[Any], Any]]:
    """What knows a file, and does not hold it."""
    module: Any = types.ModuleType("some_module")
    logger = logging.Logger("some_logger")  # noqa: LOG001  # which no other test has

    def in_module(file: Any) -> Any:
        module.file = file
        return Holder(module=module)

    def in_class(file: Any) -> Any:
        return Holder(cls=type("Some", (), {"file": file}))

    def in_logger(file: Any) -> Any:
        logger.handlers.append(logging.StreamHandler(file))
        return Holder(log=logger)

    def in_globals(file: Any) -> Any:
        namespace: dict[str, Any] = {"file": file}
        exec("def function(): return file", namespace)
        return Holder(call=namespace["function"], names=namespace)

    def in_closure(file: Any) -> Any:
        return Holder(call=lambda: file)

    def in_method(file: Any) -> Any:
        return Holder(call=file.write)

    def in_frame(file: Any) -> Any:
        def generate() -> Iterator[Any]:
            yield file

        generator: Any = generate()
        next(generator)
        return Holder(generator=generator, frame=generator.gi_frame)

    def in_call(file: Any) -> Any:
        mock = MagicMock()
        mock(file)
        return Holder(mock=mock)

    def in_parent(file: Any) -> Any:
        return Holder(parent=Holder(file=file))

    def in_selector(file: Any) -> Any:
        kept.append(selectors.PollSelector())
        kept[-1].register(file, selectors.EVENT_READ)
        return kept[-1]

    return {name: make for name, make in locals().items() if name.startswith("in_")}


@pytest.mark.parametrize("name", only_known([]))
def test_what_an_ignored_object_only_knows_leaks(
    session: Session, check: Check, kept: Kept, tmp_path: Path, name: str
) -> None:
    file = kept_file(tmp_path / "x", kept)
    session.ignore(only_known(kept)[name](file))
    session.end(check)
    del file
    assert [finding.kind for finding in check.findings] == [Kind.FDS]


class Hostile:
    """An object that answers each question with an error."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("__dict__")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("__eq__")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise RuntimeError("__bool__")


class Rows(list[Any]):
    """A list that is not to be read."""

    def __iter__(self) -> Any:
        raise RuntimeError("__iter__")


@pytest.mark.parametrize(
    "make", [Hostile, MagicMock, Rows, lambda: Holder(it=Hostile()), lambda: Holder(it=MagicMock())]
)
def test_what_answers_with_errors_is_ignored_all_the_same(
    session: Session, check: Check, kept: Kept, make: Callable[[], Any]
) -> None:
    session.ignore([make(), kept_file(Path(os.devnull), kept)])
    session.ignore(make())
    session.end(check)
    assert (check.findings, session.errors()) == ((), [])


def test_a_file_in_memory_is_not_written_to_disk_for_the_sake_of_the_question(session: Session, check: Check) -> None:
    import tempfile

    with tempfile.SpooledTemporaryFile() as file:
        session.ignore([file])
        assert not file._rolled  # type: ignore[attr-defined]


# Tasks that an object has, given two of them.
WITH_TASKS: dict[str, Callable[[Any], Any]] = {
    "list": lambda task: [task],
    "attribute": lambda task: Holder(task=task),
    "set in an attribute": lambda task: Holder(tasks={task}),
}


class TestTasks:
    @pytest.mark.parametrize("hold", WITH_TASKS.values(), ids=WITH_TASKS)
    def test_what_an_ignored_object_holds_is_someone_elses(
        self, session: Session, loop: asyncio.AbstractEventLoop, check: Check, hold: Callable[[Any], Any]
    ) -> None:
        async def main() -> list[Any]:
            tasks = [asyncio.create_task(asyncio.Event().wait())]
            session.ignore(hold(tasks[0]))
            return tasks

        self.kinds_left(session, check, loop, main, [])

    @pytest.mark.parametrize("hold", WITH_TASKS.values(), ids=WITH_TASKS)
    def test_another_one_of_the_same_loop_leaks(
        self, session: Session, loop: asyncio.AbstractEventLoop, check: Check, hold: Callable[[Any], Any]
    ) -> None:
        async def main() -> list[Any]:
            tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(2)]
            session.ignore(hold(tasks[0]))
            return tasks

        self.kinds_left(session, check, loop, main, [Kind.TASKS])

    def test_those_that_an_ignored_task_waits_for_are_someone_elses(
        self, session: Session, loop: asyncio.AbstractEventLoop, check: Check
    ) -> None:
        async def main() -> list[Any]:
            inner = asyncio.create_task(asyncio.Event().wait())

            async def outer() -> None:
                await inner

            tasks = [asyncio.create_task(outer()), inner]
            await asyncio.sleep(0)
            session.ignore(tasks[:1])
            return tasks

        self.kinds_left(session, check, loop, main, [])

    def test_what_a_task_makes_that_an_ignored_object_only_knows_leaks(
        self, session: Session, loop: asyncio.AbstractEventLoop, check: Check
    ) -> None:
        async def main() -> list[Any]:
            session.ignore(Holder(owner=asyncio.current_task(), loop=asyncio.get_running_loop()))
            return [asyncio.create_task(asyncio.Event().wait())]

        self.kinds_left(session, check, loop, main, [Kind.TASKS])

    def test_what_a_task_makes_that_waits_for_the_one_that_ignores_leaks(
        self, session: Session, loop: asyncio.AbstractEventLoop, check: Check
    ) -> None:
        async def main() -> list[Any]:
            around = asyncio.current_task()

            async def inner() -> None:
                session.ignore(Holder(task=around))

            await asyncio.create_task(inner())
            return [asyncio.create_task(asyncio.Event().wait())]

        self.kinds_left(session, check, loop, main, [Kind.TASKS])

    def kinds_left(
        self,
        session: Session,
        check: Check,
        loop: asyncio.AbstractEventLoop,
        main: Callable[[], Any],
        expected: list[Kind],
    ) -> None:
        tasks = loop.run_until_complete(main())
        session.end(check)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        assert [finding.kind for finding in check.findings] == expected


class TestLoops:
    def test_the_loop_of_an_ignored_object_is_someone_elses(self, session: Session, check: Check, kept: Kept) -> None:
        kept.append(asyncio.new_event_loop())
        session.ignore(Holder(loop=kept[0]))
        session.end(check)
        assert check.findings == ()

    def test_the_loop_in_which_it_is_ignored_leaks(self, session: Session, check: Check, kept: Kept) -> None:
        kept.append(asyncio.new_event_loop())

        async def main() -> None:
            session.ignore(Holder(loop=asyncio.get_running_loop()))

        kept[0].run_until_complete(main())
        session.end(check)
        assert [finding.kind for finding in check.findings] == [Kind.LOOPS]
