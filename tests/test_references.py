"""What keeps a leak alive, in words; and what lives as long as the process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import queue
import re
import signal
import sys
import threading
import types
import weakref
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from unittest.mock import MagicMock

import pytest
from inner import Inner

from pytest_httpleak import asking
from pytest_httpleak.asking import MAPPINGS
from pytest_httpleak.clocks import Real
from pytest_httpleak.probes import makers, paths, references, ways

pytestmark = pytest.mark.usefixtures("small_heap")


class Client:
    """What is looked for."""

    def get(self) -> None:
        """As a client has it."""


class Slotted:
    __slots__ = ("client",)

    def __init__(self, client: Client) -> None:
        self.client = client


@dataclass
class App:
    client: Any = None


class Clients(NamedTuple):
    client: Client
    other: Client


class State:
    """An object that keeps its attributes in a dict of its own, as those of some frameworks do."""

    def __init__(self) -> None:
        super().__setattr__("_state", {})

    def __getattr__(self, name: str) -> Any:
        return self._state[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._state[name] = value


class Wrapper(property):
    """An object that keeps another one in a field of C, and stands for something that has parts."""

    def __iter__(self) -> Iterator[object]:
        return iter(())


class Proxy(Wrapper):
    @property
    def __wrapped__(self) -> object:
        return self.fget


class Compiled(property):
    """An object of a compiled class, which keeps its attributes in fields of C and says their names."""

    __mypyc_attrs__ = ("fget",)

    def __getitem__(self, key: object) -> object:
        return key


class Strange:
    """Something that answers to no question about it."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("asked")


class Private:
    """An object with a private slot, which stands for something that has parts."""

    __slots__ = ("__client",)

    def __init__(self, client: Client) -> None:
        self.__client = client

    def __iter__(self) -> Iterator[object]:
        return iter((self.__client,))


