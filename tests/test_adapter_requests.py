"""requests: what is a leak, and its clean twin."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import io
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from finalizers import never_finalized
from marked import Marked, wake

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.adapters import requests as adapter
from pytest_httpleak.session.core import Session

requests = pytest.importorskip("requests")
urllib3 = pytest.importorskip("urllib3")

# What is dropped on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CERTIFICATE = str(Path(__file__).with_name("data") / "localhost.pem")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def shared(marked: Marked) -> Iterator[Any]:
    """A session of a module's fixture."""
    with marked.fixture() as fixture:
        session = fixture.make(requests.Session)
        yield session
        with fixture.during():
            session.close()


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the program under test."""
    module = ModuleType("lazy")
    monkeypatch.setitem(sys.modules, "lazy", module)
    return module


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_kept_unread_leaks(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        kept.append(shared.get(f"{server}/big", stream=True))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.summary == f"GET {server}/big [200]"
    assert (finding.library, finding.type) == ("requests", "requests.Response")
    assert finding.holds[0].summary == f"a connection of the pool of {server} (1 checked out, 0 idle, room for 10)"
    assert "stream=True" in finding.hint


@pytest.mark.parametrize("path", ["/big", "/ok", "/204", "/close", "/chunked"])
def test_a_stream_that_is_dropped_unread_leaks(marked: Marked, shared: Any, server: str, path: str) -> None:
    def leaking() -> None:
        assert shared.get(server + path, stream=True).ok  # leak: responses collected

    (finding,) = marked(leaking)
    assert finding.type == "requests.Response"


@pytest.mark.parametrize("path", ["/big", "/ok", "/204", "/close", "/chunked", "/status/500", "/redirect"])
def test_a_stream_holds_its_connection_until_it_is_read(
    marked: Marked, kept: list[Any], shared: Any, server: str, path: str
) -> None:
    def leaking() -> None:
        kept.append(shared.get(server + path, stream=True))  # leak: responses

    def closing() -> None:
        with shared.get(server + path, stream=True) as response:
            kept.append(response)

    marked(leaking)
    marked(closing)


def test_an_unread_head_leaks(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        kept.append(shared.head(f"{server}/ok", stream=True))  # leak: responses

    def reading() -> None:
        kept.append(shared.head(f"{server}/ok"))

    (finding,) = marked(leaking)
    assert finding.summary == f"HEAD {server}/ok [200]"
    marked(reading)


def test_a_stream_in_a_reference_cycle_leaks(marked: Marked, shared: Any, server: str) -> None:
    def leaking() -> None:
        response = shared.get(f"{server}/big", stream=True)  # leak: responses collected
        response.itself = response

    gc.disable()
    try:
        marked(leaking)
    finally:
        gc.enable()


@pytest.mark.parametrize("iterate", [lambda r: r.iter_content(10), lambda r: r.iter_lines(10)])
def test_a_stream_that_is_iterated_in_part_leaks(
    marked: Marked, kept: list[Any], shared: Any, server: str, iterate: Callable[[Any], Iterator[bytes]]
) -> None:
    def leaking() -> None:
        kept.append(shared.get(f"{server}/big", stream=True))  # leak: responses
        next(iterate(kept[-1]))

    def dropping() -> None:
        next(iterate(shared.get(f"{server}/big", stream=True)))  # leak: responses collected

    if iterate(requests.Response()).__name__ != "iter_lines":  # the body has no line to give
        marked(leaking)
        marked(dropping)


def test_a_stream_of_the_modules_function_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        kept.append(requests.get(f"{server}/big", stream=True))  # leak: responses

    def reading() -> None:
        kept.append(requests.get(f"{server}/ok"))
        kept.append(requests.post(f"{server}/ok", data=b"x"))
        kept.append(requests.get(f"{server}/ok", stream=True))
        assert kept[-1].text == "ok"

    marked(leaking)
    marked(reading)


def test_streams_of_one_line_are_one_finding(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        for number in range(3):
            response = shared.get(f"{server}/big?{number}", stream=True)  # leak: responses x3
            kept.append(response)

    marked(leaking)


def test_an_error_status_that_is_raised_before_the_body_is_read_leaks(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def leaking() -> None:
        with pytest.raises(requests.HTTPError) as caught:
            shared.get(f"{server}/status/404", stream=True).raise_for_status()  # leak: responses
        kept.append(caught.value.response)

    def dropping() -> None:
        with pytest.raises(requests.HTTPError):
            shared.get(f"{server}/status/404", stream=True).raise_for_status()  # leak: responses collected

    def reading() -> None:
        with pytest.raises(requests.HTTPError) as caught:
            shared.get(f"{server}/status/404").raise_for_status()
        kept.append(caught.value.response)

    marked(leaking)
    marked(dropping)
    marked(reading)


def test_a_stream_that_a_helper_opens_is_the_helpers_line(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def download(path: str) -> Any:
        response = shared.get(server + path, stream=True)  # leak: responses
        response.raise_for_status()
        return response

    def leaking() -> None:
        kept.append(download("/big"))

    marked(leaking, download)


def test_only_the_last_try_of_a_retried_request_can_leak(marked: Marked, kept: list[Any], server: str) -> None:
    retries = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    with marked.fixture() as fixture:
        session = fixture.make(requests.Session)

        def leaking() -> None:
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
            kept.append(session.get(f"{server}/status/503", stream=True))  # leak: responses

        def reading() -> None:
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
            kept.append(session.get(f"{server}/status/503"))

        marked(leaking)
        marked(reading)
        with fixture.during():
            session.close()


def test_the_callers_own_retries_leak_at_each_try(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def fetch() -> Any:
        for _ in range(3):
            response = shared.get(f"{server}/status/503", stream=True)  # leak: responses x3
            kept.append(response)
            if response.ok:
                break

    marked(fetch)


def test_what_was_read_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def reading() -> None:
        kept.append(shared.get(f"{server}/ok"))
        for read in (lambda r: r.content, lambda r: list(r.iter_content(1)), lambda r: list(r.iter_lines()), list):
            kept.append(shared.get(f"{server}/ok", stream=True))
            read(kept[-1])

    marked(reading)


def test_a_stream_closed_by_an_exit_stack_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def closing() -> None:
        with contextlib.ExitStack() as stack:
            kept.append(stack.enter_context(shared.get(f"{server}/chunked", stream=True)))
            next(kept[-1].iter_content(5))

    marked(closing)


def test_a_request_that_fails_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def failing() -> None:
        for url, error in (
            (f"{server}/hang", requests.ReadTimeout),
            ("http://127.0.0.1:1/", requests.ConnectionError),
            (f"{server}/reset", None),
        ):
            with contextlib.suppress(requests.RequestException) if error is None else pytest.raises(error):
                kept.append(shared.get(url, timeout=0.02))

    marked(failing)


def test_too_many_redirects_are_nothing(marked: Marked, server: str) -> None:
    with marked.fixture() as fixture:
        session = fixture.make(requests.Session)
        session.max_redirects = 0

        def failing() -> None:
            for stream in (False, True):
                with pytest.raises(requests.TooManyRedirects):
                    session.get(f"{server}/redirect", stream=stream)

        marked(failing)
        with fixture.during():
            session.close()


def test_a_leak_over_tls_is_found(marked: Marked, kept: list[Any], shared: Any, tls_server: str) -> None:
    def leaking() -> None:
        kept.append(shared.get(f"{tls_server}/big", stream=True, verify=CERTIFICATE))  # leak: responses

    def reading() -> None:
        kept.append(shared.get(f"{tls_server}/ok", verify=CERTIFICATE))

    (finding,) = marked(leaking)
    assert finding.summary.startswith("GET https://")
    marked(reading)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_leak_in_a_thread_is_that_threads_line(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def work() -> None:
        kept.append(shared.get(f"{server}/big", stream=True))  # leak: responses

    def leaking() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    marked(leaking, work)


def test_what_an_executor_has_read_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def reading() -> None:
        with ThreadPoolExecutor(4) as executor:
            kept.extend(executor.map(shared.get, [f"{server}/ok"] * 8))

    marked(reading)


def test_a_session_of_a_thread_ends_with_it(marked: Marked, server: str) -> None:
    local = threading.local()

    def work() -> None:
        local.session = requests.Session()
        local.session.get(f"{server}/ok")

    def using() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    marked(using)


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_that_is_left_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        session = requests.Session()  # leak: clients
        session.get(f"{server}/ok")
        kept.append(session)

    (finding,) = marked(leaking)
    assert (finding.library, finding.type) == ("requests", "requests.Session")
    assert finding.summary == "not closed, with 1 idle connection"


def test_a_session_for_each_call_is_one_finding(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        for _ in range(3):
            session = requests.session()  # leak: clients x3
            session.get(f"{server}/ok")
            kept.append(session)

    marked(leaking)


def test_a_session_of_a_subclass_is_called_by_its_name(marked: Marked, kept: list[Any], server: str) -> None:
    class ApiSession(requests.Session):  # type: ignore[misc]
        pass

    def leaking() -> None:
        kept.append(ApiSession())  # leak: clients
        kept[-1].get(f"{server}/ok")

    (finding,) = marked(leaking)
    assert finding.type.endswith("ApiSession")


def test_a_session_that_was_closed_dropped_or_never_used_is_nothing(
    marked: Marked, kept: list[Any], server: str
) -> None:
    def closing() -> None:
        with requests.Session() as session:
            kept.extend((session, session.get(f"{server}/ok")))

    def dropping() -> None:
        requests.Session().get(f"{server}/ok")

    def idling() -> None:
        kept.append(requests.Session())

    def failing() -> None:
        kept.append(requests.Session())
        with pytest.raises(requests.ConnectionError):
            kept[-1].get("http://127.0.0.1:1/")

    for each in (closing, dropping, idling, failing):
        marked(each)


def test_a_session_that_is_dropped_where_nothing_closes_its_pools_leaks(
    marked: Marked, kept: list[Any], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with urllib3 until 1.26.15: google-auth's requests left their sessions so."""
    never_finalized(monkeypatch)

    def leaking() -> None:
        requests.Session().get(f"{server}/ok")  # leak: clients collected

    def leaking_another() -> None:
        session = requests.Session()  # leak: clients collected
        session.mount("http://127.", requests.adapters.HTTPAdapter())
        session.get(f"{server}/ok")

    def leaking_a_cycle() -> None:
        session = requests.Session()  # leak: clients collected
        session.itself = session
        session.get(f"{server}/ok")

    def closing() -> None:
        session = requests.Session()
        session.get(f"{server}/ok")
        for pool in session.get_adapter(server).poolmanager.pools._container.values():
            pool.close()

    for each in (leaking, leaking_another, leaking_a_cycle):
        (finding,) = marked(each)
        assert (finding.library, finding.type) == ("requests", "requests.Session")
        assert finding.summary == "dropped without being closed, with a connection open"
    marked(closing)


