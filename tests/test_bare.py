"""Bare descriptors that an object opens when it first needs them: its keeper's, where that can be known, else the test's."""
# ruff: noqa: PTH123, SIM115  # files opened as programs open them, and left open, are what is tested

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import mmap
import os
import sqlite3
import struct
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any
from unittest import mock
from unittest.mock import ANY

import pytest
from inner import Inner
from marked import Leaks, Marked

from pytest_httpleak import databases, opennumbers
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.probes import descriptors, pollers
from pytest_httpleak.records import Bystander
from pytest_httpleak.session import heirs, ledger
from pytest_httpleak.session.core import Session

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere less is seen"),
]


class Lazy:
    """Opens what it needs when it is asked for the first time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.thing: Any = None
        self.things: list[Any] = []

    def file(self) -> None:
        self.thing = open(self.path)

    def wrapped(self) -> None:
        self.thing = os.fdopen(os.open(self.path, os.O_RDONLY))

    def database(self) -> None:
        self.thing = sqlite3.connect(self.path.with_suffix(".db"))

    def number(self) -> None:
        self.thing = os.open(self.path, os.O_RDONLY)

    def late(self) -> None:
        self.timeout = os.open(self.path, os.O_RDONLY)  # as if it had been 20 by chance

    def numbers(self) -> None:
        self.thing = os.pipe()

    def pipe(self) -> None:
        self.thing, other = Pipe(duplex=False)
        other.close()

    def mapped(self) -> None:
        with open(self.path, "r+b") as file:
            self.thing = mmap.mmap(file.fileno(), 0)

    @functools.cached_property
    def prop(self) -> int:
        self.thing = os.open(self.path, os.O_RDONLY)
        return 1

    @classmethod
    def twice(cls, lazy: Lazy) -> None:
        lazy.number()

    def lost(self) -> None:
        os.open(self.path, os.O_RDONLY)

    def close(self) -> None:
        for thing in (self.thing, *self.things):
            if hasattr(thing, "close"):
                thing.close()
            else:
                numbers = thing if isinstance(thing, tuple) else (thing,)
                for number in numbers if thing is not None else ():
                    os.close(number)
        self.thing = None
        self.things.clear()


class Named:
    """Keeps what it opens in an attribute of that name."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name

    def open(self) -> None:
        setattr(self, self.name, os.open(self.path, os.O_RDONLY))

    def close(self) -> None:
        os.close(getattr(self, self.name))


class Taker:
    """What a number is handed on to."""

    def __init__(self, **numbers: int) -> None:
        vars(self).update(numbers)