class Store(MutableMapping[Any, Any]):
    """A mapping with a dict in it, as caches are."""

    def __init__(self, **items: Any) -> None:
        self._items: dict[Any, Any] = dict(items)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._items[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


LIBRARY = """
import functools


class Memo:
    def __init__(self, function, results):
        functools.update_wrapper(self, function)
        self.results = results


class SlottedMemo:
    __slots__ = ("__wrapped__", "results")

    def __init__(self, function, results):
        self.__wrapped__ = function
        self.results = results


def memo(function, results):
    @functools.wraps(function)
    def wrapper(*args):
        return results

    wrapper.results = results
    return wrapper
"""


def compiled(name: str, file: str) -> Any:
    """What a library keeps for the next call of a function, or the same in a module of the user's."""
    module: Any = types.ModuleType(name)
    module.__file__ = file
    exec(compile(LIBRARY, file, "exec"), vars(module))
    return module


library = sys.modules["memos_of_a_library"] = compiled("memos_of_a_library", "/usr/lib/site-packages/memos.py")
own = sys.modules["memos_of_the_user"] = compiled("memos_of_the_user", "/home/user/project/memos.py")


def future(client: Client, *, is_done: bool) -> Any:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    if is_done:
        future.set_result(client)
    else:
        future.add_done_callback(functools.partial(vars, client))
    loop.close()
    return future


class Settings:
    client: Any = None
    clients: dict[str, Any] = {}  # noqa: RUF012  # a registry, which is what is tested


@pytest.fixture
def program() -> Iterator[Any]:
    """A module of the program under test."""
    program: Any = types.ModuleType("program")
    sys.modules["program"] = program
    yield program
    del sys.modules["program"]
    Settings.client = None
    Settings.clients.clear()


def over(thing: object) -> Callable[[], object]:
    return lambda: thing


def put(program: Any, place: str) -> Any:
    """Put a new client where the name of the place says; the caller must not keep it."""
    client = Client()
    vars(program).update(PLACES[place](client))
    return client


def _with_variables(client: Client) -> Callable[[], App]:
    def function(app: App = App(client)) -> App:  # noqa: B008
        found = other = app
        return found or other

    return function


PLACES: dict[str, Callable[[Client], dict[str, Any]]] = {
    "nowhere": lambda client: {},
    "module": lambda client: {"client": client},
    "class": lambda client: setattr(Settings, "client", client) or {},
    "by class": lambda client: {"clients": {App: client, Settings: Client()}},
    "by type": lambda client: {"clients": {App | None: client, (App, None): Client(), list[App]: Client()}},
    "by local type": lambda client: {"clients": {type("f.<locals>.A", (), {}) | None: client}},
    "by class and name": lambda client: {"clients": {(App, "a"): client}},
    "field of a compiled class": lambda client: {"app": App(Compiled(client))},  # type: ignore[arg-type]
    "private slot": lambda client: {"app": App(Private(client))},
    "results of a function": lambda client: {"make": library.Memo(make_client, {("a", 1): client})},
    "results in a slot": lambda client: {"make": library.SlottedMemo(make_client, {("a", 1): client})},
    "results in a store": lambda client: {"make": library.Memo(make_client, Store(a=client))},
    "results of a closure": lambda client: {"make": library.memo(make_client, {"a": client})},
    "list beside a function": lambda client: {"make": library.Memo(make_client, [client])},
    "store in a list beside a function": lambda client: {"make": library.Memo(make_client, [Store(a=client)])},
    "dict of dicts beside a function": lambda client: {"make": library.Memo(make_client, {"a": {"b": client}})},
    "store of dicts beside a function": lambda client: {"make": library.Memo(make_client, Store(a={"b": client}))},
    "registry of the user's beside a function": lambda client: {"make": own.Memo(make_client, {"a": client})},
    "registry of the user's in a closure": lambda client: {"make": own.memo(make_client, {"a": client})},
    "by strange key": lambda client: {"clients": {Strange(): client}},
    "by classes": lambda client: {"clients": {(App, Client): client}},
    "store": lambda client: {"clients": Store(a=client)},
    "store of an app": lambda client: {"app": App(Store(a=client))},
    "result of a future": lambda client: {"app": App(future(client, is_done=True))},
    "callback of a future": lambda client: {"app": App(future(client, is_done=False))},
    "by local class": lambda client: {"clients": {type("f.<locals>.A", (), {}): client}},
    "closure": lambda client: {"client": lambda: client},
    "closure over an app": lambda client: {"client": over(App(client))},
    "closure over a list": lambda client: {"client": over([client])},
    "closure over singletons": lambda client: {"client": over({App: App(client)})},
    "object by default": lambda client: {"client": lambda app=App(client): app},  # noqa: B008
    "object by named default": lambda client: {"client": lambda *, app=App(client): app},  # noqa: B008
    "object by default among variables": lambda client: {"client": _with_variables(client)},
    "dict by default": lambda client: {"client": lambda *, kept={"a": client}: kept},
    "default": lambda client: {"client": lambda kept=(client,): kept},
    "attribute of a function": lambda client: (
        setattr(function := lambda: None, "client", client) or {"client": function}
    ),
    "app": lambda client: {"app": App(client)},
    "slots": lambda client: {"app": Slotted(client)},
    "chain": lambda client: {"app": App(App(App(client)))},
    "property": lambda client: {"app": Cached(client)},
    "bound method": lambda client: {"app": App(client.get)},
    "partial of a bound method": lambda client: {"app": App(functools.partial(client.get))},
    "argument of a partial": lambda client: {"app": App(functools.partial(vars, client))},
    "named argument of a partial": lambda client: {"app": App(functools.partial(vars, client=client))},
    "object of an extension": lambda client: {"app": App(slice(client))},
    "proxy": lambda client: {"app": App(Proxy(client))},
    "something with parts": lambda client: {"app": App(Wrapper(client))},
    "named tuple": lambda client: {"clients": Clients(client, Client())},
    "tuple of unlike things": lambda client: {"clients": (client, App())},
    "tuple in a tuple": lambda client: {"clients": ((client, App()), App())},
    "namespace of its own": lambda client: {"app": (state := State(), setattr(state, "client", client))[0]},
    "namespace with a dict": lambda client: {
        "app": (state := State(), setattr(state, "clients", {"a": client}), vars(state))[0]
    },
    "list in a partial": lambda client: {"app": App(functools.partial(vars, [client]))},
    "dict in a partial": lambda client: {"app": App(functools.partial(vars, {"a": client}))},
    "tuple of like things": lambda client: {"clients": (client, Client())},
    "grown tuple of tuples": lambda client: {"clients": (("a", client), ("b", Client()))},
    "stack": lambda client: {"app": App(stack_of(client))},
    "queue": lambda client: {"clients": (jobs := queue.SimpleQueue(), jobs.put(client))[0]},
    "iterator": lambda client: {"clients": itertools.cycle([client])},
    "stopped generator": lambda client: {"clients": started(client)},
    "error": lambda client: {"error": KeyError(client, "a")},
    "list": lambda client: {"clients": [client]},
    "tuple": lambda client: {"clients": (client,)},
    "deque": lambda client: {"clients": deque([client])},
    "set": lambda client: {"clients": {client}},
    "dict": lambda client: {"clients": {"a": client}},
    "key": lambda client: {"clients": {client: "a"}},
    "class dict": lambda client: Settings.clients.update(a=client) or {},
    "list of apps": lambda client: {"apps": [App(client)]},
    "app with a list": lambda client: {"app": App([client])},
}


def started(client: Client) -> Iterator[Client]:
    def generate() -> Iterator[Client]:
        kept = client
        yield kept

    generator = generate()
    next(generator)
    return generator


class Cached:
    def __init__(self, client: Client) -> None:
        self._made = lambda: client
        assert self.client is client

    @functools.cached_property
    def client(self) -> Client:
        return self._made()


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize(
    "place",
    [
        "module",
        "class",
        "app",
        "slots",
        "chain",
        "property",
        "by class",
        "closure",
        "attribute of a function",
        "bound method",
        "partial of a bound method",
        "argument of a partial",
        "named argument of a partial",
        "object of an extension",
        "proxy",
        "named tuple",
        "tuple of unlike things",
        "tuple in a tuple",
        "namespace of its own",
        "by type",
        "field of a compiled class",
        "private slot",
        "results of a function",
        "results in a slot",
        "results in a store",
        "results of a closure",
        "result of a future",
        "closure over singletons",
        "object by default",
        "object by named default",
        "object by default among variables",
    ],
)
def test_an_attribute_is_a_place_as_long_lived_as_the_process(program: Any, place: str) -> None:
    assert references.process_wide(put(program, place)) is not None


@pytest.mark.parametrize(
    "place",
    [
        "list",
        "tuple",
        "deque",
        "set",
        "dict",
        "class dict",
        "list of apps",
        "app with a list",
        "by local class",
        "closure over a list",
        "closure over an app",
        "default",
        "dict by default",
        "namespace with a dict",
        "list in a partial",
        "dict in a partial",
        "tuple of like things",
        "grown tuple of tuples",
        "stack",
        "something with parts",
        "queue",
        "iterator",
        "stopped generator",
        "error",
        "by local type",
        "by class and name",
        "list beside a function",
        "store in a list beside a function",
        "dict of dicts beside a function",
        "store of dicts beside a function",
        "registry of the user's beside a function",
        "registry of the user's in a closure",
        "by strange key",
        "by classes",
        "store",
        "store of an app",
        "callback of a future",
        "nowhere",
    ],
)
def test_a_container_on_the_way_can_grow_and_is_none(program: Any, place: str) -> None:
    assert references.process_wide(put(program, place)) is None


class Borg:
    """All objects have the same attributes, and none of them a registry of clients by name."""

    shared: ClassVar[dict[str, Any]] = {}
    clients: ClassVar[dict[str, Client]] = {}

    def __init__(self) -> None:
        self.__dict__ = self.shared

    def open(self, name: str) -> None:
        self.clients[name] = Client()


class Monostate:
    def __new__(cls) -> Monostate:  # noqa: PYI034  # as such classes have it
        self = super().__new__(cls)
        self.__dict__ = SHARED
        return self


SHARED: dict[str, Any] = {}


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (Borg, "class attribute test_references.Borg.shared.client"),
        (Monostate, "module attribute test_references.SHARED.client"),
    ],
)
def test_what_all_objects_of_a_class_have_is_as_long_lived_as_the_process(
    cls: Any, text: str, *, is_kept: bool
) -> None:
    first = cls()
    first.client = Client()
    if not is_kept:
        del first
    try:
        root = references.process_wide(cls().client)
    finally:
        cls().__dict__.clear()
    assert root is not None
    assert root.text == text