def test_a_dropped_session_leaves_the_unread_stream_to_its_keeper(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        kept.append(requests.Session().get(f"{server}/big", stream=True))  # leak: responses

    def closing() -> None:
        with requests.Session() as session:
            kept.append(session.get(f"{server}/big", stream=True))  # leak: responses

    marked(leaking)
    marked(closing)


def test_a_wider_fixture_that_leaves_its_session_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def make() -> Any:
        return requests.Session()  # leak: clients

    def using() -> None:
        kept[0].get(f"{server}/ok")

    with marked.fixture(make, scope="session") as fixture:
        kept.append(fixture.make(make))
        marked(using)


def test_a_session_of_a_module_a_class_or_a_cache_is_the_process(
    marked: Marked, kept: list[Any], server: str, lazy: Any
) -> None:
    class Api:
        session: Any = None

        def __init__(self) -> None:
            self.mine = requests.Session()

    @functools.cache
    def default() -> Any:
        return requests.Session()

    lazy.Api, lazy.default = Api, default

    def using() -> None:
        lazy.session = requests.Session()
        Api.session = requests.Session()
        lazy.api = Api()
        for session in (lazy.session, Api.session, default(), lazy.api.mine):
            session.get(f"{server}/ok")
            kept.append(session)
        kept[:] = []

    def leaking() -> None:
        kept.append(lazy.session.get(f"{server}/big", stream=True))  # leak: responses

    marked(using)
    marked(leaking)
    for session in (lazy.session, Api.session, default(), lazy.api.mine):
        session.close()


def another_local() -> Any:
    """The class of another copy of its module, as eventlet has one."""
    spec = importlib.util.find_spec("_thread")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._local is not threading.local
    return module._local()


@pytest.mark.parametrize("make", [threading.local, another_local])
def test_a_session_in_a_thread_local_attribute_is_the_process(
    marked: Marked, server: str, lazy: Any, make: Callable[[], Any]
) -> None:
    lazy.local = make()

    def using() -> None:
        lazy.local.session = requests.Session()
        lazy.local.session.get(f"{server}/ok")

    marked(using)
    lazy.local.session.close()


def test_a_registry_of_sessions_leaks(marked: Marked, server: str, lazy: Any) -> None:
    lazy.sessions = []

    def leaking() -> None:
        lazy.sessions.append(requests.Session())  # leak: clients
        lazy.sessions[-1].get(f"{server}/ok")

    (finding,) = marked(leaking)
    assert finding.held_by == "module attribute lazy.sessions[0]"
    lazy.sessions[0].close()


def test_a_session_that_is_older_than_the_watch_is_the_process(marked: Marked, kept: list[Any], server: str) -> None:
    marked.session.watch.silence()
    kept.append(requests.Session())
    wake(marked.session)

    def using() -> None:
        kept[0].get(f"{server}/ok")

    marked(using)


def test_the_proxies_of_a_session_that_is_older_than_the_watch_are_the_process(
    marked: Marked, kept: list[Any], server: str
) -> None:
    marked.session.watch.silence()
    kept.append(requests.Session())
    kept[0].get("http://service.invalid/ok", proxies={"http": server})
    wake(marked.session)

    def using() -> None:
        kept[0].get("http://service.invalid/ok", proxies={"http": server})

    marked(using)


# -- adapters ----------------------------------------------------------------------------------------------------------


class OwnManager(requests.adapters.HTTPAdapter):  # type: ignore[misc]
    """Makes its manager itself."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self.poolmanager = urllib3.PoolManager()


class OwnPool(requests.adapters.HTTPAdapter):  # type: ignore[misc]
    """Has a pool of its own, as adapters for Unix sockets do."""

    def __init__(self) -> None:
        super().__init__()
        self.pools: dict[str, Any] = {}

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        url = urlsplit(request.url)
        pool = self.pools.get(url.netloc)
        if pool is None:
            pool = self.pools[url.netloc] = urllib3.HTTPConnectionPool(url.hostname, url.port)
        raw = pool.urlopen(request.method, url.path, preload_content=False)
        return self.build_response(request, raw)

    def close(self) -> None:
        super().close()
        for pool in self.pools.values():
            pool.close()


@pytest.mark.parametrize("make", [requests.adapters.HTTPAdapter, OwnManager, OwnPool])
def test_what_an_adapter_has_open_is_its_sessions(
    marked: Marked, kept: list[Any], server: str, make: Callable[[], Any]
) -> None:
    def leaking() -> None:
        session = requests.Session()  # leak: clients
        session.mount("http://", make())
        session.get(f"{server}/ok")
        kept.append(session)

    def closing() -> None:
        with requests.Session() as session:
            session.mount("http://", make())
            kept.append(session.get(f"{server}/ok"))
            kept.append(session)

    marked(leaking)
    marked(closing)


@pytest.mark.parametrize("make", [requests.adapters.HTTPAdapter, OwnManager, OwnPool])
def test_what_is_mounted_on_a_wider_session_is_that_sessions(
    marked: Marked, kept: list[Any], shared: Any, server: str, make: Callable[[], Any]
) -> None:
    def using() -> None:
        shared.mount("http://", make())
        shared.get(f"{server}/ok")

    def leaking() -> None:
        kept.append(shared.get(f"{server}/big", stream=True))  # leak: responses

    marked(using)
    if make is not OwnPool:  # which sends the request in a line of its own
        marked(leaking)


@pytest.mark.parametrize("make", [requests.adapters.HTTPAdapter, OwnManager])
def test_a_session_over_a_wider_fixtures_adapter_has_nothing_to_close(
    marked: Marked, kept: list[Any], server: str, make: Callable[[], Any]
) -> None:
    def setting_up() -> Any:
        return make()

    def clean() -> None:
        session = requests.Session()
        session.mount("http://", adapter)
        session.get(f"{server}/ok")
        kept.append(session)

    with marked.fixture(setting_up) as fixture:
        adapter = fixture.make(setting_up)
        marked(clean)
        with fixture.during():
            adapter.close()


def test_an_adapter_of_a_wider_fixture_leaks_also_where_a_session_of_a_test_has_used_it(
    marked: Marked, kept: list[Any], server: str
) -> None:
    def setting_up() -> Any:
        return requests.adapters.HTTPAdapter()  # leak: clients

    def clean() -> None:
        session = requests.Session()
        session.mount("http://", adapter)
        session.get(f"{server}/ok")
        kept.append(session)

    with marked.fixture(setting_up) as fixture:
        adapter = fixture.make(setting_up)
        marked(clean)
    adapter.close()


def test_an_adapter_without_a_session_is_a_client(marked: Marked, kept: list[Any], server: str) -> None:
    request = requests.Request("GET", f"{server}/ok").prepare()

    def leaking() -> None:
        adapter = requests.adapters.HTTPAdapter()  # leak: clients
        kept.append(adapter)
        assert adapter.send(request).text == "ok"

    marked(leaking)


def test_the_proxies_of_a_wider_session_are_that_sessions(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    proxies = {"http": server}

    def using() -> None:
        assert shared.get("http://service.invalid/ok", proxies=proxies).text == "ok"

    def leaking() -> None:
        kept.append(shared.get("http://service.invalid/big", proxies=proxies, stream=True))  # leak: responses

    marked(using)
    (finding,) = marked(leaking)
    assert finding.summary == "GET http://service.invalid/big [200]"


def test_the_proxies_of_a_session_are_one_leak_with_it(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        session = requests.Session()  # leak: clients
        session.get("http://service.invalid/ok", proxies={"http": server})
        session.get(f"{server}/ok")
        kept.append(session)

    (finding,) = marked(leaking)
    assert finding.summary == "not closed, with 2 idle connections"


def test_a_blocking_adapter_gets_its_slot_back_from_a_closed_stream(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def closing() -> None:
        shared.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True))
        for _ in range(2):
            with shared.get(f"{server}/big", stream=True) as response:
                kept.append(response)

    def leaking() -> None:
        with shared.get(f"{server}/big", stream=True).raw as raw:  # leak: connections
            kept.append(raw)

    marked(closing)
    marked(leaking)


def test_an_answer_that_was_made_up_is_nothing(marked: Marked, kept: list[Any]) -> None:
    class Canned(requests.adapters.HTTPAdapter):  # type: ignore[misc]
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            raw = urllib3.HTTPResponse(io.BytesIO(b"ok"), status=200, preload_content=False)
            return self.build_response(request, raw)

    def using() -> None:
        session = requests.Session()
        session.mount("http://", Canned())
        kept.append(session.get("http://service.invalid/", stream=True))

    marked(using)


# -- limits, versions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [requests.adapters.HTTPAdapter, OwnManager, OwnPool])
def test_a_session_with_all_its_pools_is_one_client(marked: Marked, server: str, make: Callable[[], Any]) -> None:
    def one() -> None:
        with requests.Session() as session:
            session.mount("http://", make())
            session.get(f"{server}/ok")
            session.mount("http://", requests.adapters.HTTPAdapter())
            session.get("http://service.invalid/ok", proxies={"http": server})

    def two() -> None:
        one()
        one()

    assert marked.found(one, max_clients=1) == ()
    (finding,) = marked.found(two, max_clients=1)
    assert finding.summary == "2 clients made, and the limit is 1"


def test_unknown_internals_keep_the_adapter_off(session: Session) -> None:
    strange: Any = ModuleType("requests")
    strange.__version__ = "9.0"
    hooks = Hooks(session.watch, session.watch.patches, session.watch.wall("requests"))
    with pytest.raises(Unsupported, match=r"^requests 9\.0 has no sessions\.Session\.mount$"):
        adapter.attach(strange, hooks)


def test_the_managers_of_its_own_adapters_are_found_without_a_search(
    session: Session, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search through each adapter of hundreds of sessions takes seconds."""
    with requests.Session() as client:
        client.get(f"{server}/ok")
        monkeypatch.setattr("pytest_httpleak.adapters.requests.reachable", lambda *_: pytest.fail("searched"))
        (record,) = session.watch.table("clients of urllib3")
        adapters = [client.get_adapter("https://"), client.get_adapter("http://")]
        assert [part.ref() for part in record.parts()] == [adapter.poolmanager for adapter in adapters]


def test_an_adapter_that_keeps_more_than_its_own_is_searched(session: Session, server: str) -> None:
    with requests.Session() as client, urllib3.HTTPConnectionPool("127.0.0.1") as pool:
        client.get_adapter("http://").second = pool
        (record,) = session.watch.table("clients of urllib3")
        assert pool in [part.ref() for part in record.parts()]