class Odd:
    """Not to be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("neither equal nor not")

    __hash__ = object.__hash__


class NoStack(contextlib.ExitStack):
    """Was never made as one."""

    def __init__(self) -> None:
        pass


class Handing(Lazy):
    """Hands on what it opens."""

    def to_a_handle(self) -> None:
        self.handle = Taker(fd=os.open(self.path, os.O_RDONLY))

    def to_a_stack(self) -> None:
        self.stack = contextlib.ExitStack()
        self.stack.callback(os.close, os.open(self.path, os.O_RDONLY))

    def to_a_limit(self) -> None:
        self.handle = Taker(max_fds=os.open(self.path, os.O_RDONLY))

    def to_a_stack_of_others(self) -> None:
        self.stack = contextlib.ExitStack()
        fd = os.open(self.path, os.O_RDONLY)
        for function, argument in ((print, fd), (self.close, float(fd)), (self.close, ANY), (self.close, Odd())):
            self.stack.callback(function, argument)

    def to_a_stack_that_is_none(self) -> None:
        self.stack = NoStack()
        self.fd = os.open(self.path, os.O_RDONLY) + 1  # which is not that number

    def to_another_handle(self) -> None:
        self.handle = Taker(weight=os.open(self.path, os.O_RDONLY))

    def to_nobody(self) -> int:
        self.stack = contextlib.ExitStack()
        return os.open(self.path, os.O_RDONLY)


class Slotted(Lazy):
    __slots__ = ("inner",)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.inner = Lazy(path)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def lazy(tmp_path: Path) -> Iterator[Lazy]:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 5000)
    lazy = Lazy(path)
    yield lazy
    lazy.close()


@pytest.fixture(autouse=True)
def closing(session: Session) -> Iterator[None]:
    """Closes the numbers that nobody has kept."""
    before = set(descriptors.listing())
    yield
    for fd in set(descriptors.listing()) - before:
        with contextlib.suppress(OSError):
            os.close(fd)


WAYS: dict[str, Callable[[Any], object]] = {
    name: (lambda lazy, name=name: getattr(lazy, name)())
    for name in ("file", "wrapped", "database", "number", "numbers", "pipe", "mapped")
}
WAYS["prop"] = lambda lazy: lazy.prop
WAYS["twice"] = lambda lazy: lazy.twice(lazy)


@pytest.mark.parametrize("way", WAYS)
def test_what_a_wider_value_opens_on_demand_is_no_leak_of_the_test(marked: Marked, lazy: Lazy, way: str) -> None:
    with marked.fixture() as life:
        life.keep(lazy)
        assert marked.found(lambda: WAYS[way](lazy)) == ()
        with life.during():
            lazy.close()


@pytest.mark.parametrize("name", ["fd", "index_fd", "portHandle", "storage", "report", "terminal"])
def test_an_attribute_may_keep_a_number_unless_its_name_is_that_of_an_amount(
    marked: Marked, lazy: Lazy, name: str
) -> None:
    named = Named(lazy.path, name)
    with marked.fixture() as life:
        life.keep(named)
        assert marked.found(named.open) == ()
        with life.during():
            named.close()


@pytest.mark.parametrize(
    "name",
    ["index", "maxsize", "maxconnections", "counter", "levelno", "max_fds", "fd_limit", "handleCount", "wait_seconds"],
)
def test_an_amount_keeps_no_number(marked: Marked, lazy: Lazy, name: str) -> None:
    named = Named(lazy.path, name)
    with marked.fixture() as life:
        life.keep(named)
        (finding,) = marked.found(named.open)
        assert finding.kind is Kind.FDS


@pytest.mark.parametrize("way", ["to_a_handle", "to_a_stack"])
def test_what_a_wider_value_opens_and_hands_on_is_its_own(marked: Marked, lazy: Lazy, way: str) -> None:
    handing = Handing(lazy.path)
    with marked.fixture() as life:
        life.keep(handing)
        assert marked.found(getattr(handing, way)) == ()
        with life.during():
            if way == "to_a_stack":
                handing.stack.close()
            else:
                os.close(handing.handle.fd)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "way", ["to_another_handle", "to_a_limit", "to_a_stack_of_others", "to_a_stack_that_is_none", "to_nobody"]
)
def test_what_a_wider_value_opens_and_does_not_keep_is_the_tests_leak(marked: Marked, lazy: Lazy, way: str) -> None:
    handing = Handing(lazy.path)
    with marked.fixture() as life:
        life.keep(handing)
        (finding,) = marked.found(getattr(handing, way))
        assert finding.kind is Kind.FDS


def test_what_the_parts_of_a_wider_value_open_is_its_own(marked: Marked, lazy: Lazy) -> None:
    wide = Slotted(lazy.path)
    with marked.fixture() as life:
        life.keep(wide)
        assert marked.found(wide.inner.number) == ()
        with life.during():
            wide.close()


@pytest.mark.parametrize("way", ["file", "database", "number"])
def test_a_wider_fixture_answers_at_its_end_for_what_its_value_has_opened(
    session: Session, marked: Marked, lazy: Lazy, way: str
) -> None:
    found: list[Finding] = []
    with pytest.raises(AssertionError), marked.fixture() as life:
        life.keep(lazy)
        assert marked.found(lambda: WAYS[way](lazy)) == ()
        found += life.check.findings
    found += life.check.findings
    assert [finding.kind for finding in found] == [Kind.FDS]
    assert found[0].created is not None
    assert found[0].created.file == __file__


@pytest.mark.parametrize("way", ["file", "database", "number", "pipe"])
def test_what_an_object_of_the_test_opens_is_its_leak(marked: Marked, lazy: Lazy, way: str) -> None:
    with marked.fixture() as life:
        life.keep(Lazy(lazy.path))
        (finding,) = marked.found(lambda: WAYS[way](lazy))
        assert finding.kind is Kind.FDS


def test_what_a_wider_value_does_not_keep_for_itself_is_the_tests_leak(marked: Marked, lazy: Lazy) -> None:
    with marked.fixture() as life:
        life.keep(lazy)
        (finding,) = marked.found(lazy.lost)
        assert finding.kind is Kind.FDS


def test_what_a_test_puts_into_a_list_of_a_wider_value_is_the_tests_leak(marked: Marked, lazy: Lazy) -> None:
    def leaking() -> None:
        lazy.things.append(open(lazy.path))  # leak: fds

    with marked.fixture() as life:
        life.keep(lazy)
        marked(leaking)
        lazy.close()


def test_a_number_that_is_equal_by_chance_keeps_nothing(marked: Marked, lazy: Lazy) -> None:
    def leaking() -> None:
        lazy.thing = os.dup(0)  # leak: fds

    with marked.fixture() as life:
        life.keep(lazy)
        marked(leaking)
        lazy.thing = None


def test_a_number_of_seconds_that_is_equal_by_chance_keeps_nothing(marked: Marked, lazy: Lazy) -> None:
    with marked.fixture() as life:
        life.keep(lazy)
        (finding,) = marked.found(lazy.late)
    assert (finding.kind, finding.held_by) == (Kind.FDS, None)


def test_a_class_without_a_hash_is_looked_at_like_any_other(marked: Marked, lazy: Lazy) -> None:
    class Meta(type):  # noqa: PLW1641  # which is the case that is tested
        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Odd(metaclass=Meta):
        pass

    def leaking() -> None:
        lazy.number()

    odd = Odd()
    with marked.fixture() as life:
        life.keep(lazy)
        assert marked.found(leaking) == ()
        with life.during():
            lazy.close()
    assert type(odd) is Odd


def test_an_error_of_the_search_for_what_keeps_a_descriptor_hides_no_leak(
    session: Session, marked: Marked, lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("pytest_httpleak.session.judging.bare_records", fails)
    assert [finding.kind for finding in marked.found(lazy.lost)] == [Kind.FDS]
    (wall,) = [wall for wall in session.watch.walls if wall.error is not None]
    assert "on purpose" in str(wall.error)
    wall.error = None  # as the end of each test wants it


def test_a_file_that_does_not_close_a_descriptor_does_not_keep_it(marked: Marked, lazy: Lazy) -> None:
    def leaking() -> None:
        fd = os.open(lazy.path, os.O_RDONLY)  # leak: fds
        lazy.thing = open(fd, closefd=False)

    with marked.fixture() as life:
        life.keep(lazy)
        marked(leaking)


def test_a_number_that_was_used_again_keeps_nothing(marked: Marked, lazy: Lazy) -> None:
    def leaking() -> None:
        lazy.file()
        number = lazy.thing.fileno()
        os.close(number)
        assert ctypes.CDLL(None).dup(0) == number

    with marked.fixture() as life:
        life.keep(lazy)
        (finding,) = marked.found(leaking)
        assert (finding.kind, finding.created) == (Kind.FDS, None)
        lazy.thing.close()


@pytest.mark.parametrize(("way", "path"), [("file", ""), ("number", ""), ("numbers", "[0]"), ("database", "")])
def test_a_descriptor_says_what_keeps_it(
    marked: Marked, lazy: Lazy, monkeypatch: pytest.MonkeyPatch, way: str, path: str
) -> None:
    kept = types.ModuleType("kept")
    monkeypatch.setitem(sys.modules, "kept", kept)

    def leaking() -> None:
        vars(kept)["last"] = Lazy(lazy.path)
        WAYS[way](vars(kept)["last"])

    (finding,) = marked.found(leaking)
    assert finding.held_by == f"module attribute kept.last.thing{path}"
    vars(kept)["last"].close()


# -- what a library keeps ----------------------------------------------------------------------------------------------

ENGINE = """
import os
import sqlite3
from collections import deque

