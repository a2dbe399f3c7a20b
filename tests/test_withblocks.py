"""Where what leaks was entered by a `with` block already, the hint says what keeps that from closing it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import urllib3
from marked import Leaks

from pytest_httpleak import sites, withblocks
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State

STACK = "close the stack that it was entered by, best with `with contextlib.ExitStack() as stack:`"
LATER_STACK = "close the stack that it was entered by, best with `async with contextlib.AsyncExitStack() as stack:`"
DROPPED = (
    "the `with` block there closes it once it is left: if it was, the library itself has dropped it: upgrade requests; "
    "a hook that raises, or gives another response in its place, has to close this one itself"
)
HANDED_ON = (
    "close each response that this function does not return, by `response.close()`; "
    "what it returns, the `with` block there closes"
)

# A library that notes where it was when it made something.
LIBRARY = """
class Made:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    close = __exit__
    async def __aenter__(self):
        note()
        return self
    async def __aexit__(self, *_):
        pass
class Session:
    def get(self, *_):
        note()
        return Made()
    def lines(self, *_):
        return Made()
    async def get_later(self):
        note()
        return Made()
    def stream(self):
        return self
    def ask(self, body):
        next(body)
    def through(self, adapter):
        return adapter.send()
    def __enter__(self):
        note()
    def __exit__(self, *_):
        pass
"""


@pytest.fixture
def births() -> list[sites.Birth]:
    """Where the library made something, one after the other."""
    return []


def client_of(library: str, births: list[sites.Birth]) -> Any:
    """A session of an installed library."""
    namespace: dict[str, Any] = {"__name__": f"{library}.sessions", "note": lambda: births.append(sites.capture(2))}
    exec(compile(LIBRARY, f"/usr/lib/python3/site-packages/{library}/sessions.py", "exec"), namespace)
    return namespace["Session"]()


@pytest.fixture
def client(births: list[sites.Birth]) -> Any:
    """One of a library whose sessions may be used again."""
    return client_of("requests", births)


@pytest.fixture
def hint_of(leaks: Leaks) -> Any:
    """The hint to what a function leaks, which there is one of."""

    def hint(function: Any) -> str:
        (found,) = leaks(function, grace=0)
        return found.hint

    return hint


def suspect_of(birth: sites.Birth, kind: Kind = Kind.RESPONSES, state: State = State.COLLECTED) -> Suspect:
    return Suspect(kind, "requests", "requests.Session", state, "", 1, birth.site(), birth.stack())


def by_block(client: Any) -> None:
    with client.get():
        pass


def by_one_of_two(client: Any) -> None:
    with (
        client.lines() as lines,
        client.get(
            "a",
            lines,
        ),
    ):
        pass


def by_entering(client: Any) -> None:
    with client.stream():
        pass


def by_closing(client: Any) -> None:
    with contextlib.closing(client.get()):
        pass


def for_what_is_entered(client: Any) -> None:
    with client.get(client.get()):
        pass


def for_what_is_closed(client: Any) -> None:
    with contextlib.closing(client.lines(client.get())):
        pass


def by_hand(client: Any) -> None:
    client.stream().__enter__()


def before_the_block(client: Any) -> None:
    made = client.get()
    with made:
        pass


def by_a_stack(client: Any) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(client.get())


def by_a_stack_on_lines_of_its_own(client: Any) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            client.get(),
        )


def by_a_stack_behind_wide_letters(client: Any) -> None:
    with contextlib.ExitStack() as stack:
        _ = "äöüäöüäöüäöü", stack.enter_context(client.get())


def by_a_stack_that_closes(client: Any) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(client.get()))


def by_a_stack_that_enters(client: Any) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(client.stream())


def beside_a_stack(client: Any) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(client.lines(client.get()))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (by_block, [DROPPED]),
        (by_one_of_two, [DROPPED]),
        (by_entering, [DROPPED]),
        (by_closing, [DROPPED]),
        (for_what_is_entered, [None, DROPPED]),
        (for_what_is_closed, [None]),
        (by_hand, [None]),
        (before_the_block, [None]),
        (by_a_stack, [STACK]),
        (by_a_stack_on_lines_of_its_own, [STACK]),
        (by_a_stack_behind_wide_letters, [STACK]),
        (by_a_stack_that_closes, [STACK]),
        (by_a_stack_that_enters, [STACK]),
        (beside_a_stack, [None]),
    ],
)
def test_what_is_entered_is_told_from_what_is_only_made_there(
    client: Any, births: list[sites.Birth], function: Callable[[Any], None], expected: list[str | None]
) -> None:
    function(client)
    assert [withblocks.hint(suspect_of(birth)) for birth in births] == expected


async def later_by_block(client: Any) -> None:
    async with client.lines():
        pass


async def later_by_closing(client: Any) -> None:
    with contextlib.closing(await client.get_later()):
        pass


async def later_awaited(client: Any) -> None:
    await client.get_later()


async def later_by_a_stack(client: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(client.lines())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (later_by_block, DROPPED),
        (later_by_closing, DROPPED),
        (later_awaited, None),
        (later_by_a_stack, LATER_STACK),
    ],
)
def test_so_it_is_where_it_is_awaited(
    client: Any, births: list[sites.Birth], function: Callable[[Any], Any], expected: str | None
) -> None:
    asyncio.run(function(client))
    assert [withblocks.hint(suspect_of(birth)) for birth in births] == [expected]


class HandsOn:
    """An adapter of the user's own, which the library calls."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def send(self) -> Any:
        return self.client.get()


