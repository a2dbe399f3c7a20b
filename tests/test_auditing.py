"""Audit notes: what allows a leak in production."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inner import Inner
from pooldrivers import new_driver

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.model.rows import AuditNote
from pytest_httpleak.owners import Taken
from pytest_httpleak.ownership import Watch
from pytest_httpleak.session.auditing import Auditing
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings
from pytest_httpleak.sites import capture

Noted = Callable[[Callable[[], object]], dict[str, AuditNote]]


@pytest.fixture
def auditing(request: pytest.FixtureRequest, small_heap: None) -> Iterator[Session]:
    """A session that looks for audit notes, and has no error of its own by the end."""
    session = Session(rootdir=str(request.path.parent), audit=True)
    session.start()
    yield session
    session.stop()
    assert session.errors() == []


@pytest.fixture
def all_noted(auditing: Session) -> Any:
    """Runs a function as if it were a test, and gives its audit notes."""

    def run(function: Callable[[], object]) -> tuple[AuditNote, ...]:
        return _checked(auditing, function).notes

    return run


def _checked(session: Session, function: Callable[[], object]) -> Check:
    check = session.begin("test_x", "function", default_settings())
    function()
    session.end(check)
    return check


@pytest.fixture
def noted(all_noted: Callable[[Callable[[], object]], tuple[AuditNote, ...]]) -> Noted:
    """The same, with its notes by name."""
    return lambda function: {note.name: note for note in all_noted(function)}


def test_a_request_without_a_timeout_is_noted_with_its_line(noted: Noted, server: str) -> None:
    requests = pytest.importorskip("requests")

    def careless() -> None:
        requests.get(f"{server}/ok")

    note = noted(careless)["no-timeout"]
    assert note.created is not None
    assert note.created.function == "careless"


def test_a_request_with_a_timeout_is_not(noted: Noted, server: str) -> None:
    requests = pytest.importorskip("requests")
    assert noted(lambda: requests.get(f"{server}/ok", timeout=5)) == {}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_without_timeout_and_limit_is_noted(noted: Noted, library: str) -> None:
    httpx = pytest.importorskip(library)

    def careless() -> None:
        httpx.Client(timeout=None, limits=httpx.Limits(max_connections=None)).close()

    assert set(noted(careless)) == {"no-timeout", "unbounded-pool"}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_with_the_defaults_is_not(noted: Noted, library: str) -> None:
    httpx = pytest.importorskip(library)
    assert noted(lambda: httpx.Client().close()) == {}


def test_a_session_of_aiohttp_without_timeout_and_limit_is_noted(noted: Noted) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    import asyncio

    async def careless() -> None:
        timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector):
            pass

    async def careful() -> None:
        async with aiohttp.ClientSession():
            pass

    assert set(noted(lambda: asyncio.run(careless()))) >= {"unbounded-pool"}
    assert noted(lambda: asyncio.run(careful())) == {}


def test_a_request_that_goes_round_the_pools_own_way_is_let_through(noted: Noted, server: str) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def asking() -> None:
        with urllib3.connection_from_url(server) as pool:
            connection = pool._get_conn()
            response = pool._make_request(connection, "GET", "/ok")  # with the pool's own timeout
            response.read()
            connection.close()

    noted(asking)


def test_a_pool_that_throws_connections_away_is_noted(noted: Noted, server: str) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def crowded(size: int) -> None:
        with urllib3.PoolManager(maxsize=size, timeout=5) as pool:
            both = [pool.request("GET", f"{server}/ok", preload_content=False) for _ in range(2)]
            for response in both:
                response.read()

    assert set(noted(lambda: crowded(1))) == {"pool-overflow"}
    assert noted(lambda: crowded(2)) == {}


def test_a_response_that_was_closed_is_no_connection_thrown_away(noted: Noted, server: str) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def closing() -> None:
        with urllib3.PoolManager(maxsize=1, timeout=5) as pool:
            both = [pool.request("GET", f"{server}/close", preload_content=False) for _ in range(2)]
            for response in both:
                response.read()

    assert noted(closing) == {}


# -- no timeout --------------------------------------------------------------------------------------------------------


def test_a_request_of_urllib3_without_a_timeout_is_noted(noted: Noted, server: str) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def asking(**options: Any) -> Callable[[], object]:
        def run() -> None:
            with urllib3.PoolManager(**options) as pool:
                pool.request("GET", f"{server}/ok")

        return run

    assert set(noted(asking())) == {"no-timeout"}
    assert noted(asking(timeout=5)) == {}
    assert noted(asking(timeout=urllib3.Timeout(read=5))) == {}


def test_a_default_timeout_of_the_process_is_one(noted: Noted, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def asking() -> None:
        with urllib3.PoolManager() as pool:
            pool.request("GET", f"{server}/ok")

    socket.setdefaulttimeout(5)
    noted(lambda: None)
    assert noted(asking) == {}
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_request_that_does_away_with_the_timeout_of_its_client_is_noted(
    noted: Noted, server: str, library: str
) -> None:
    httpx = pytest.importorskip(library)

    def asking(timeout: float | None) -> Callable[[], object]:
        def run() -> None:
            with httpx.Client() as client:
                client.get(f"{server}/ok", timeout=5)
                with client.stream("GET", f"{server}/ok", timeout=timeout) as response:
                    response.read()

        return run

    assert set(noted(asking(None))) == {"no-timeout"}
    assert noted(asking(5)) == {}
    assert noted(asking(httpx.Timeout(5, read=None))) == {}  # as for a stream of events


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_whose_answers_come_from_this_process_needs_neither_timeout_nor_limit(
    noted: Noted, library: str
) -> None:
    httpx = pytest.importorskip(library)

    def mocked() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        with httpx.Client(transport=transport, timeout=None, limits=httpx.Limits()) as client:
            client.get("http://test/", timeout=None)

    assert noted(mocked) == {}


def test_a_request_of_aiohttp_that_does_away_with_the_timeout_is_noted(noted: Noted, server: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    import asyncio

    async def asking(**options: Any) -> None:
        async with aiohttp.ClientSession() as session, session.get(f"{server}/ok", **options) as response:
            await response.read()

    forever = aiohttp.ClientTimeout(total=None, sock_connect=None)
    assert set(noted(lambda: asyncio.run(asking(timeout=forever)))) == {"no-timeout"}
    assert noted(lambda: asyncio.run(asking(timeout=aiohttp.ClientTimeout(total=5)))) == {}
    assert noted(lambda: asyncio.run(asking())) == {}


def test_a_connector_that_limits_each_host_is_bounded(noted: Noted) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    import asyncio

    async def bounded() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, limit_per_host=5)):
            pass

    assert noted(lambda: asyncio.run(bounded())) == {}


# -- a client for each request -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["urllib3", "requests", "httpx", "httpx2", "httpx async", "aiohttp"])
@pytest.mark.parametrize(("number", "names"), [(4, set()), (5, {"client-per-request"})])
def test_many_clients_of_one_line_for_one_server_are_noted(
    noted: Noted, server: str, library: str, number: int, names: set[str]
) -> None:
    def each_its_own() -> None:
        for _ in range(number):
            driver = new_driver(library, most=5)
            driver.get(f"{server}/ok", timeout=5)
            driver.end()

    assert set(noted(each_its_own)) - {"no-timeout"} == names


def test_one_client_for_all_requests_is_not(noted: Noted, server: str) -> None:
    httpx = pytest.importorskip("httpx")

    def shared() -> None:
        with httpx.Client() as client:
            for _ in range(6):
                client.get(f"{server}/ok")

    assert noted(shared) == {}


def test_a_client_for_each_example_of_hypothesis_is_not(inner: Inner, server: str) -> None:
    pytest.importorskip("hypothesis")
    inner.write(
        test_a=f"""
        import httpx
        from hypothesis import given, settings, strategies

        def each_its_own(number=1):
            for _ in range(number):
                httpx.get("{server}/ok", timeout=5)

        @settings(max_examples=6, database=None, deadline=None)
        @given(strategies.integers())
        def test_examples(number):
            each_its_own()

        def test_loop():
            each_its_own(6)
        """
    )
    inner.judge(test_examples="clean", test_loop="clean")
    notes = [(row["nodeid"][-4:], each["name"]) for row in inner.report["tests"] for each in row.get("notes", ())]
    assert notes == [("loop", "client-per-request")]


def test_clients_that_never_connect_are_not(noted: Noted) -> None:
    httpx = pytest.importorskip("httpx")

    def settings() -> None:
        for timeout in range(1, 7):
            with httpx.Client(timeout=timeout) as client:
                assert client.timeout.read == timeout

    assert noted(settings) == {}


# -- tries without a bound ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["urllib3", "requests", "httpx", "httpx2", "httpx async", "aiohttp"])
@pytest.mark.parametrize(
    ("path", "number", "names"),
    [("status/503", 21, {"unbounded-retry"}), ("status/503", 20, set()), ("ok", 21, set()), ("status/404", 21, set())],
)
def test_one_request_that_fails_over_and_over_is_noted(
    noted: Noted, server: str, library: str, path: str, number: int, names: set[str]
) -> None:
    def trying() -> None:
        driver = new_driver(library, most=5)
        for _ in range(number):
            driver.get(f"{server}/{path}", timeout=5)
        driver.end()

    assert set(noted(trying)) - {"no-timeout"} == names


@pytest.mark.parametrize(("number", "names"), [(101, {"unbounded-retry"}), (100, set())])
def test_tasks_of_one_line_by_the_hundred_are_noted(noted: Noted, number: int, names: set[str]) -> None:
    import asyncio

    async def all_at_once() -> None:
        await asyncio.gather(*[asyncio.create_task(asyncio.sleep(0)) for _ in range(number)])

    assert set(noted(lambda: asyncio.run(all_at_once()))) == names


def test_tasks_in_batches_are_not(noted: Noted) -> None:
    import asyncio

    async def in_batches() -> None:
        for _ in range(4):
            await asyncio.gather(*[asyncio.create_task(asyncio.sleep(0)) for _ in range(90)])

    assert noted(lambda: asyncio.run(in_batches())) == {}


def test_tasks_of_two_lines_are_counted_apart(noted: Noted) -> None:
    import asyncio

    async def both() -> None:
        some = [asyncio.create_task(asyncio.sleep(0)) for _ in range(80)]
        others = [asyncio.create_task(asyncio.sleep(0)) for _ in range(80)]
        await asyncio.gather(*some, *others)

    assert noted(lambda: asyncio.run(both())) == {}


def test_tasks_that_follow_each_other_are_not(noted: Noted) -> None:
    import asyncio

    async def one_by_one() -> None:
        for _ in range(150):
            await asyncio.create_task(asyncio.sleep(0))

    assert noted(lambda: asyncio.run(one_by_one())) == {}


# -- defaults of the whole process -------------------------------------------------------------------------------------


@pytest.fixture
def _own_opener() -> Iterator[None]:
    before = urllib.request._opener  # type: ignore[attr-defined]
    urllib.request._opener = None  # type: ignore[attr-defined]
    yield
    urllib.request._opener = before  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_own_opener")
def test_the_opener_that_urlopen_makes_for_itself_is_no_change(noted: Noted, server: str) -> None:
    def asking() -> None:
        with urllib.request.urlopen(f"{server}/ok") as response:
            response.read()

    assert noted(asking) == {}


@pytest.mark.usefixtures("_own_opener")
def test_an_opener_that_is_installed_is_noted_with_its_line(noted: Noted) -> None:
    def installing() -> None:
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler())
        urllib.request.install_opener(opener)

    note = noted(installing)["global-default-changed"]
    assert "urllib.request's opener" in note.message
    assert note.created is not None
    assert note.created.function == "installing"


def test_a_changed_global_default_is_noted_and_one_that_was_put_back_is_not(noted: Noted) -> None:
    def changed() -> None:
        socket.setdefaulttimeout(5)

    def put_back() -> None:
        opener = urllib.request.build_opener()
        before = urllib.request._opener  # type: ignore[attr-defined]
        urllib.request.install_opener(opener)
        urllib.request._opener = before  # type: ignore[attr-defined]

    assert noted(put_back) == {}
    note = noted(changed)["global-default-changed"]
    assert note.created is not None
    assert note.created.function == "changed"
    socket.setdefaulttimeout(None)


SUITE = """
import socket
def test_changes():
    socket.setdefaulttimeout(5)