_engine = None
_fd = None


class Connection:
    def __init__(self, path):
        self.raw = sqlite3.connect(path)


class Engine:
    def __init__(self, path):
        self.path = path
        self.idle = deque()

    def take(self):
        return self.idle.pop() if self.idle else Connection(self.path)

    def use(self):
        self.idle.append(self.take())

    def close(self):
        while self.idle:
            self.idle.pop().raw.close()


class Tracker:
    def __init__(self):
        self.fds = None

    def ensure_running(self):
        self.fds = self.fds or os.pipe()

    def close(self):
        for fd in self.fds:
            os.close(fd)


tracker = Tracker()


def engine(path):
    global _engine
    _engine = _engine or Engine(path)
    return _engine
"""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installed library with a pool of connections to a database, and with globals of its own."""
    library: Any = types.ModuleType("engines")
    library.__file__ = "/usr/lib/python3/site-packages/engines.py"
    exec(compile(ENGINE, library.__file__, "exec"), vars(library))
    monkeypatch.setitem(sys.modules, "engines", library)
    return library


def test_what_waits_in_the_pool_of_a_wider_fixture_is_its_own(marked: Marked, library: Any, tmp_path: Path) -> None:
    engine = library.Engine(tmp_path / "a.db")
    with marked.fixture() as life:
        life.keep(engine)
        assert marked.found(engine.use) == ()
        assert marked.found(engine.use) == ()
        with life.during():
            engine.close()