def by_block_through_an_adapter(client: Any) -> None:
    with client.through(HandsOn(client)):
        pass


def before_the_block_through_an_adapter(client: Any) -> None:
    made = client.through(HandsOn(client))
    with made:
        pass


@pytest.mark.parametrize(
    ("function", "expected"), [(by_block_through_an_adapter, HANDED_ON), (before_the_block_through_an_adapter, None)]
)
def test_an_adapter_of_the_users_own_that_hands_on_enters_nothing(
    client: Any, births: list[sites.Birth], function: Callable[[Any], None], expected: str | None
) -> None:
    function(client)
    assert [withblocks.hint(suspect_of(birth)) for birth in births] == [expected]


def test_a_block_that_does_not_close_what_it_enters_does_so_through_another(
    client: Any, births: list[sites.Birth]
) -> None:
    for function in (by_block, by_entering, by_a_stack, by_closing, by_a_stack_that_closes):
        function(client)
    hints = [withblocks.hint(suspect_of(birth), closes=False) for birth in births]
    assert hints == [None, None, None, DROPPED, STACK]


def test_a_client_that_is_used_after_its_block_is_open_again(client: Any, births: list[sites.Birth]) -> None:
    by_block(client)
    hints = [withblocks.hint(suspect_of(births[0], Kind.CLIENTS, state)) for state in (State.OPEN, State.COLLECTED)]
    assert hints == [
        "the `with` block there has closed it: a request that is sent after the block opens it again",
        DROPPED.partition(";")[0],
    ]


def test_of_a_client_of_the_users_own_its_close_may_be_to_blame(client: Any, births: list[sites.Birth]) -> None:
    by_block(client)
    stock = suspect_of(births[0], Kind.CLIENTS, State.OPEN)
    own = replace(stock, type="program.Session")
    assert str(withblocks.hint(own)).endswith("; or its own `close()` does not call `super().close()`")
    assert str(withblocks.hint(stock)).endswith("opens it again")


def test_a_library_without_hooks_is_not_said_to_have_them(births: list[sites.Birth]) -> None:
    by_block(client_of("httpx", births))
    suspect = replace(suspect_of(births[0]), library="httpx")
    assert withblocks.hint(suspect) == DROPPED.partition(";")[0].replace("requests", "httpx")