@pytest.mark.usefixtures("whole_heap")
def test_a_registry_beside_what_all_objects_have_can_grow() -> None:
    Borg().open("a")
    try:
        assert references.process_wide(Borg.clients["a"]) is None
    finally:
        Borg.clients.clear()


CACHES = [functools.cache, functools.lru_cache(maxsize=2), functools.lru_cache]


def make_client(name: str) -> Client:
    return Client()


@pytest.mark.parametrize("cache", CACHES)
def test_the_cache_of_a_function_is_as_long_lived_as_the_process(
    cache: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_client = cache(make_client)
    monkeypatch.setitem(globals(), "make_client", cached_client)
    client = cached_client("a")
    root = references.process_wide(client)
    assert root is not None
    assert root.text.startswith("cache of test_references.make_client")
    assert references.held_by(client) == root.text


@pytest.mark.parametrize("cache", CACHES)
def test_the_cache_of_a_function_that_a_call_has_made_lasts_where_it_is_kept(
    program: Any, cache: Callable[[Any], Any]
) -> None:
    program.default_client = cache(lambda name: Client())
    client = program.default_client("a")
    root = references.process_wide(client)
    assert root is not None
    assert root.text == references.held_by(client) == "module attribute program.default_client(...)"


@pytest.mark.parametrize("cache", CACHES)
def test_the_cache_of_a_function_that_a_call_has_made_is_no_place_of_its_own(cache: Callable[[Any], Any]) -> None:
    local_client = cache(lambda name: Client())
    assert references.process_wide(local_client("a")) is None


def local_class(client: Client) -> Any:
    class App:
        kept = client

    return App


def nested(client: Client) -> Any:
    class Outer:
        Inner = local_class(client)

    return Outer


def decorated(client: Client) -> Any:
    app = local_class(client)
    return lambda: (app, app())


def derived(client: Client) -> Any:
    class Derived(local_class(client)):  # type: ignore[misc]
        pass

    return Derived


def cached(client: Client) -> Any:
    once = functools.cache(lambda: client)
    once()
    return lambda: (once, once())


def wrapped(client: Client) -> Any:
    return MagicMock(wraps=client)


def with_attribute(client: Client) -> Any:
    mock = MagicMock()
    mock.client = client
    return mock


LASTING_MAKERS = [
    local_class,
    nested,
    decorated,
    cached,
    lambda client: local_class(client)(),
    derived,
    lambda client: [local_class(client)],
    lambda client: {"a": local_class(client)},
    lambda client: [local_class(client)()],
    lambda client: App(local_class(client)),
    lambda client: [App(local_class(client))],
    lambda client: functools.partial(local_class(client)),
    lambda client: staticmethod(local_class(client)),
    lambda client: list[local_class(client)],  # type: ignore[misc]
    wrapped,
    with_attribute,
]


@pytest.mark.parametrize("make", LASTING_MAKERS)
def test_what_a_class_made_by_a_call_keeps_lasts_where_that_is_kept(program: Any, make: Callable[[Any], Any]) -> None:
    client = Client()
    program.kept = make(client)
    root = references.process_wide(client)
    assert root is not None
    assert root.text.startswith("module attribute program.kept")


@pytest.mark.parametrize("make", LASTING_MAKERS)
def test_a_class_made_by_a_call_is_no_place_of_its_own(make: Callable[[Any], Any]) -> None:
    client = Client()
    kept = make(client)
    assert references.process_wide(client) is None
    del kept


@pytest.mark.parametrize("make", [wrapped, with_attribute])
def test_mocks_in_a_list_are_a_registry(program: Any, make: Callable[[Any], Any]) -> None:
    client = Client()
    program.kept = [make(client)]
    assert references.process_wide(client) is None


class Prepared(Client):
    """What it has prepared it keeps in a cache around itself, as a connection to a database does."""

    def __call__(self, text: str) -> str:
        return text

    def __init__(self) -> None:
        self.prepared = functools.lru_cache(self)
        assert self.prepared("a") == "a"


def test_a_cache_around_an_object_is_no_ownerwhere_that_is_kept(program: Any) -> None:
    thing = Prepared()
    assert references.process_wide(thing) is None
    assert references.held_by(thing) is None
    program.thing = thing
    root = references.process_wide(thing)
    assert root is not None
    assert root.text == references.held_by(thing) == "module attribute program.thing"


class Keeper:
    """The value of a fixture, which keeps what it has made."""

    def __init__(self, **kept: Any) -> None:
        vars(self).update(kept)

    def make(self) -> Client:
        return Client()


CODES = {Keeper.make.__code__}


def stack_of(client: Client) -> ExitStack:
    stack = ExitStack()
    stack.callback(client.get)
    return stack


def loop_of(client: Client) -> Any:
    class Loop:
        def call_soon_threadsafe(self) -> None:
            """As any event loop has it."""

    loop: Any = Loop()
    loop.ready = [client]
    return loop


@pytest.mark.parametrize(
    ("make", "is_kept"),
    [
        (lambda client: Keeper(made=[client]), True),
        (lambda client: Keeper(made={"a": {"b": client}}), True),
        (lambda client: Keeper(app=App(client)), True),
        (lambda client: Keeper(stack=stack_of(client)), True),
        (lambda client: over([client, Keeper()]), True),
        (lambda client: over([client]), False),
        (lambda client: Keeper(call=functools.partial(vars, client)), True),
        (lambda client: Keeper(loop=loop_of(client)), False),
        (lambda client: Keeper(), False),
    ],
)
def test_a_keeper_may_keep_a_thing_in_whatever_way_it_likes(make: Callable[[Client], Any], is_kept: bool) -> None:
    client = Client()
    keeper = make(client)
    assert makers.Inside([keeper]).keeper(client, CODES, seconds=60) == (0 if is_kept else None, True)


def application_of(cache: Callable[[Any], Any]) -> Any:
    """As a framework keeps it: the view that a decorator has wrapped, in a route, in a list of a router, in middleware."""

    def index() -> Any:
        return cache(Client)

    @functools.wraps(index)
    def decorated() -> Any:
        return index()

    router = Keeper(routes=[Keeper(view=decorated)])
    return Keeper(application=Keeper(application=Keeper(router=router)))


def test_what_a_view_of_an_application_has_cached_is_the_process(program: Any) -> None:
    @functools.lru_cache
    def make(cls: Any) -> Any:
        return cls()

    program.application = application_of(make)
    root = references.process_wide(make(Client))
    assert root is not None
    assert root.module == "program"


def test_the_keeper_is_that_which_is_nearest() -> None:
    client = Client()
    inner = Keeper(made=[client])
    values = [Keeper(), Keeper(inner=inner), inner]
    assert makers.Inside(values).keeper(client, CODES, seconds=60) == (2, True)


def test_a_keeper_does_not_wait_for_a_value_with_very_much_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    much = [[[] for _ in range(300)] for _ in range(1000)]
    inside = makers.Inside([Keeper(rows=much), Keeper(a=Keeper(b=[Keeper(c=[client])]))])
    looks = itertools.count()
    monkeypatch.setattr(Real, "thread_time", lambda: next(looks))
    assert inside.keeper(client, CODES, seconds=50) == (1, True)


def test_a_search_without_time_to_end_has_no_answer() -> None:
    keeper = Keeper(parts=[[] for _ in range(10_000)])
    inside = makers.Inside([keeper])
    assert inside.keeper(Client(), CODES, seconds=-1) == (None, False)
    assert inside.keeper(Client(), CODES, seconds=60) == (None, True)


def test_what_is_asked_of_keepers_keeps_nothing_alive() -> None:
    client = Client()
    keeper = Keeper(made=[client])
    inside = makers.Inside([keeper])
    assert inside.keeper(client, CODES, seconds=60) == (0, True)
    reference = weakref.ref(client)
    del inside, client
    keeper.made.clear()
    assert reference() is None


def test_a_place_of_the_process_is_no_keeper(program: Any) -> None:
    client = Client()
    program.clients = [client]
    keeper = Keeper(program=program)
    assert makers.Inside([keeper]).keeper(client, CODES, seconds=60) == (None, True)


def test_the_module_of_the_place_is_told(program: Any) -> None:
    root = references.process_wide(put(program, "app"))
    assert root is not None
    assert (root.module, root.text) == ("program", "module attribute program.app.client")


@pytest.mark.parametrize(("place", "is_end"), [("app", True), ("slots", True), ("app with a list", False)])
def test_a_search_may_end_at_an_object_it_is_told_of(program: Any, place: str, is_end: bool) -> None:
    client = put(program, place)
    root = references.process_wide(client, ways.Way(ends={id(program.app)}))
    assert (None if root is None else root.end) is (program.app if is_end else None)


@pytest.mark.parametrize(
    ("factory", "is_end"),
    [
        (Client, True),
        (functools.partial(Client), True),
        (functools.partial(functools.partial(Client)), True),
        (App, False),
        (None, False),
    ],
    ids=["class", "partial", "partial of a partial", "another class", "none"],
)
def test_a_dict_that_has_made_what_it_holds_leads_on_to_such_an_end(program: Any, factory: Any, is_end: bool) -> None:
    client = Client()
    program.clients = defaultdict(factory, a=client)
    program.app = App(program.clients)
    for end in (program.clients, program.app):
        root = references.process_wide(client, ways.Way(ends={id(end)}))
        assert (None if root is None else root.end) is (end if is_end else None)


def test_a_dict_that_makes_what_it_holds_can_still_grow(program: Any) -> None:
    program.clients = defaultdict(Client, a=Client())
    assert references.process_wide(program.clients["a"]) is None


@pytest.mark.usefixtures("whole_heap")
def test_what_only_passes_through_a_package_is_at_home_elsewhere(program: Any) -> None:
    client = put(program, "module")
    Settings.client = App(client)
    nearest, other = (references.process_wide(client, ways.Way(passing=each)) for each in ("", "program"))
    assert nearest is not None
    assert nearest.text == "module attribute program.client"
    assert other is not None
    assert other.text == "class attribute test_references.Settings.client.client"
    Settings.client = None
    assert references.process_wide(client, ways.Way(passing="program")) is None


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize(
    ("name", "is_kept"), [("sdk.pools", True), ("multiprocessing.children", False), ("billiard.children", False)]
)
def test_a_librarys_own_list_keeps_but_for_those_of_whatever_is_at_work(
    monkeypatch: pytest.MonkeyPatch, name: str, *, is_kept: bool
) -> None:
    module: Any = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    client = Client()
    module.all = {client}
    root = references.process_wide(client, ways.Way(packages=frozenset({name.partition(".")[0]})), seconds=30)
    assert (root is not None) is is_kept


def test_a_search_that_ends_elsewhere_tells_of_no_object(program: Any) -> None:
    root = references.process_wide(put(program, "app"), ways.Way(ends={id(program)}))
    assert root is not None
    assert root.end is None


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("module", "module attribute program.client"),
        ("class", "class attribute test_references.Settings.client"),
        ("slots", "module attribute program.app.client"),
        ("chain", "module attribute program.app.client.client.client"),
        ("list", "module attribute program.clients[0]"),
        ("deque", "module attribute program.clients[0]"),
        ("set", "module attribute program.clients[...]"),
        ("dict", "module attribute program.clients['a']"),
        ("class dict", "class attribute test_references.Settings.clients['a']"),
        ("key", "module attribute program.clients, as a key"),
        ("list of apps", "module attribute program.apps[0].client"),
        ("app with a list", "module attribute program.app.client[0]"),
        ("by class", "module attribute program.clients[<class 'test_references.App'>]"),
        ("closure", "module attribute program.client, variable 'client'"),
        ("closure over a list", "module attribute program.client, variable 'thing'[0]"),
        ("attribute of a function", "module attribute program.client.client"),
        ("object by default", "module attribute program.client, default of 'app'.client"),
        ("object by named default", "module attribute program.client, default of 'app'.client"),
        ("object by default among variables", "module attribute program.client, default of 'app'.client"),
        ("dict by default", "module attribute program.client, default of 'kept'['a']"),
    ],
)
def test_the_path_is_told_in_words(program: Any, place: str, text: str) -> None:
    assert references.held_by(put(program, place), seconds=30) == text


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_the_entry_of_a_mapping_is_told(program: Any, mapping: type[Any]) -> None:
    client = Client()
    program.clients = mapping(a=client)
    assert references.held_by(client, seconds=30) == "module attribute program.clients['a']"