def test_clean():
    assert socket.getdefaulttimeout() == 5
"""


def test_notes_inform_and_fail_only_where_that_is_asked_for(inner: Inner) -> None:
    inner.write(test_a=SUITE)
    result = inner.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["note: *socket's default timeout was changed*global-default-changed*", "*fix:*"])

    result = inner.run("-o", "httpleak_audit=global-default-changed")
    result.assert_outcomes(passed=1, failed=1)
    assert inner.outcomes() == {"test_changes": "leaked", "test_clean": "clean"}

    result = inner.run("-o", "httpleak_audit=off")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("note:*")


@pytest.mark.parametrize("filters", [(), ("-W", "error")])
def test_notes_that_fail_only_warn_where_leaks_do(inner: Inner, filters: tuple[str, ...]) -> None:
    inner.write(test_a=SUITE)
    result = inner.run("--httpleak=warn", "-o", "httpleak_audit=fail", *filters)
    assert result.ret == 0
    assert inner.outcomes() == {"test_changes": "warned", "test_clean": "clean"}
    if not filters:
        result.stdout.fnmatch_lines(["*HttpLeakWarning: note: *global-default-changed*would fail it*", "*1 warned*"])


def test_notes_that_fail_only_warn_in_a_test_whose_marker_says_so(inner: Inner) -> None:
    marked = "import pytest\npytestmark = pytest.mark.httpleak(mode='{}')\n" + SUITE
    inner.write(test_a=marked.format("warn"))
    inner.run("-o", "httpleak_audit=fail").assert_outcomes(passed=2, warnings=1)
    inner.write(test_a=marked.format("fail"))
    inner.run("-o", "httpleak_audit=fail").assert_outcomes(passed=1, failed=1)


WIDER = """
import socket
import pytest

