"""The ways of macOS and Windows, through fakes: no `/proc`, no `/dev/fd`, no limits to ask for, no fork to be told of."""

from __future__ import annotations

import os
import sys

import pytest
from inner import Inner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fakes of the other platforms, made of this one")

# Loaded before the plugin: its modules are imported as they would be there.
FAKE = """
import os, sys
import asyncio, random, selectors, socket, sqlite3, subprocess, threading

MISSING = {missing}
PLATFORM = "{platform}"

real = os.path.isdir
os.path.isdir = lambda path: str(path).rstrip("/") not in MISSING and real(path)
for name in {without}:
    delattr(os, name)
if "resource" in {modules}:
    sys.modules["resource"] = None
before, sys.platform = sys.platform, PLATFORM
import pytest_httpleak.probes.descriptors as descriptors
import pytest_httpleak.session.core
import pytest_httpleak.opennumbers
sys.platform = before
os.path.isdir = real

def refused(path, *args):
    raise FileNotFoundError(path)

for name in ("_listdir", "_readlink"):
    known = getattr(descriptors, name)
    def guarded(path, known=known):
        return refused(path) if str(path).startswith(tuple(MISSING)) else known(path)
    setattr(descriptors, name, guarded)
pytest_httpleak.opennumbers._listdir = refused

assert descriptors._HAS_LISTING is {listing}
assert not descriptors._HAS_COUNT
assert descriptors.count() is None
assert len(descriptors.listing()) >= 3
"""

PLATFORMS = {
    "macos": {
        "{missing}": repr(["/proc/self/fd", "/proc"]),
        "{platform}": "darwin",
        "{without}": repr(["eventfd", "pidfd_open", "memfd_create"]),
        "{modules}": "()",
        "{listing}": "True",
    },
    "windows": {
        "{missing}": repr(["/proc/self/fd", "/proc", "/dev/fd"]),
        "{platform}": "win32",
        "{without}": repr(["register_at_fork", "eventfd", "pidfd_open", "memfd_create", "forkpty", "openpty", "pipe2"]),
        "{modules}": "('resource',)",
        "{listing}": "False",
    },
}

SUITE = """
import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest

KEPT = []
STOP = threading.Event()


@pytest.fixture(scope="session")
def wide():
    with socket.socket() as sock, open(__file__) as file:
        yield


def test_leaks_a_socket(wide):
    KEPT.append(socket.socket())


def test_leaks_a_file(wide):
    KEPT.append(open(__file__))


def test_leaks_a_descriptor():
    KEPT.append(os.dup(1))


def test_leaks_a_thread():
    threading.Thread(target=STOP.wait, daemon=True).start()


def test_leaks_a_loop():
    KEPT.append(asyncio.new_event_loop())


def test_drops_what_leaks():
    socket.socket()


def test_is_clean(wide):
    one, other = socket.socketpair()
    one.close()
    other.close()
    with open(__file__):
        sqlite3.connect(":memory:").close()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    asyncio.run(asyncio.sleep(0))


def test_counts(httpleak):
    before = httpleak.snapshot()
    with socket.socket():
        assert (httpleak.snapshot() - before).fds == 1
    assert (httpleak.snapshot() - before).fds == 0


def test_is_clean_at_last():
    pass
"""


@pytest.mark.parametrize("platform", PLATFORMS)
def test_leaks_are_found_by_the_ways_of_another_platform(
    inner: Inner, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FAKE
    for name, value in PLATFORMS[platform].items():
        source = source.replace(name, value)
    inner.write(another_platform=source, test_a=SUITE)
    monkeypatch.setenv("PYTHONPATH", f"{inner.path}:{os.environ.get('PYTHONPATH', '')}")
    result = inner.run("-W", "ignore", plugin=("-p", "another_platform", "-p", "httpleak"))
    wrong = {
        name: outcome
        for name, outcome in inner.outcomes().items()
        if outcome != ("leaked" if "leak" in name else "clean")
    }
    assert wrong == {}, result.stdout.str()
    assert len(inner.outcomes()) == 9
    findings = [finding for row in inner.report["tests"] for finding in row["findings"]]
    assert [finding["count"] for finding in findings] == [1] * 6
    assert all(finding["created"] is not None for finding in findings)
    assert inner.report["fixtures"] == []
    result.stdout.no_fnmatch_line("*switched off*")