@pytest.mark.usefixtures("whole_heap")
def test_that_a_loop_is_the_current_one_says_less_than_who_has_it(program: Any, ending: contextlib.ExitStack) -> None:
    policy = asyncio.events._get_event_loop_policy if sys.version_info >= (3, 14) else asyncio.get_event_loop_policy
    current: Any = policy()._local  # type: ignore[attr-defined]

    def end() -> None:
        current._loop.close()
        current._loop = None

    program.runner = App(App(App(App(asyncio.new_event_loop()))))
    asyncio.set_event_loop(program.runner.client.client.client.client)
    ending.callback(end)
    found = references.held_by(current._loop, seconds=30)
    assert found == "module attribute program.runner.client.client.client.client"
    del program.runner
    assert (
        references.held_by(current._loop, seconds=30)
        == "module attribute asyncio.events._event_loop_policy._local._loop"
    )


@pytest.mark.parametrize(
    ("is_over", "text"),
    [
        pytest.param(
            True,
            "module attribute program.tasks[0]",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="a task's result does not lead to the task"),
        ),
        (False, "task 'it'"),
    ],
)
def test_a_task_is_told_while_it_is_pending_and_who_keeps_it_afterwards(
    program: Any, ending: contextlib.ExitStack, is_over: bool, text: str
) -> None:
    async def make() -> Client:
        client = Client()
        if not is_over:
            await asyncio.Event().wait()
        return client

    async def main() -> Any:
        program.tasks = [asyncio.create_task(make(), name="it")]
        await asyncio.sleep(0)
        return program.tasks[0]

    task = ending.enter_context(asyncio.Runner()).run(main())
    client = task.result() if is_over else task.get_coro().cr_frame.f_locals["client"]
    assert references.held_by(client) == text


