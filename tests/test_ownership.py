"""Who answers for a leak: inner suites whose comments say it, run once and looked at test by test."""

from __future__ import annotations

import functools

import pytest
from once import once
from truth import Suite

COMMON = """
import os
import socket
from urllib.parse import urlsplit

import pytest

URL = os.environ["SERVER"]
ADDRESS = urlsplit(URL).hostname, urlsplit(URL).port
KEPT = []  # outlives every test


def connect():
    return socket.create_connection(ADDRESS)
"""

FIXTURES = """
import contextlib
import os
import socket

import httpx
import pytest
from common import ADDRESS, KEPT, URL


# -- function scope ----------------------------------------------------------------------------------------------------


@pytest.fixture
def returned():
    sock = socket.create_connection(ADDRESS)  # leak: sockets
    KEPT.append(sock)
    return sock


@pytest.fixture
def left_in_teardown():
    yield
    KEPT.append(socket.create_connection(ADDRESS))  # leak: sockets


@pytest.fixture
def left_by_a_finalizer(request):
    request.addfinalizer(lambda: KEPT.append(socket.create_connection(ADDRESS)))  # leak: sockets


@pytest.fixture
def closed_by_a_finalizer(request):
    sock = socket.create_connection(ADDRESS)
    request.addfinalizer(sock.close)
    return sock


@pytest.fixture
def closed():
    with socket.create_connection(ADDRESS) as sock:
        yield sock


@pytest.fixture(params=["open", "shut"])
def parametrised(request):
    sock = socket.create_connection(ADDRESS)  # leak: sockets @open
    KEPT.append(sock)
    if request.param == "shut":
        sock.close()


def test_a_fixture_that_returns_an_open_socket(returned):
    '''Leaks: returned.'''


def test_a_fixture_that_leaks_when_it_is_torn_down(left_in_teardown):
    '''Leaks: left_in_teardown.'''


def test_a_finalizer_that_leaks(left_by_a_finalizer):
    '''Leaks: left_by_a_finalizer.'''


def test_a_finalizer_that_closes(closed_by_a_finalizer):
    KEPT.append(closed_by_a_finalizer)


def test_a_fixture_that_closes(closed):
    KEPT.append(closed)


def test_a_fixture_that_is_asked_for_late(request):
    '''Leaks: returned.'''
    request.getfixturevalue("closed")
    request.getfixturevalue("returned")


def test_a_parametrised_fixture(parametrised):
    '''Leaks: parametrised.'''


@pytest.mark.parametrize("keep", [True, False], ids=["left", "shut"])
def test_a_parametrised_test(keep):
    sock = socket.create_connection(ADDRESS)  # leak: sockets @left
    KEPT.append(sock)
    if not keep:
        sock.close()


@pytest.fixture
def overridden():
    with socket.create_connection(ADDRESS) as sock:
        yield sock


class TestOverride:
    @pytest.fixture
    def overridden(self, overridden):
        KEPT.append(overridden.dup())  # leak: sockets
        return overridden

    def test_an_overriding_fixture(self, overridden):
        '''Leaks: TestOverride.overridden.'''


class TestAutouse:
    @pytest.fixture(autouse=True)
    def each(self):
        KEPT.append(socket.create_connection(ADDRESS))  # leak: sockets

    def test_an_autouse_fixture(self):
        '''Leaks: TestAutouse.each.'''

    def test_an_autouse_fixture_again(self):
        '''Leaks: TestAutouse.each.'''


# -- wider scopes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="class")
def client():
    with httpx.Client() as client:
        yield client


def stream(client):
    return client.send(client.build_request("GET", URL + "/big"), stream=True)


class TestLast:
    def test_a_connection_that_a_wider_client_opens_lazily_is_the_clients(self, client):
        assert client.get(URL + "/ok").text == "ok"

    def test_a_response_of_the_last_test_is_not_excused_by_the_client_that_closes_after_it(self, client):
        KEPT.append(client.send(client.build_request("GET", URL + "/big"), stream=True))  # leak: responses


def test_a_class_fixture_outside_any_class_excuses_nothing_either(client):
    KEPT.append(client.send(client.build_request("GET", URL + "/big"), stream=True))  # leak: responses


def test_a_class_fixture_outside_any_class_that_is_asked_for_late(request):
    response = stream(request.getfixturevalue("client"))
    request.addfinalizer(response.close)


@pytest.fixture(scope="class")
def leaking_class_fixture():
    KEPT.append(socket.create_connection(ADDRESS))  # leak-fixture: sockets


def test_a_class_fixture_outside_any_class_is_named_itself(leaking_class_fixture):
    pass


@pytest.fixture(scope="module")
def left_in_setup():
    sock = socket.create_connection(ADDRESS)  # leak-fixture: sockets
    KEPT.append(sock)
    return sock


@pytest.fixture(scope="module")
def left_late():
    yield
    KEPT.append(socket.create_connection(ADDRESS))  # leak-fixture: sockets


@pytest.fixture(scope="module")
def dependent(left_in_setup):
    KEPT.append(left_in_setup.dup())  # leak-fixture: sockets
    yield


@pytest.fixture(scope="class")
def held_response(client):
    KEPT.append(client.send(client.build_request("GET", URL + "/big"), stream=True))  # leak-fixture: responses


@pytest.fixture(scope="module", params="abc")
def changing(request):
    KEPT.append(socket.create_connection(ADDRESS))  # leak-fixture: sockets x3
    return request.param


class TestWide:
    def test_its_leaks_are_not_the_tests(self, left_in_setup, left_late, dependent, held_response):
        pass

    def test_nor_those_of_the_next(self, left_in_setup, left_late, dependent, held_response):
        pass


def test_each_parameter_is_a_life_of_its_own(changing):
    pass


@pytest.fixture(scope="module")
def failing():
    KEPT.append(socket.create_connection(ADDRESS))  # leak-fixture: sockets
    pytest.skip("after it has leaked")


def test_a_fixture_that_gives_up(failing):
    pass


# -- descriptors that change hands -------------------------------------------------------------------------------------


@pytest.fixture
def descriptor(tmp_path):
    fd = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
    yield fd
    with contextlib.suppress(OSError):
        os.close(fd)


@pytest.fixture(scope="module")
def wide_descriptor(tmp_path_factory):
    fd = os.open(tmp_path_factory.mktemp("wide") / "a", os.O_CREAT | os.O_RDWR)
    yield fd
    with contextlib.suppress(OSError):
        os.close(fd)


def test_a_descriptor_that_the_test_closes(descriptor):
    os.close(descriptor)


def test_a_socket_that_the_test_takes_over(closed):
    os.close(closed.detach())


def test_a_socket_that_the_test_closes_for_another_one(closed):
    closed.close()
    KEPT.append(socket.create_connection(ADDRESS))  # leak: sockets


def test_a_wide_descriptor_that_is_used(wide_descriptor):
    os.write(wide_descriptor, b"x")


def test_a_wide_descriptor_whose_number_the_test_uses_again(wide_descriptor, tmp_path):
    os.close(wide_descriptor)
    fd = os.open(tmp_path / "b", os.O_CREAT | os.O_RDWR)  # leak: fds
    assert fd == wide_descriptor
"""

