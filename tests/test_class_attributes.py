"""What a fixture of a class puts into the attributes of that class ends with it, and not with the process."""

from __future__ import annotations

import pytest
from inner import Inner

pytest.importorskip("httpx")

SUITE = """
import os
import unittest

import httpx
import pytest

URL = os.environ["SERVER"] + "/ok"


def connected():
    client = httpx.Client()
    client.get(URL)
    return client


class Application:
    client = None

    @classmethod
    def shared(cls):
        cls.client = cls.client or connected()
        return cls.client


class Base:
    client = None
"""

BY_FIXTURE = """
@pytest.fixture(scope="class")
def client(request{argument}):
    request.cls.client = connected()


@pytest.mark.usefixtures("client")
class TestIt:
    def test_it(self):
        pass
"""

CLOSING = """
@pytest.fixture(scope="class", autouse=True)
def closing(request):
    yield
    request.cls.client.close()

"""


def in_set_up_class(*lines: str) -> str:
    """A class of tests that is set up so."""
    body = "".join(f"        {line}\n" for line in lines)
    head = "class TestIt(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls):\n"
    return f"\n{head}{body}\n    def test_it(self):\n        pass\n"


LEAKING = {
    "setUpClass": in_set_up_class("cls.client = connected()"),
    "setup_class": """
class TestIt:
    @classmethod
    def setup_class(cls):
        cls.client = connected()

    def test_it(self):
        pass
""",
    "fixture": BY_FIXTURE.format(argument=""),
    "object in between": in_set_up_class("cls.application = Application()", "cls.application.client = connected()"),
}

CLEAN = {
    "class cleanup": in_set_up_class("cls.client = connected()", "cls.addClassCleanup(cls.client.close)"),
    "closed by another fixture": CLOSING + BY_FIXTURE.format(argument=", closing"),
    "client of the process": in_set_up_class("cls.client = Application.shared()"),
    "attribute of a base class": """
class TestIt(Base):
    @classmethod
    def setup_class(cls):
        Base.client = Base.client or connected()

    def test_it(self):
        pass
""",
    "made by a test": """
class TestIt:
    client = None

    def test_it(self):
        TestIt.client = TestIt.client or connected()
""",
}


def findings(inner: Inner, monkeypatch: pytest.MonkeyPatch, server: str, text: str) -> list[tuple[str, str, str]]:
    """Outcome, kind and function of each leak of a fixture; the tests themselves are clean."""
    monkeypatch.setenv("SERVER", server)
    inner.write(test_it=SUITE + text)
    inner.judge(test_it="clean")
    rows = inner.report["fixtures"]
    return [(row["outcome"], each["kind"], each["created"]["function"]) for row in rows for each in row["findings"]]


@pytest.mark.parametrize("text", LEAKING.values(), ids=LEAKING)
def test_a_client_that_a_class_keeps_beyond_its_tests_is_its_fixtures_leak(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, server: str, text: str
) -> None:
    assert findings(inner, monkeypatch, server, text) == [("leaked", "clients", "connected")]


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_a_client_that_something_else_ends_or_keeps_is_nothing(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, server: str, text: str
) -> None:
    assert findings(inner, monkeypatch, server, text) == []