def test_what_nobody_holds_is_held_by_nobody() -> None:
    assert references.held_by(Client()) is None


def test_a_weak_reference_holds_nothing(program: Any) -> None:
    client = Client()
    program.client = weakref.ref(client)
    assert references.process_wide(client) is None


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("sort", ["generator", "asynchronous generator", "coroutine"])
def test_what_waits_to_go_on_is_told_with_its_line_and_variable(program: Any, sort: str) -> None:
    client = Client()
    program.kept, ending = suspended(client, sort)
    told = references.held_by(client, seconds=30)
    name = sort.removeprefix("asynchronous ")
    ending()
    assert re.fullmatch(
        rf"module attribute program\.kept, {name} suspended\.<locals>\.\w+ \(test_references\.py:\d+\), variable 'app'\.client",
        str(told),
    )


def suspended(client: Client, sort: str) -> tuple[object, Callable[[], object]]:
    """What has the client in a variable of its own and waits to go on, and how to end it."""

    @types.coroutine
    def wait() -> Iterator[None]:
        yield

    def generator(app: App) -> Iterator[App]:
        yield app

    async def asynchronous(app: App) -> AsyncIterator[App]:
        yield app

    async def coroutine(app: App) -> App:
        await wait()  # type: ignore[misc]
        return app

    made: Any
    if sort == "generator":
        made = generator(App(client))
        next(made)
        return made, made.close
    if sort == "coroutine":
        made = coroutine(App(client))
        made.send(None)
        return made, made.close
    made = asynchronous(App(client))
    with pytest.raises(StopIteration):
        made.asend(None).send(None)
    return made, functools.partial(close_later, made)