def test_what_a_test_has_taken_from_the_pool_of_a_wider_fixture_is_its_leak(
    marked: Marked, kept: list[Any], library: Any, tmp_path: Path
) -> None:
    engine = library.Engine(tmp_path / "a.db")

    def leaking() -> None:
        kept.append(engine.take())  # leak: fds

    with marked.fixture() as life:
        life.keep(engine)
        marked(leaking)
    kept.pop().raw.close()


def test_what_a_library_keeps_for_the_process_is_nobodys_leak(leaks: Leaks, library: Any, tmp_path: Path) -> None:
    assert leaks(library.tracker.ensure_running) == ()
    assert leaks(lambda: library.engine(tmp_path / "a.db").use()) == ()
    own, tracker = library.Engine(tmp_path / "b.db"), library.Tracker()
    assert [finding.kind for finding in leaks(own.use)] == [Kind.FDS]
    assert [finding.kind for finding in leaks(tracker.ensure_running)] == [Kind.FDS]
    for each in (own, tracker, library.tracker, library.engine(None)):
        each.close()


def test_what_a_test_has_opened_and_put_into_a_library_is_its_leak(marked: Marked, lazy: Lazy, library: Any) -> None:
    def leaking() -> None:
        library.output = open(lazy.path)  # leak: fds

    with marked.fixture() as life:
        life.keep(lazy)
        marked(leaking)
    library.output.close()


def test_what_a_database_keeps_beside_its_file_is_told_with_that(
    marked: Marked, kept: list[Any], tmp_path: Path
) -> None:
    def write(path: Path, connection: Any = None) -> None:
        connection = connection or sqlite3.connect(path)  # leak: fds
        kept.append(connection)
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table things (name)")
        connection.commit()

    with marked.fixture() as life:
        wide = life.make(lambda: sqlite3.connect(tmp_path / "a.db"))
        assert marked.found(lambda: write(tmp_path, wide)) == ()
        with life.during():
            wide.close()
    assert [finding.summary.rpartition("/")[2] for finding in marked.found(lambda: write(tmp_path / "b.db"))] == [
        "b.db"
    ]


class Unlocked(sqlite3.Connection):
    """A connection of a user's own class, which a weak reference can be made to."""


CONNECTIONS = [sqlite3.Connection, Unlocked]