@pytest.mark.parametrize(
    ("library", "own_hint", "closing"),
    [
        ("requests", "", "response.close()"),
        ("aiohttp", "", "response.release()"),
        ("httpx", "call `await response.aclose()`", "await response.aclose()"),
        ("httpx", "call `response.close()`", "response.close()"),
    ],
)
def test_what_is_handed_on_is_closed_by_the_means_of_its_library(
    births: list[sites.Birth], library: str, own_hint: str, closing: str
) -> None:
    by_block_through_an_adapter(client_of(library, births))
    suspect = replace(suspect_of(births[0]), library=library, hint=own_hint)
    assert withblocks.hint(suspect) == HANDED_ON.replace("response.close()", closing)


@pytest.mark.parametrize(
    ("state", "library", "is_again"),
    [(State.COLLECTED, "", True), (State.OPEN, "", False), (State.COLLECTED, "websockets", False)],
)
def test_only_what_was_dropped_was_made_again_within_its_block(
    births: list[sites.Birth], state: State, library: str, *, is_again: bool
) -> None:
    """Nor what another library has made on its way there, and has dropped."""
    by_block(client_of("sdk", births))
    suspect = suspect_of(births[0], Kind.SOCKETS, state)
    assert suspect.created is not None
    maker = Site("/usr/lib/python3/smtplib.py", 1, "connect")
    between = [Site(f"/usr/lib/python3/site-packages/{library}/client.py", 1, "connect")] if library else []
    stack = maker, *between, *suspect.stack[suspect.stack.index(suspect.created) :]
    suspect = replace(suspect, library="socket", stack=stack)
    hint = withblocks.hint(suspect)
    assert (hint is not None) is is_again
    assert hint is None or "within the block it was connected again" in hint


@pytest.mark.parametrize("kind", [Kind.SOCKETS, Kind.FDS, Kind.THREADS])
def test_of_other_things_no_library_is_blamed(client: Any, births: list[sites.Birth], kind: Kind) -> None:
    by_block(client)
    assert withblocks.hint(suspect_of(births[0], kind)) is None


def test_a_line_of_which_the_instruction_is_not_known_any_more_tells_nothing(
    client: Any, births: list[sites.Birth]
) -> None:
    by_block(client)
    suspect = suspect_of(births[0])
    sites._told.clear()
    assert withblocks.hint(suspect) is None


