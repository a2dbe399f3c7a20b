"""Leaks in doctests: their lines are those of the file that the examples stand in."""

from inner import Inner

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
        "text.rst": "leaked",
    }
    found = [row["findings"][0] for row in inner.report["tests"] if row["findings"]]
    assert [(each["created"]["file"], each["created"]["line"], each["created"]["function"]) for each in found] == [
        ("module.py", 13, "connect"),
        ("text.rst", 5, "<module>"),
    ]
    assert [each["line"] for each in found[0]["stack"] if each["file"] == "module.py"] == [13, 15]
