"""Nodes that set something up themselves: packages, files and items of somebody's own."""

from __future__ import annotations

import pytest
from inner import Inner

PACKAGE = """
import os
import socket
import threading

OPENED = []


def setup_module():
    sock = socket.socket()
    OPENED.append(sock.close)
    fd = os.dup(sock.fileno())
    OPENED.append(lambda: os.close(fd))
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    OPENED.append(thread.join)
    OPENED.append(stop.set)


def teardown_module():
    while OPENED:
        OPENED.pop()()
"""
IN_PACKAGE = """
import socket

KEPT = []


def test_first():
    pass


def test_leaks():
    KEPT.append(socket.socket())
"""


def test_what_a_package_sets_up_is_no_leak_of_its_first_test(inner: Inner) -> None:
    inner.write(test_a="def test_before(): pass")
    package = inner.path / "package"
    (package / "inside").mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "inside" / "__init__.py").write_text("")
    (package / "inside" / "test_b.py").write_text(IN_PACKAGE)
    inner.run().assert_outcomes(passed=2, failed=1)
    assert inner.outcomes() == {"test_before": "clean", "test_first": "clean", "test_leaks": "leaked"}


OWN = """
import socket

import pytest

KEPT = []


class Opening:
    def setup(self):
        self.sock = socket.socket()

    def teardown(self):
        self.sock.close()


class OwnItem(Opening, pytest.Item):
    def runtest(self):
        if self.name == "leaks":
            KEPT.append(socket.socket())

    def repr_failure(self, excinfo):
        return str(excinfo.value)


class OwnFile(Opening, pytest.File):
    def collect(self):
        for name in ("first", "leaks", "last"):
            yield OwnItem.from_parent(self, name=name)


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".own":
        return OwnFile.from_parent(parent, path=file_path)
"""


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n", "1")])
def test_what_nodes_of_somebodys_own_open_and_close_is_no_leak_of_any_item(
    inner: Inner, arguments: tuple[str, ...]
) -> None:
    if arguments:
        pytest.importorskip("xdist")
    inner.write(conftest=OWN)
    (inner.path / "things.own").write_text("")
    inner.run(*arguments).assert_outcomes(passed=2, failed=1)
    assert inner.outcomes() == {"first": "clean", "leaks": "leaked", "last": "clean"}