XUNIT = """
import socket
import unittest

import httpx
import pytest
from common import ADDRESS, KEPT, URL

made = []


def setup_module():
    made.append(socket.create_connection(ADDRESS))


def teardown_module():
    made.pop().close()


class TestMethods:
    @classmethod
    def setup_class(cls):
        cls.client = httpx.Client()

    @classmethod
    def teardown_class(cls):
        cls.client.close()

    def setup_method(self):
        self.sock = socket.socket()

    def teardown_method(self):
        self.sock.close()

    def test_a_client_of_the_class(self):
        assert self.client.get(URL + "/ok").text == "ok"

    def test_a_response_of_that_client(self):
        KEPT.append(self.client.send(self.client.build_request("GET", URL + "/big"), stream=True))  # leak: responses


class TestSetup:
    def setup_method(self):
        KEPT.append(socket.socket())  # leak: sockets

    def test_what_setup_method_leaves(self):
        '''Leaks: TestSetup.setup_method.'''

    def test_what_setup_method_leaves_again(self):
        '''Leaks: TestSetup.setup_method.'''


class TestTeardown:
    def teardown_method(self):
        KEPT.append(socket.socket())  # leak: sockets

    def test_what_teardown_method_leaves(self):
        '''Leaks: TestTeardown.teardown_method.'''


class TestClass:
    @classmethod
    def setup_class(cls):
        KEPT.append(socket.socket())  # leak-fixture: sockets

    def test_what_setup_class_leaves_is_not_the_tests(self):
        pass


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = httpx.Client()
        cls.addClassCleanup(cls.client.close)

    def setUp(self):
        self.sock = socket.create_connection(ADDRESS)
        self.addCleanup(self.sock.close)

    def test_what_cleanups_close(self):
        assert self.client.get(URL + "/ok").text == "ok"

    def test_what_a_method_leaves(self):
        KEPT.append(socket.socket())  # leak: sockets

    def test_what_subtests_leave(self):
        for number in range(3):
            with self.subTest(number=number):
                KEPT.append(socket.socket())  # leak: sockets x3

    def test_what_subtests_close(self):
        for number in range(3):
            with self.subTest(number=number), socket.socket():
                pass


class CaseSetUp(unittest.TestCase):
    def setUp(self):
        KEPT.append(socket.socket())  # leak: sockets

    def test_what_set_up_leaves(self):
        '''Leaks: CaseSetUp.setUp.'''


class CaseTearDown(unittest.TestCase):
    def tearDown(self):
        KEPT.append(socket.socket())  # leak: sockets

    def test_what_tear_down_leaves(self):
        '''Leaks: CaseTearDown.tearDown.'''


class CaseClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        KEPT.append(socket.socket())  # leak-fixture: sockets

    def test_what_set_up_class_leaves_is_not_the_tests(self):
        pass


class CaseEnd(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        KEPT.append(socket.socket())  # leak-fixture: sockets

    def test_what_tear_down_class_leaves_is_not_the_tests(self):
        pass


class CaseBoth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sock = socket.socket()

    @classmethod
    def tearDownClass(cls):
        cls.sock.close()

    def test_what_tear_down_class_closes(self):
        pass
"""