def in_transaction(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("create table things (name)")
    connection.execute("insert into things values (1)")
    return connection


def read(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    connection = sqlite3.connect(path, factory=factory)
    assert connection.execute("select 1 from sqlite_master").fetchall() is not None
    return connection


@pytest.mark.parametrize(
    ("factory", "is_closed"), [(sqlite3.Connection, True), (sqlite3.Connection, False), (Unlocked, True)]
)
def test_what_sqlite_keeps_of_a_connection_that_is_over_is_no_leak(
    marked: Marked, tmp_path: Path, factory: type[sqlite3.Connection], is_closed: bool
) -> None:
    path = tmp_path / "a.db"

    def clean() -> None:
        connection = read(path, factory)
        if is_closed:
            connection.close()
        del connection

    with marked.fixture() as life:
        wide = life.make(lambda: in_transaction(path))
        marked(clean)
        marked(clean)
        with life.during():
            wide.close()


@pytest.mark.parametrize("factory", CONNECTIONS)
def test_a_connection_beside_one_with_a_lock_is_a_leak(
    marked: Marked, kept: list[Any], tmp_path: Path, factory: type[sqlite3.Connection]
) -> None:
    path = tmp_path / "a.db"
    with marked.fixture() as life:
        wide = life.make(lambda: in_transaction(path))
        (finding,) = marked.found(lambda: kept.append(read(path, factory)))
        assert finding.created is not None
        assert finding.created.function == "read"
        with life.during():
            wide.close()


def by_place(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path)  # leak: fds


def by_name(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(database=path)  # leak: fds


def by_uri(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{str(path).replace('a', '%61')}?mode=rw", uri=True)  # leak: fds


@pytest.mark.parametrize("connect", [by_place, by_name, by_uri])
def test_a_connection_that_takes_over_what_was_kept_of_another_leaks(
    marked: Marked, kept: list[Any], tmp_path: Path, connect: Callable[[Path], sqlite3.Connection]
) -> None:
    path = tmp_path / "a.db"

    def leaking() -> None:
        read(path).close()
        kept.append(connect(path))

    def clean() -> None:
        read(path).close()
        connect(path).close()

    with marked.fixture() as life:
        wide = life.make(lambda: in_transaction(path))
        marked(clean)
        (finding,) = marked(leaking, connect)
        assert "contextlib.closing" in finding.hint
        with life.during():
            wide.close()


def test_of_a_file_each_connection_that_is_left_is_told(marked: Marked, kept: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    def leaking() -> None:
        kept.append(in_transaction(path))
        read(path).close()
        kept.append(by_place(path))

    assert len(marked.found(leaking)) == 2


def test_connections_that_come_and_go_are_not_searched_for(
    marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looks = tmp_path / "a.db", []
    monkeypatch.setattr(heirs, "living", lambda addresses: looks.append(1) or databases.living(addresses))

    def clean() -> None:
        for _ in range(20):
            read(path).close()

    with marked.fixture() as life:
        wide = life.make(lambda: in_transaction(path))
        assert marked.found(clean) == ()
        assert len(looks) == 1
        with life.during():
            wide.close()


class Pool:
    """Two connections that two threads make at the same time; the one that is there first is kept, the other one not."""

    def __init__(self, path: Path, other: Path) -> None:
        self.paths = {"first": path, "second": other}
        self.kept: list[sqlite3.Connection] = []
        self.both = threading.Barrier(2)
        self.is_first_made = threading.Event()

    def fill(self) -> list[sqlite3.Connection]:
        """Keep the first, and give the other."""
        pool, made = self, dict[str, sqlite3.Connection]()

        class Meeting(sqlite3.Connection):
            def __init__(self, *args: Any, **keywords: Any) -> None:
                pool.both.wait(30)
                super().__init__(*args, **keywords)
                pool.both.wait(30)
                if threading.current_thread().name == "second":
                    assert pool.is_first_made.wait(30)

        def connect() -> None:
            name = threading.current_thread().name
            made[name] = sqlite3.connect(self.paths[name], factory=Meeting, check_same_thread=False)  # leak: fds
            self.is_first_made.set()

        threads = [threading.Thread(target=connect, name=name) for name in ("first", "second")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.kept.append(made["first"])
        return [made["second"]]

    def close(self) -> None:
        for connection in self.kept:
            connection.close()


@pytest.mark.parametrize("other", ["a.db", "b.db"])
@pytest.mark.parametrize("is_kept", [False, True])
def test_of_connections_that_threads_make_at_the_same_time_each_has_its_own_descriptor(
    marked: Marked, kept: list[Any], tmp_path: Path, is_kept: bool, other: str
) -> None:
    def clean() -> None:
        pool.fill()[0].close()

    def leaking() -> None:
        kept.extend(pool.fill())

    with marked.fixture() as life:
        pool = life.make(lambda: Pool(tmp_path / "a.db", tmp_path / other))
        life.keep(pool)
        if is_kept:
            (finding,) = marked(leaking, pool.fill)
            assert (finding.count, finding.summary.rpartition("/")[2]) == (1, other)
            kept[-1].close()
        else:
            marked(clean)
        with life.during():
            pool.close()


def test_what_another_thread_opens_while_a_connection_is_made_is_not_the_connections(
    marked: Marked, kept: list[Any], tmp_path: Path
) -> None:
    class Waiting(sqlite3.Connection):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            thread = threading.Thread(target=lambda: kept.append(open(tmp_path / "notes", "w")))  # leak: fds
            thread.start()
            thread.join()

    def leaking() -> None:
        sqlite3.connect(tmp_path / "a.db", factory=Waiting).close()

    marked(leaking, Waiting.__init__)


def attach(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute(f"attach database '{path / 'b.db'}' as other")
    connection.execute("create table other.things (name)")
    connection.commit()


def attach_empty(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute(f"attach database '{path / 'b.db'}' as other")


def spill(_: Path, connection: sqlite3.Connection) -> None:
    connection.execute("pragma temp_store=file")
    connection.execute("pragma temp.cache_size=10")
    connection.execute("create temp table things (name)")
    connection.executemany("insert into things values (?)", [("x" * 1000,)] * 100)


@pytest.mark.parametrize("place", ["a.db", ":memory:"])
@pytest.mark.parametrize("use", [attach, attach_empty, spill])
def test_what_a_fixtures_connection_opens_beside_its_file_is_the_fixtures(
    marked: Marked, tmp_path: Path, use: Callable[[Path, sqlite3.Connection], None], place: str
) -> None:
    with marked.fixture() as life:
        wide = life.make(lambda: sqlite3.connect(place if place == ":memory:" else tmp_path / place))
        assert marked.found(lambda: use(tmp_path, wide)) == ()
        with life.during():
            wide.close()


@pytest.mark.parametrize("use", [attach, attach_empty, spill])
def test_what_a_connection_that_is_left_has_opened_beside_its_file_is_told_with_that(
    marked: Marked, kept: list[Any], tmp_path: Path, use: Callable[[Path, sqlite3.Connection], None]
) -> None:
    def leaking() -> None:
        kept.append(sqlite3.connect(tmp_path / "a.db"))  # leak: fds
        use(tmp_path, kept[-1])

    marked(leaking)


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside a fixture's"])
@pytest.mark.parametrize("factory", CONNECTIONS)
def test_a_connection_that_is_made_by_its_class_is_not_what_has_opened_its_file(
    marked: Marked, kept: list[Any], tmp_path: Path, factory: type[sqlite3.Connection], is_alone: bool
) -> None:
    def leaking() -> None:
        kept.append(factory(tmp_path / "a.db"))
        kept[-1].execute("create table things (name)")

    with marked.fixture() as life:
        wide = life.make(lambda: None if is_alone else sqlite3.connect(tmp_path / "b.db"))
        (finding,) = marked.found(leaking)
        assert finding.summary.endswith("a.db")
        kept.pop().close()
        if wide is not None:
            with life.during():
                wide.close()


def test_what_stands_in_for_sqlite3_is_asked_nothing(
    marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean() -> None:
        attach(tmp_path, wide)
        monkeypatch.setitem(sys.modules, "sqlite3", mock.MagicMock())

    with marked.fixture() as life:
        wide = life.make(lambda: sqlite3.connect(tmp_path / "a.db"))
        assert marked.found(clean) == ()
        monkeypatch.undo()
        with life.during():
            wide.close()


def test_the_heap_is_asked_once_for_what_no_connection_has_opened(
    marked: Marked, kept: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    monkeypatch.setattr(ledger.databases, "are_open", looks.append)

    def leaking() -> None:
        for number in range(3):
            kept.append(Unlocked(tmp_path / f"{number}.db"))
            kept[-1].execute("create table things (name)")

    (finding,) = marked.found(leaking)
    assert finding.count == 3
    assert len(looks) == 1


@pytest.mark.parametrize("name", ["stat", "listdir", "fstat"])
def test_a_connection_in_memory_asks_the_system_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    held = sqlite3.connect(tmp_path / "a.db")
    calls: list[Any] = []
    monkeypatch.setattr(os, name, lambda *args: calls.append(args))
    monkeypatch.setattr(opennumbers, f"_{name}", lambda *args: calls.append(args))
    sqlite3.connect(":memory:").close()
    monkeypatch.undo()
    assert calls == []
    held.close()


def test_what_was_kept_of_a_connection_is_not_that_of_another_at_its_address(
    marked: Marked, kept: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.db"

    def clean() -> None:
        address = id(read(path))
        for _ in range(500):  # until its memory is used again
            kept.append(sqlite3.connect(":memory:"))
            if id(kept[-1]) == address:
                return
        raise AssertionError("the memory was not used again")

    with marked.fixture() as life:
        wide = life.make(lambda: in_transaction(path))
        marked(clean)
        with life.during():
            wide.close()


def test_a_connection_that_is_closed_while_it_is_read_leaks(marked: Marked, tmp_path: Path) -> None:
    in_transaction(tmp_path / "a.db").close()
    cursors: list[sqlite3.Cursor] = []

    def leaking() -> None:
        connection = sqlite3.connect(tmp_path / "a.db")  # leak: fds
        cursors.append(connection.execute("select name from sqlite_master"))
        connection.close()

    marked(leaking)


def test_a_lock_that_is_left_is_one_leak(marked: Marked, kept: list[Any], tmp_path: Path) -> None:
    def leaking() -> None:
        kept.append(in_transaction(tmp_path / "a.db"))
        read(tmp_path / "a.db").close()

    (finding,) = marked.found(leaking)
    assert finding.created is not None
    assert finding.created.function == "in_transaction"


# -- what code in C opens for an object --------------------------------------------------------------------------------


class Native:
    """An object of a library in C, whose sockets are put into the one poller of that library."""

    __module__ = "native"

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def __init__(self) -> None:
        self.fds: deque[int] = deque()


class Stub:
    """What its users have of it."""

    def __init__(self, channel: Native) -> None:
        self.channel = channel


class Library:
    """The calls of a library in C: nobody sees them."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None)

    def poller(self) -> int:
        fd: int = self.libc.epoll_create1(0)
        return fd

    def socket(self, channel: Native, poller: int | None) -> None:
        fd = self.libc.socket(2, 1, 0)
        channel.fds.append(fd)
        if poller is not None:
            event = ctypes.create_string_buffer(struct.pack("=Iq", 1, fd))
            assert self.libc.epoll_ctl(poller, 1, fd, event) == 0


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Library:
    module = types.ModuleType("native")
    module.__file__ = "/usr/lib/python3/site-packages/native" + EXTENSION_SUFFIXES[0]
    monkeypatch.setitem(sys.modules, "native", module)
    return Library()


@pytest.fixture
def channels() -> Iterator[Callable[[], Native]]:
    """Makes channels, which are closed at the test's end."""
    made: list[Native] = []

    def make() -> Native:
        made.append(Native())
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_socket_in_a_poller_of_a_wider_object_in_c_is_its_own(marked: Marked, native: Library) -> None:
    with marked.fixture() as life:
        stub, poller = life.make(lambda: (Stub(Native()), native.poller()))
        life.keep(stub)
        assert marked.found(lambda: native.socket(stub.channel, poller)) == ()
        with life.during():
            stub.channel.close()
            os.close(poller)


@pytest.mark.parametrize("is_making", [True, False])
def test_what_appears_while_a_thread_makes_its_loop_may_be_that_loops(
    session: Session, marked: Marked, native: Library, is_making: bool
) -> None:
    if is_making:
        session.watch.making.add(-1)
    with marked.fixture() as life:
        poller = life.make(native.poller)
        assert session.watch.fds.get(poller, (None, session.watch.root))[1].scope == (
            "process" if is_making else "module"
        )
        with life.during():
            os.close(poller)
    session.watch.making.clear()


class ByThread:
    """One of such objects for each thread."""

    def __init__(self) -> None:
        self.local = threading.local()
        self.local.channel = Native()

    @property
    def channel(self) -> Native:
        return self.local.channel  # type: ignore[no-any-return]


class Handle:
    """What cffi gives an object in Python for one in C."""

    __module__ = "_cffi_backend"


class InPython(Native):
    """An object in Python around one in C."""

    __module__ = "library"

    def __init__(self) -> None:
        super().__init__()
        self.handle = Handle()


@pytest.mark.parametrize(
    "make",
    [lambda: Stub(Native()), ByThread, lambda: Stub(InPython())],
    ids=["by an attribute", "of the thread", "around a handle"],
)
def test_a_socket_of_a_wider_object_in_c_is_its_own_without_a_poller_too(
    marked: Marked, native: Library, make: Callable[[], Any]
) -> None:
    def using() -> None:
        native.socket(stub.channel, None)
        stub.channel.fds.append(native.libc.eventfd(0, 0))

    with marked.fixture() as life:
        stub = life.make(make)
        life.keep(stub)
        assert marked.found(using) == ()
        with life.during():
            stub.channel.close()


def test_what_wakes_code_in_c_is_the_tests_where_there_is_no_such_object(
    marked: Marked, native: Library, channels: Callable[[], Native]
) -> None:
    channel = channels()
    (finding,) = marked.found(lambda: channel.fds.append(native.libc.eventfd(0, 0)))
    assert finding.summary.endswith("anon_inode:[eventfd]")


@pytest.mark.parametrize(
    ("methods", "is_native"), [({}, True), ({"read": lambda self: None}, False)], ids=["C", "Python"]
)
def test_a_class_in_c_may_say_that_it_is_of_a_module_in_python(
    monkeypatch: pytest.MonkeyPatch, native: Library, methods: dict[str, Any], is_native: bool
) -> None:
    for name, file in (("curl", "curl/__init__.py"), ("curl._curl", f"curl/_curl{EXTENSION_SUFFIXES[0]}")):
        module = types.ModuleType(name)
        module.__file__ = f"/usr/lib/python3/site-packages/{file}"
        monkeypatch.setitem(sys.modules, name, module)
    cls = type("Curl", (), {"__module__": "curl", "close": len, **methods})
    thing = cls()
    found = pollers.native_keeper([thing], lambda each: True)
    assert found is (thing if is_native else None)


def test_a_wider_fixture_answers_at_its_end_for_the_sockets_of_its_object_in_c(marked: Marked, native: Library) -> None:
    stub = Stub(Native())
    with pytest.raises(AssertionError), marked.fixture() as life:
        poller = life.make(native.poller)
        life.keep(stub)
        assert marked.found(lambda: native.socket(stub.channel, poller)) == ()
        os.close(poller)
    assert [finding.kind for finding in life.check.findings] == [Kind.SOCKETS]
    stub.channel.close()


@pytest.mark.parametrize(
    ("case", "is_polled"),
    [("poller of the test", True), *itertools.product(["another object", "no object", "a loop in C"], [True, False])],
)
def test_a_socket_that_may_be_the_tests_own_is_its_leak(
    session: Session, marked: Marked, native: Library, case: str, is_polled: bool
) -> None:
    class LoopRecord(Bystander):
        kind, key, ref = Kind.LOOPS, 0, staticmethod(lambda: None)
        LIBRARY = "uvloop"

        def is_over(self) -> bool:
            return False

    stub, mine = Stub(Native()), [Native()] if case == "another object" else []
    loops = session.watch.table("loops").records

    def leaking() -> None:
        poller = native.poller() if case == "poller of the test" else of_fixture
        native.socket(mine[0] if mine else stub.channel, poller if is_polled else None)

    with marked.fixture() as life:
        of_fixture = life.make(native.poller)
        life.keep(Lazy(Path()) if case == "no object" else stub)
        if case == "a loop in C":
            loops[0] = LoopRecord()
        kinds = {finding.kind for finding in marked.found(leaking)}
        assert kinds == {Kind.SOCKETS} | ({Kind.FDS} if case == "poller of the test" else set())
        loops.pop(0, None)
        with life.during():
            os.close(of_fixture)
    for each in (stub.channel, *mine):
        each.close()


ON_INSTANCES = """
import os


class TestPipes:
    def setup_method(self):
        self.pipe = os.pipe()
        os.close(self.pipe[0])

    def test_leaks(self):
        pass
"""


def test_a_number_that_the_instance_of_a_test_keeps_has_its_place_there(inner: Inner) -> None:
    inner.write(test_a=ON_INSTANCES)
    inner.run()
    ((finding,),) = (row["findings"] for row in inner.report["tests"])
    assert finding["held_by"] == "self.pipe[1] of TestPipes"
