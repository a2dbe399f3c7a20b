"""Leaks in doctests: their lines are those of the file that the examples stand in."""

import doctest
import types

import pytest
from inner import Inner

from pytest_httpleak import doctests

MODULE = '''\
"""Says what it is for.

>>> import socket
"""
import contextlib


class Client:
    """A client.

    >>> import contextlib, socket
    >>> def connect():
    ...     sock = socket.socket()
    ...     return sock
    >>> kept = connect()
    """

    def close(self):
        """Closes it.

        >>> import contextlib, socket
        >>> with contextlib.closing(socket.socket()) as sock:
        ...     pass
        """

    def keep(self):
        """Keeps it, by a stack whose line is not the first of its example.

        >>> import contextlib, socket
        >>> stack = contextlib.ExitStack()
        >>> def enter():
        ...     return stack.enter_context(contextlib.closing(socket.socket()))
        >>> kept = enter()
        """
'''
TEXT = """\
Title

    >>> import socket
    >>> kept = [
    ...     socket.socket()]
"""


def test_the_line_is_that_of_the_file(inner: Inner) -> None:
    inner.path.joinpath("module.py").write_text(MODULE)
    inner.path.joinpath("text.rst").write_text(TEXT)
    inner.run("--doctest-modules", "--doctest-glob=*.rst")
    assert inner.outcomes() == {
        "module": "clean",
        "module.Client": "leaked",
        "module.Client.close": "clean",
        "module.Client.keep": "leaked",
        "text.rst": "leaked",
    }
    found = [row["findings"][0] for row in inner.report["tests"] if row["findings"]]
    assert [(each["created"]["file"], each["created"]["line"], each["created"]["function"]) for each in found] == [
        ("module.py", 13, "connect"),
        ("module.py", 32, "enter"),
        ("text.rst", 5, "<module>"),
    ]
    assert [each["line"] for each in found[0]["stack"] if each["file"] == "module.py"] == [13, 15]
    assert found[1]["hint"].startswith("close the stack that it was entered by")


def test_of_an_earlier_run_no_place_is_known(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: doctests.set_tests([]))
    for name in ("one", "two"):
        example = doctest.DocTestParser().get_doctest(f"\n>>> {name}\n", {}, name, f"{name}.py", 4)
        doctests.set_tests([types.SimpleNamespace(dtest=example)])
    places = [doctests.place_of(f"<doctest {name}[0]>", 1) for name in ("one", "two")]
    assert places == [("<doctest one[0]>", 1), ("two.py", 6)]


@pytest.mark.parametrize("same", [False, True], ids=["two files", "one file twice"])
def test_of_two_files_of_one_name_no_place_is_known(request: pytest.FixtureRequest, same: bool) -> None:
    request.addfinalizer(lambda: doctests.set_tests([]))
    files = ["one/index.rst", "one/index.rst" if same else "two/index.rst"]
    examples = [doctest.DocTestParser().get_doctest(">>> 1\n", {}, "index.rst", file, 0) for file in files]
    doctests.set_tests([types.SimpleNamespace(dtest=each) for each in examples])
    name = "<doctest index.rst[0]>"
    assert doctests.place_of(name, 1) == (("one/index.rst", 1) if same else (name, 1))