@pytest.fixture(scope="module")
def impatient():
    socket.setdefaulttimeout(5)
    yield
    socket.setdefaulttimeout(None)

def test_first(impatient):
    pass
def test_second(impatient):
    pass
"""


def test_a_default_that_a_wider_fixture_changes_and_puts_back_is_no_tests_doing(inner: Inner) -> None:
    inner.write(test_a=WIDER, test_b="def test_after(): pass")
    result = inner.run()
    result.assert_outcomes(passed=3)
    assert not any("notes" in row for row in inner.report["tests"])


def test_notes_of_one_line_are_counted_together_only_where_they_say_the_same() -> None:
    birth = capture(1)
    taken = [Taken("no-timeout", "waits", hint, birth) for hint in ("pass one", "pass one", "set one")]
    assert [(each.hint, each.count) for each in Auditing(Watch()).counted(taken)] == [("pass one", 2), ("set one", 1)]


def test_notes_that_say_the_same_are_counted_for_each_line() -> None:
    taken = [Taken("no-timeout", "waits", "pass one", capture(1))]
    taken += [Taken("no-timeout", "waits", "pass one", capture(1))]
    assert [each.count for each in Auditing(Watch()).counted(taken)] == [1, 1]


@pytest.mark.parametrize("options", [{}, {"connect": None, "read": None}])
def test_each_request_is_counted_and_each_line_has_its_own_note(
    all_noted: Callable[[Callable[[], object]], tuple[AuditNote, ...]], server: str, options: dict[str, Any]
) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def often(pools: Any) -> None:
        for _ in range(3):
            pools.request("GET", f"{server}/ok")

    def careless() -> None:
        with urllib3.PoolManager(timeout=urllib3.Timeout(**options)) as pools:
            often(pools)
            pools.request("GET", f"{server}/ok")
            often(pools)

    places = [(note.created and note.created.function, note.count) for note in all_noted(careless)]
    assert places == [("often", 6), ("careless", 1)]


@pytest.mark.parametrize(
    "options", [{"total": 5}, {"connect": 5}, {"read": 5, "connect": None}, {"total": 1.5, "read": None}]
)
@pytest.mark.parametrize("is_stock", [True, False])
def test_any_bound_of_a_timeout_is_one(noted: Noted, server: str, options: dict[str, Any], is_stock: bool) -> None:
    urllib3 = pytest.importorskip("urllib3")
    own = type("Own", (urllib3.Timeout,), {"clone": lambda self: self})

    def careful() -> None:
        with urllib3.PoolManager() as pools:
            pools.request("GET", f"{server}/ok", timeout=(urllib3.Timeout if is_stock else own)(**options))

    assert noted(careful) == {}


def test_an_adapter_of_somebodys_own_may_come_with_a_timeout(noted: Noted, server: str) -> None:
    requests = pytest.importorskip("requests")

    class Patient(requests.adapters.HTTPAdapter):  # type: ignore[misc, name-defined]
        def send(self, *args: Any, **kwargs: Any) -> Any:
            return super().send(*args, **{**kwargs, "timeout": 5})

    def careful() -> None:
        with requests.Session() as session:
            session.mount("http://", Patient())
            session.get(f"{server}/ok")

    assert noted(careful) == {}


@pytest.mark.parametrize(("name", "found"), [("audit", ["responses"]), ("urllib3", [])])
def test_only_what_answers_for_a_librarys_things_hides_them_where_it_is_off(
    auditing: Session, server: str, name: str, found: list[str]
) -> None:
    """Where the adapter itself is off, nobody knows whether what it has recorded was closed since."""
    urllib3 = pytest.importorskip("urllib3")
    (wall,) = (each for each in auditing.watch.walls if each.name == f"the adapter for {name}")
    with urllib3.PoolManager() as pools:
        kept: list[Any] = []

        def leaking() -> None:
            kept.append(pools.request("GET", f"{server}/big", preload_content=False))
            wall.fall(ValueError("broken"))

        findings = _checked(auditing, leaking).findings
        kept.pop().close()
    wall.error = None
    assert [each.kind.value for each in findings if each.kind is not Kind.CLIENTS] == found