@pytest.mark.usefixtures("whole_heap")
def test_what_it_lets_go_of_after_it_was_told_is_gone(program: Any) -> None:
    def letting_go() -> Iterator[None]:
        mine, other = Client(), Client()
        program.seen += [weakref.ref(mine), weakref.ref(other)]
        yield
        del mine
        other = None  # type: ignore[assignment]
        yield

    program.seen = []
    program.kept = letting_go()
    next(program.kept)
    assert "'mine'" in str(references.held_by(program.seen[0](), seconds=30))
    next(program.kept)
    assert [reference() for reference in program.seen] == [None, None]
    program.kept.close()


@pytest.mark.usefixtures("whole_heap")
def test_what_it_has_given_its_variables_to_keeps_them(program: Any) -> None:
    def giving() -> Iterator[dict[str, Any]]:
        mine = Client()
        yield locals()
        del mine

    program.kept = giving()
    variables = next(program.kept)
    assert "'mine'" in str(references.held_by(variables["mine"], seconds=30))
    assert list(variables) == ["mine"]
    program.kept.close()


@pytest.mark.usefixtures("whole_heap")
def test_a_variable_that_it_shares_with_a_function_inside_is_told(program: Any) -> None:
    def sharing() -> Iterator[None]:
        app = App(program.client)
        program.inner = lambda: app
        del program.client, program.inner
        yield

    client = program.client = Client()
    program.kept = sharing()
    next(program.kept)
    told = references.held_by(client, seconds=30)
    program.kept.close()
    assert "module attribute program.kept, generator test_a_variable_that_it_shares" in str(told)
    assert str(told).endswith("variable 'app'.client")


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_place_of_the_users_is_told_before_a_nearer_one_of_a_librarys(
    program: Any, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    client = Client()
    monkeypatch.setattr(references, "_TO_PREFER", 30)
    monkeypatch.setattr(library, "client", client, raising=False)
    monkeypatch.setattr(own, "kept", [Keeper(client=client)] if is_kept else None, raising=False)
    place = "memos_of_the_user.kept[0].client" if is_kept else "memos_of_a_library.client"
    assert references.held_by(client, seconds=30) == f"module attribute {place}"


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("number", [1, 2, 3, 200])
def test_the_owners_of_many_dicts_are_found_by_several_scans(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(references, "_AT_ONCE", number)
    client = Client()
    keepers = [[{"client": client}] for _ in range(4)]
    steps = [paths.Step(mapping, ".client", paths.Step(client, "", None)) for (mapping,) in keepers]
    found = references._owners_of(steps, Real.thread_time() + 30)
    assert found is not None
    assert [sum(owner is each for owner in found[id(each[0])]) for each in keepers] == [1] * 4
    assert references._owners_of(steps, Real.thread_time() - 1) is None


class Stopping:
    """Is told of a signal."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def stop(self, *args: object) -> None:
        pass


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGUSR1, "SIGUSR1"), (int(signal.SIGRTMIN) + 2, str(int(signal.SIGRTMIN) + 2))]
)
def test_what_the_handler_of_a_signal_keeps_is_told(ending: contextlib.ExitStack, number: int, name: str) -> None:
    client = Client()
    ending.callback(signal.signal, number, signal.signal(number, Stopping(client).stop))
    assert references.held_by(client, seconds=30) == f"handler of {name}, its client"


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("name", ["_task_states", "_others"])
def test_that_anyio_knows_of_a_task_is_not_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module: Any = types.ModuleType("anyio._backends._asyncio")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    host = Client()
    setattr(module, name, Keeper(data={1: Keeper(client=host)}))  # as a `WeakKeyDictionary` has it
    told = references.held_by(host, seconds=30)
    assert told is None if name == "_task_states" else str(told).startswith("module attribute anyio.")


def close_later(made: Any) -> None:
    with pytest.raises(StopIteration):
        made.aclose().send(None)


def failed(*, is_awaited: bool = False) -> ValueError:
    def fail() -> None:
        mine = Client()
        raise ValueError(mine)

    async def fail_later() -> None:
        mine = Client()
        raise ValueError(mine)

    try:
        fail_later().send(None) if is_awaited else fail()
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("is_awaited", [True, False])
def test_what_is_kept_comes_before_the_frame_that_a_traceback_keeps(program: Any, is_awaited: bool) -> None:
    error = failed(is_awaited=is_awaited)
    program.client = Keeper(parts=Keeper(client=error.args[0]))
    error.args = ()
    assert references.held_by(program.client.parts.client) == "module attribute program.client.parts.client"


def test_the_frame_that_a_traceback_keeps_is_told_where_nothing_else_is() -> None:
    error = failed()
    reference = weakref.ref(error.args[0])
    error.args = ()
    text = references.held_by(reference())
    assert text is not None
    assert "fail (test_references.py:" in text


@pytest.mark.usefixtures("whole_heap")
def test_the_finalizers_of_a_fixture_are_told_from_its_value(request: pytest.FixtureRequest) -> None:
    client = Client()
    reference = weakref.ref(client)
    request._get_active_fixturedef("request_of_mine").addfinalizer(functools.partial(vars, client))
    del client
    text = references.held_by(reference())
    assert text == "finalizer of fixture 'request_of_mine'"


@pytest.fixture
def request_of_mine() -> None:
    """Has a finalizer put to it."""


def test_the_shortest_path_is_told(program: Any) -> None:
    client = put(program, "list of apps")
    program.client = client
    assert references.held_by(client) == "module attribute program.client"


@pytest.mark.usefixtures("whole_heap")
def test_the_value_of_a_fixture_is_told(request: pytest.FixtureRequest) -> None:
    client = Client()
    definition = request._get_active_fixturedef("program")
    kept, definition.cached_result = definition.cached_result, (client, None, None)
    assert references.held_by(client, seconds=5) == "value of fixture 'program'"
    assert vars(definition)["cached_result"][0] is client  # from now on there is a dict between the two
    assert references.held_by(client, seconds=5) == "value of fixture 'program'"
    definition.cached_result = kept


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("has_dict", [False, True])
def test_what_a_test_was_given_is_told_by_the_name_of_its_fixture(
    request: pytest.FixtureRequest, has_dict: bool
) -> None:
    client = Client()
    request.node.funcargs["given"] = App(client)  # type: ignore[attr-defined]
    assert not has_dict or vars(request.node)
    assert references.held_by(client, seconds=5) == "value of fixture 'given'.client"
    assert references.process_wide(client) is None


@pytest.mark.usefixtures("whole_heap")
def test_a_place_of_the_process_is_told_before_what_a_test_was_given(
    request: pytest.FixtureRequest, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "_TO_PREFER", 5.0)  # beside the heap of all tests
    client = Client()
    request.node.funcargs["given"] = app = App(client)  # type: ignore[attr-defined]
    program.apps = {"more": [app]}
    del app
    assert references.held_by(client, seconds=5) == "module attribute program.apps['more'][0].client"


def test_a_search_ends_in_time(program: Any) -> None:
    client = put(program, "chain")
    assert references.held_by(client, seconds=-1) is None
    assert references.process_wide(client, seconds=-1) is references.GIVEN_UP


def test_a_search_that_has_been_ended_is_told_from_one_that_found_nothing(program: Any) -> None:
    assert references.process_wide(put(program, "nowhere")) is None


def test_an_object_with_a_broken_dict_is_passed_over(program: Any) -> None:
    class Broken:
        def __init__(self, client: Client) -> None:
            object.__setattr__(self, "client", client)

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("on purpose")

    program.broken = Broken(Client())
    client = object.__getattribute__(program.broken, "client") if hasattr(program.broken, "client") else Client()
    references.held_by(client)
    references.process_wide(client)


@pytest.mark.usefixtures("whole_heap")
def test_the_attribute_of_a_running_thread_is_told(program: Any) -> None:
    stop = threading.Event()
    thread: Any = threading.Thread(target=stop.wait)
    thread.client = Client()
    thread.start()
    try:
        told = references.held_by(thread.client, seconds=30)
        assert told is not None
        assert told.endswith(".client")
    finally:
        stop.set()
        thread.join()


def wait(stop: threading.Event, *args: object, **keywords: object) -> None:
    stop.wait()


class Waiting:
    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients

    def wait(self, stop: threading.Event) -> None:
        stop.wait()


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda client: {"args": [client]}, "argument 1"),
        (lambda client: {"args": [App(client)]}, "argument 1.client"),
        (lambda client: {"args": [[client]]}, "argument 1[0]"),
        (lambda client: {"kwargs": {"client": client}}, "argument 'client'"),
        (lambda client: {"target": functools.partial(wait, client=[client])}, "its target['client'][0]"),
        (lambda client: {"target": Waiting([client]).wait}, "its target.clients[0]"),
    ],
)
def test_what_a_running_thread_was_given_is_told_as_its_argument(given: Callable[[Client], Any], words: str) -> None:
    stop, client = threading.Event(), Client()
    keywords = given(client)
    keywords["args"] = (stop, *keywords.get("args", ()))
    threading.Thread(**{"target": wait, "name": "worker"} | keywords).start()
    del keywords
    try:
        assert references.held_by(client, seconds=5) == f"thread 'worker', {words}"
    finally:
        stop.set()


class Item:
    """A test, as pytest has one for each function."""

    __module__ = "_pytest.unittest"

    def __init__(self, instance: object) -> None:
        self._instance = instance


class ItemOfAPlugin(Item):
    """One that another plugin has derived, as pytest-asyncio does."""

    __module__ = "pytest_asyncio.plugin"


@pytest.mark.parametrize("item", [Item, ItemOfAPlugin])
@pytest.mark.parametrize("has_dict", [False, True])
def test_what_a_test_keeps_in_itself_is_told_as_that(program: Any, has_dict: bool, item: type[Item]) -> None:
    client = Client()
    program.items = [item(App([client]))]
    assert not has_dict or vars(program.items[0])
    assert references.held_by(client, seconds=5) == "self.client[0] of App"
    assert references.process_wide(client) is None


@pytest.mark.parametrize("has_dict", [False, True])
def test_what_a_test_keeps_in_itself_does_not_last_as_long_as_the_process(program: Any, has_dict: bool) -> None:
    client = Client()
    program.item = Item(App(client))
    assert not has_dict or vars(program.item)
    assert references.held_by(client, seconds=5) == "self.client of App"
    assert references.process_wide(client) is None


def test_a_key_without_a_text_of_its_own_is_told_without_its_address(program: Any) -> None:
    client = Client()
    program.clients = {Client(): client}
    told = references.held_by(client, seconds=30)
    assert told == f"module attribute program.clients[<{__name__}.Client object>]"


def test_a_long_key_is_cut(program: Any) -> None:
    client = Client()
    program.clients = {"x" * 100: client}
    assert references.held_by(client) == f"module attribute program.clients['{'x' * 59}...]"


@pytest.mark.parametrize("key", ["a", 1, ("a", 1), None])
def test_any_key_of_a_mapping_can_be_told(program: Any, key: object) -> None:
    client = Client()
    program.clients = {key: client}
    assert references.held_by(client) == f"module attribute program.clients[{key!r}]"


def test_a_module_is_not_asked_for_what_it_has_freed() -> None:
    """Of asyncio's in C, Python 3.12 would say so, and free that twice."""
    import _asyncio

    pair: list[Any] = []
    assert {id(each) for each in asking.referents_of(_asyncio, pair, json)} == {id(vars(_asyncio)), id(vars(json))}
    assert asking.referents_of([pair]) == [pair]


IN_ASYNCIO = """
import _asyncio, asyncio, gc

import pytest

KEPT = []


async def wait():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


async def wait_for_many():
    await asyncio.gather(*(wait() for _ in range(20)))


class Held:
    pass


@pytest.mark.parametrize("number", range(3))
def test_leaks(number):
    asyncio.run(wait_for_many())
    loop = asyncio.new_event_loop()
    _asyncio.kept_by_a_test = loop
    gc.collect()
"""


def test_what_asyncio_in_c_keeps_stops_nothing(inner: Inner) -> None:
    inner.write(test_a=IN_ASYNCIO)
    inner.judge(**{f"test_leaks[{number}]": "leaked" for number in range(3)})