PROCESS = """
import contextvars
import functools
import gc
import socket
import weakref

import httpx
import program
import pytest
from common import ADDRESS, KEPT, URL

made_at_collection = socket.socket()
variable = contextvars.ContextVar("variable")


def test_what_collection_has_made():
    assert made_at_collection.fileno() >= 0


def test_what_an_import_inside_a_test_makes():
    import imported_late

    assert imported_late.log.fileno() >= 0


def test_a_client_in_a_module_attribute():
    assert program.shared_client().get(URL + "/ok").text == "ok"


def test_a_client_in_a_module_attribute_again():
    assert program.shared_client().get(URL + "/ok").text == "ok"


def test_a_response_of_a_client_in_a_module_attribute():
    client = program.shared_client()
    KEPT.append(client.send(client.build_request("GET", URL + "/big"), stream=True))  # leak: responses


def test_a_client_in_a_class_attribute():
    program.Settings.client = httpx.Client()
    assert program.Settings.client.get(URL + "/ok").text == "ok"


def test_a_client_in_the_cache_of_a_function():
    assert program.cached_client("a").get(URL + "/ok").text == "ok"


def test_a_client_in_a_cached_property_of_a_global():
    assert program.app.client.get(URL + "/ok").text == "ok"


def test_a_client_down_a_chain_of_attributes():
    program.app.inner.client = httpx.Client()
    assert program.app.inner.client.get(URL + "/ok").text == "ok"


def test_a_list_that_grows():
    client = httpx.Client()  # leak: clients
    client.get(URL + "/ok")
    program.registry.append(client)


def test_a_dict_that_grows():
    client = httpx.Client()  # leak: clients
    client.get(URL + "/ok")
    program.by_name["a"] = client


def test_a_dict_of_a_class_that_grows():
    client = httpx.Client()  # leak: clients
    client.get(URL + "/ok")
    program.Settings.clients["a"] = client


def test_a_socket_in_a_module_attribute_is_no_client():
    program.sock = socket.create_connection(ADDRESS)  # leak: sockets


def test_a_client_in_a_context_variable():
    client = httpx.Client()  # leak: clients
    client.get(URL + "/ok")
    variable.set(client)


def lines():
    with httpx.Client() as client:
        yield from client.get(URL + "/ok").iter_lines()


def test_a_generator_that_is_kept():
    def rows():
        with socket.create_connection(ADDRESS) as sock:  # leak: sockets
            yield sock

    KEPT.append(rows())
    next(KEPT[-1])


def test_a_generator_that_is_closed():
    def rows():
        with socket.create_connection(ADDRESS) as sock:
            yield sock

    KEPT.append(rows())
    next(KEPT[-1])
    KEPT[-1].close()


def test_a_generator_that_is_dropped():
    def rows():
        with socket.create_connection(ADDRESS) as sock:
            yield sock

    next(rows())


def test_a_weak_reference_alone():
    with socket.create_connection(ADDRESS) as sock:
        KEPT.append(weakref.ref(sock))


def test_an_exception_that_keeps_its_frame():
    def failing():
        sock = socket.create_connection(ADDRESS)  # leak: sockets
        raise ValueError(sock)

    with pytest.raises(ValueError) as caught:
        failing()
    KEPT.append(caught)


def test_a_cycle_that_only_the_collector_can_free():
    class Node:
        pass

    node = Node()
    node.me = node
    node.sock = socket.create_connection(ADDRESS)  # leak: sockets


def test_a_partial_that_keeps():
    sock = socket.create_connection(ADDRESS)  # leak: sockets
    KEPT.append(functools.partial(print, sock))


def test_a_helper_in_another_module():
    '''Leaks: connect_and_keep.'''
    program.connect_and_keep(ADDRESS, KEPT)
"""

