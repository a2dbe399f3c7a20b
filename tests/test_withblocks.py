"""Where a line is the head of a `with` block already, the hint says what keeps that from closing anything."""

from __future__ import annotations

import contextlib
import linecache
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from marked import Leaks

from pytest_httpleak import withblocks
from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State

SESSIONS = "/usr/lib/python3/site-packages/requests/sessions.py"
SDK = "/usr/lib/python3/site-packages/sdk/client.py"
_SOURCE = """\
with session.get(url, stream=True) as response: pass
with later(session.get(url)) as response: pass
response = session.get(url)
async with (session.get(url)) as response: pass
with Session() as session: pass
with pool.client(Session()) as session: pass
with (
    pool.client() as pool,
    session.get(
        url
    ),
): pass
"""


@pytest.fixture
def hint_of(leaks: Leaks) -> Any:
    """The hint to what a function leaks, which there is one of."""

    def hint(function: Any) -> str:
        (found,) = leaks(function, grace=0)
        return found.hint

    return hint


@pytest.fixture
def ending() -> Iterator[contextlib.ExitStack]:
    """Ends what a test has left, after it was judged."""
    with contextlib.ExitStack() as stack:
        yield stack


def lines() -> Iterator[str]:
    with Path(__file__).open() as file:
        yield from file


async def lines_later() -> AsyncIterator[str]:
    with Path(__file__).open() as file:
        yield file.readline()


def _close(generator: Any) -> None:
    with pytest.raises(StopIteration):
        generator.aclose().send(None)


@contextlib.contextmanager
def opened() -> Iterator[IO[str]]:
    with Path(__file__).open() as file:
        yield file


def rows(path: Path) -> Iterator[Any]:
    with sqlite3.connect(path) as connection:
        yield from connection.execute("select 1")


def closed_rows(path: Path) -> Iterator[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield from connection.execute("select 1")


def test_a_generator_that_was_left_on_its_way_is_to_be_closed(hint_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        next(ending.enter_context(contextlib.closing(lines())))

    assert hint_of(leaking) == (
        "the `with` block there was never left: close the generator, as `with contextlib.closing(lines(...)) as ...:` does"
    )


def test_one_that_is_closed_leaves_nothing(leaks: Leaks) -> None:
    def clean() -> None:
        with contextlib.closing(lines()) as generator:
            next(generator)

    assert leaks(clean) == ()


def test_an_asynchronous_one_is_closed_in_its_own_way(hint_of: Any, ending: contextlib.ExitStack) -> None:
    generator = lines_later()
    ending.callback(_close, generator)

    def leaking() -> None:
        with pytest.raises(StopIteration):
            generator.asend(None).send(None)

    assert "`async with contextlib.aclosing(lines_later(...)) as ...:`" in hint_of(leaking)


def test_a_context_manager_is_to_be_left_by_a_block_of_its_own(hint_of: Any, ending: contextlib.ExitStack) -> None:
    manager = opened()
    ending.push(manager)
    assert hint_of(manager.__enter__) == (
        "the `with` block there was never left: use `with opened(...):`, which leaves it, too"
    )


def test_a_stack_is_to_be_closed(hint_of: Any, ending: contextlib.ExitStack) -> None:
    assert hint_of(lambda: ending.enter_context(os.fdopen(os.dup(0)))) == (
        "close the stack that it was entered by, best with `with contextlib.ExitStack() as stack:`"
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(rows, "its own `with` ends a transaction alone"), (closed_rows, "closing(closed_rows(...))")],
)
def test_the_block_of_a_database_closes_nothing(
    hint_of: Any, ending: contextlib.ExitStack, tmp_path: Path, rows: Callable[[Path], Any], expected: str
) -> None:
    def leaking() -> None:
        next(ending.enter_context(contextlib.closing(rows(tmp_path / "a.db"))))

    assert expected in hint_of(leaking)


@pytest.mark.parametrize(
    ("line", "function", "kind", "is_dropped"),
    [
        (1, "get", Kind.RESPONSES, True),
        (2, "get", Kind.RESPONSES, False),
        (3, "get", Kind.RESPONSES, False),
        (4, "get", Kind.RESPONSES, True),
        (3, "__aenter__", Kind.RESPONSES, True),
        (5, "__init__", Kind.CLIENTS, True),
        (6, "__init__", Kind.CLIENTS, False),
        (8, "get", Kind.RESPONSES, False),
        (9, "get", Kind.RESPONSES, True),
        (10, "get", Kind.RESPONSES, True),
        (1, "get", Kind.SOCKETS, False),
    ],
)
def test_what_a_block_has_closed_for_its_user_a_library_has_dropped(
    tmp_path: Path, line: int, function: str, kind: Kind, *, is_dropped: bool
) -> None:
    text = withblocks.hint(_suspect(tmp_path, line, kind, Site(SESSIONS, 9, function)))
    assert (text is not None and text.endswith("upgrade requests")) is is_dropped


@pytest.mark.parametrize("text", ["with session.get(", "\0", "with " + "(" * 1000])
def test_a_file_that_cannot_be_parsed_tells_of_no_block(tmp_path: Path, text: str) -> None:
    suspect = _suspect(tmp_path, 1, Kind.RESPONSES, Site(SESSIONS, 9, "get"))
    Path(suspect.created.file).write_text(text)
    linecache.checkcache()
    assert withblocks.hint(suspect) is None


def test_nor_does_one_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suspect = _suspect(tmp_path, 1, Kind.RESPONSES, Site(SESSIONS, 9, "get"))
    monkeypatch.setattr("tokenize.open", lambda _: 1 / 0)
    assert withblocks.hint(suspect) is None


def test_unless_another_library_is_between(tmp_path: Path) -> None:
    assert withblocks.hint(_suspect(tmp_path, 1, Kind.RESPONSES, Site(SESSIONS, 9, "get"), Site(SDK, 9, "get"))) is None


def _suspect(folder: Path, line: int, kind: Kind, *inside: Site) -> Suspect:
    file = folder / "test_a.py"
    file.write_text(_SOURCE)
    created = Site(str(file), line, "test_a")
    return Suspect(kind, "requests", "requests.Session", State.COLLECTED, "", 1, created, (*inside, created))