def test_a_file_that_cannot_be_read_tells_of_no_stack(
    client: Any, births: list[sites.Birth], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_a_stack(client)
    monkeypatch.setattr("linecache.getline", lambda *_: 1 / 0)
    assert withblocks.hint(suspect_of(births[0])) is None


# -- generators that wait to go on ---------------------------------------------------------------------------------------


def lines() -> Iterator[str]:
    with Path(__file__).open() as file:  # a call of Python
        yield from file


def inner() -> Iterator[str]:
    with open(__file__) as file:  # noqa: PTH123  # a call of C
        yield from file


def outer() -> Iterator[str]:
    yield from inner()


async def lines_later() -> AsyncIterator[str]:
    with open(__file__) as file:  # noqa: PTH123
        yield file.readline()


@contextlib.contextmanager
def opened() -> Iterator[IO[str]]:
    with open(__file__) as file:  # noqa: PTH123
        yield file


@contextlib.contextmanager
def opened_within() -> Iterator[IO[str]]:
    with opened() as file:
        yield file


class Lines:
    def __iter__(self) -> Iterator[str]:
        with open(__file__) as file:  # noqa: PTH123
            yield from file


def rows(path: Path) -> Iterator[Any]:
    with sqlite3.connect(path) as connection:
        yield connection


def closed_rows(path: Path) -> Iterator[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield connection


def managers() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager() as manager:
        yield manager


def sockets() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


@pytest.mark.parametrize(
    ("generator", "name"),
    [
        (inner, "closing(inner(...))"),
        (lines, "closing(lines(...))"),
        (outer, "closing(outer(...))"),
        (sockets, "closing(sockets(...))"),
        (lambda: iter(Lines()), "closing(...)"),
    ],
)
def test_a_generator_that_was_left_on_its_way_is_to_be_closed(
    hint_of: Any, ending: contextlib.ExitStack, generator: Callable[[], Any], name: str
) -> None:
    def leaking() -> None:
        made = generator()
        ending.callback(made.close)
        next(made)

    assert hint_of(leaking) == (
        f"the `with` block there was not left: close the generator, as `with contextlib.{name} as ...:` does"
    )


def tried() -> Iterator[socket.socket]:
    sock = socket.socket()
    try:
        yield sock
    finally:
        sock.close()


def tried_around_others() -> Iterator[str]:
    sock = socket.socket()
    try:
        try:
            yield from "ab"
        except ValueError:
            yield ""
    finally:
        sock.close()


def for_others_to_close() -> Iterator[socket.socket]:
    sock = socket.socket()
    try:
        yield sock
    except ValueError:
        yield sock
    sock.close()


@pytest.mark.parametrize(
    ("generator", "is_closing"), [(tried, True), (tried_around_others, True), (for_others_to_close, False)]
)
def test_so_is_one_that_waits_in_a_try_which_closes(
    hint_of: Any, ending: contextlib.ExitStack, generator: Callable[[], Any], *, is_closing: bool
) -> None:
    made = generator()
    ending.callback(lambda: [*made])
    assert hint_of(lambda: next(made)) == (
        "the `try` block there was not left: "
        f"close the generator, as `with contextlib.closing({generator.__name__}(...)) as ...:` does"
        if is_closing
        else "close the socket, best with a `with` block"
    )


def test_a_context_manager_that_does_so_is_to_be_left_by_a_block(hint_of: Any, ending: contextlib.ExitStack) -> None:
    manager = contextlib.contextmanager(tried)()
    ending.callback(manager.__exit__, None, None, None)
    assert hint_of(manager.__enter__) == (
        "the `try` block there was not left: use `with tried(...):`, which leaves it, too"
    )


async def tried_later(client: Any) -> AsyncIterator[None]:
    made = client.get()
    try:
        yield
    finally:
        made.close()


@pytest.mark.parametrize("is_over", [True, False])
def test_an_asynchronous_one_that_does_so_may_be_over(
    client: Any, births: list[sites.Birth], ending: contextlib.ExitStack, *, is_over: bool
) -> None:
    """As where a test runner ends the test's loop: what only that has closed is told."""
    generator: Any = tried_later(client)
    _end(generator.asend(None))
    (_end if is_over else lambda closing: ending.callback(_end, closing))(generator.aclose())
    assert str(withblocks.hint(suspect_of(births[0], state=State.OPEN))).startswith(
        ("if " if is_over else "")
        + "the `try` block there was not left: close the generator, as `async with contextlib.aclosing(tried_later("
    )


def test_so_is_one_that_the_library_has_asked(client: Any, births: list[sites.Birth]) -> None:
    def sending() -> Iterator[None]:
        with client.get():
            yield

    body = sending()
    client.ask(body)
    assert withblocks.hint(suspect_of(births[0], state=State.OPEN)) == (
        "the `with` block there was not left: close the generator, as `with contextlib.closing(sending(...)) as ...:` does"
    )
    body.close()


def test_one_that_is_closed_leaves_nothing(leaks: Leaks) -> None:
    def clean() -> None:
        with contextlib.closing(inner()) as generator:
            next(generator)

    assert leaks(clean) == ()


def test_a_client_of_one_that_was_left_is_closed_with_it(
    hint_of: Any, ending: contextlib.ExitStack, server: str
) -> None:
    def leaking() -> None:
        made = managers()
        ending.callback(made.close)
        next(made).request("GET", f"{server}/ok")

    assert "close the generator, as `with contextlib.closing(managers(...))" in hint_of(leaking)


def test_one_that_was_used_after_it_was_closed_is_not(hint_of: Any, ending: contextlib.ExitStack, server: str) -> None:
    def leaking() -> None:
        with contextlib.closing(managers()) as generator:
            manager = next(generator)
        ending.callback(manager.clear)
        manager.request("GET", f"{server}/ok")

    assert "a request that is sent after the block opens it again" in hint_of(leaking)


def test_an_asynchronous_one_is_closed_in_its_own_way(hint_of: Any, ending: contextlib.ExitStack) -> None:
    generator: Any = lines_later()
    ending.callback(_end, generator.aclose())

    assert hint_of(lambda: _end(generator.asend(None))) == (
        "the `with` block there was not left: "
        "close the generator, as `async with contextlib.aclosing(lines_later(...)) as ...:` does"
    )


async def later_in_a_generator(client: Any) -> AsyncIterator[None]:
    async with client.lines():
        yield


def test_one_that_is_over_may_have_waited_until_its_loop_was_closed(client: Any, births: list[sites.Birth]) -> None:
    async def run() -> None:
        async for _ in later_in_a_generator(client):
            pass

    asyncio.run(run())
    assert str(withblocks.hint(suspect_of(births[0]))).startswith(
        "if the `with` block there was not left: close the generator, as `async with contextlib.aclosing("
    )


def test_one_that_the_test_runner_goes_through_is_closed_by_that(client: Any, births: list[sites.Birth]) -> None:
    """A fixture: no line of the user's is around it."""
    generator: Any = later_in_a_generator(client)
    _end(generator.asend(None))
    with pytest.raises(StopAsyncIteration):
        generator.asend(None).send(None)
    suspect = suspect_of(births[0])
    assert suspect.created is not None
    stack = suspect.stack[: suspect.stack.index(suspect.created) + 1]
    plugin = Site("/usr/lib/python3/site-packages/pytest_asyncio/plugin.py", 1, "setup")
    assert "aclosing" in str(withblocks.hint(suspect))
    assert "aclosing" not in str(withblocks.hint(replace(suspect, stack=(*stack, plugin))))


@contextlib.asynccontextmanager
async def opened_later() -> AsyncIterator[IO[str]]:
    with open(__file__) as file:  # noqa: PTH123
        yield file


def test_so_is_an_asynchronous_context_manager(hint_of: Any, ending: contextlib.ExitStack) -> None:
    made = opened_later()
    ending.callback(lambda: _end(made.__aexit__(None, None, None)))
    assert hint_of(lambda: _end(made.__aenter__())) == (
        "the `with` block there was not left: use `async with opened_later(...):`, which leaves it, too"
    )


def _end(awaitable: Any) -> None:
    with pytest.raises(StopIteration):
        awaitable.send(None)


@pytest.mark.parametrize("manager", [opened, opened_within])
def test_a_context_manager_is_to_be_left_by_a_block_of_its_own(
    hint_of: Any, ending: contextlib.ExitStack, manager: Callable[[], Any]
) -> None:
    made = manager()
    ending.callback(made.__exit__, None, None, None)
    assert hint_of(made.__enter__) == (
        f"the `with` block there was not left: use `with {manager.__name__}(...):`, which leaves it, too"
    )


def test_one_that_a_stack_has_entered_is_left_by_the_stack(hint_of: Any, ending: contextlib.ExitStack) -> None:
    assert hint_of(lambda: ending.enter_context(opened())) == f"the `with` block there was not left: {STACK}"


def test_what_a_stack_has_entered_is_closed_by_the_stack(hint_of: Any, ending: contextlib.ExitStack) -> None:
    assert hint_of(lambda: ending.enter_context(Path(__file__).open())) == STACK  # noqa: SIM115


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(rows, "its own `with` only ends the transaction"), (closed_rows, "closing(closed_rows(...))")],
)
def test_the_block_of_a_database_closes_nothing(
    hint_of: Any, ending: contextlib.ExitStack, tmp_path: Path, rows: Callable[[Path], Any], expected: str
) -> None:
    def leaking() -> None:
        made = rows(tmp_path / "a.db")
        ending.callback(next(made).close)
        ending.callback(made.close)

    assert expected in hint_of(leaking)