PROGRAM = """
import functools
import socket

import httpx

registry, by_name = [], {}
client = None


class Settings:
    client = None
    clients = {}


class Inner:
    client = None


class App:
    def __init__(self):
        self.inner = Inner()

    @functools.cached_property
    def client(self):
        return httpx.Client()


app = App()


def shared_client():
    global client
    if client is None:
        client = httpx.Client()
    return client


@functools.lru_cache(maxsize=None)
def cached_client(name):
    return httpx.Client()


def connect_and_keep(address, kept):
    kept.append(socket.create_connection(address))  # leak: sockets
"""

PACKAGE = """
import socket

import pytest
from common import ADDRESS, KEPT


@pytest.fixture(scope="package")
def of_the_package():
    KEPT.append(socket.create_connection(ADDRESS))  # leak-fixture: sockets


@pytest.fixture(scope="session")
def of_the_session():
    KEPT.append(socket.create_connection(ADDRESS))  # leak-fixture: sockets
"""

SUITE = Suite(
    common=COMMON,
    program=PROGRAM,
    imported_late="import socket\nlog = socket.socket()\n",
    test_fixtures=FIXTURES,
    test_xunit=XUNIT,
    test_process=PROCESS,
    deeper____init__="",
    deeper__conftest=PACKAGE,
    deeper__test_package="def test_it(of_the_package, of_the_session):\n    pass\n",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, server: str) -> Suite:
    pytest.importorskip("httpx")
    run = functools.partial(SUITE.run, SERVER=server)
    return SUITE.in_folder(once(tmp_path_factory, "ownership", lambda folder: run(folder, "-p", "no:randomly")))


@pytest.mark.parametrize("nodeid", SUITE.tests)
def test_a_test_answers_for_what_its_comments_say_and_nothing_else(run: Suite, nodeid: str) -> None:
    for each in run.runs_of(nodeid):
        assert run.seen(each) == run.expected(each), run.output
    assert run.runs_of(nodeid) or "gives_up" in nodeid


@pytest.mark.parametrize("name", SUITE.fixtures)
def test_a_wider_fixture_answers_for_what_its_comments_say(run: Suite, name: str) -> None:
    assert run.seen_of_fixture(name.rpartition(".")[2]) == run.expected_of_fixture(name), run.output


def test_no_other_fixture_has_a_row(run: Suite) -> None:
    assert {row["name"] for row in run.report["fixtures"]} == {name.rpartition(".")[2] for name in SUITE.fixtures}


@pytest.mark.parametrize(
    ("name", "scope", "baseid", "file"),
    [
        ("left_in_setup", "module", "test_fixtures.py", "test_fixtures.py"),
        ("held_response", "class", "test_fixtures.py", "test_fixtures.py"),
        ("of_the_package", "package", "deeper", "deeper/conftest.py"),
        ("of_the_session", "session", "deeper", "deeper/conftest.py"),
        ("setup_class", "class", "test_xunit.py::TestClass", "test_xunit.py"),
        ("setUpClass", "class", "test_xunit.py::CaseClass", "test_xunit.py"),
        ("tearDownClass", "class", "test_xunit.py::CaseEnd", "test_xunit.py"),
    ],
)
def test_a_fixtures_row_says_where_it_is_defined(run: Suite, name: str, scope: str, baseid: str, file: str) -> None:
    (row,) = run.fixture_rows(name)
    assert (row["scope"], row["baseid"], row["file"], row["outcome"]) == (scope, baseid, file, "leaked")
    lines = run.files[file].splitlines()
    assert any(f"def {name}" in line for line in lines[row["line"] - 1 : row["line"] + 2])


def test_a_fixture_whose_parameter_changes_has_a_row_for_each_life(run: Suite) -> None:
    assert [row["findings"][0]["count"] for row in run.fixture_rows("changing")] == [1, 1, 1]
    assert len(run.runs_of("test_fixtures.py::test_each_parameter_is_a_life_of_its_own")) == 3


def test_the_error_at_teardown_names_the_fixture(run: Suite) -> None:
    assert "left by: fixture 'left_in_setup' (scope module, test_fixtures.py:" in run.output
    assert "left by: fixture 'of_the_package' (scope package, deeper/conftest.py:" in run.output
