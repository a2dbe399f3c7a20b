"""Suites that freeze their heap: what refers to a resource is found all the same."""

from __future__ import annotations

import gc
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inner import Inner
from marked import Leaks

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.probes import references, taskframes

CONFTEST = """
import gc


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
"""

APPLICATION = """
import requests


class Api:
    def __init__(self):
        self.session = None

    def get(self, url):
        if self.session is None:
            self.session = requests.Session()
        return self.session.get(url)


api = Api()
"""

SUITE = """
import requests

import application

URL = "{server}/ok"


def test_makes_the_applications_client():
    assert application.api.get(URL).ok


def test_uses_it_once_more():
    assert application.api.get(URL).ok


def test_leaks_a_client_of_its_own():
    session = requests.Session()
    assert session.get(URL).ok
    KEPT.append(session)


KEPT = []
"""


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module whose dict is in the frozen part of the heap during the test."""
    module = types.ModuleType("somewhere")
    gc.freeze()
    yield module
    gc.unfreeze()


@pytest.mark.usefixtures("whole_heap")
def test_a_client_of_the_process_is_known_as_such_in_a_frozen_heap(inner: Inner, server: str) -> None:
    inner.write(conftest=CONFTEST, application=APPLICATION, test_a=SUITE.format(server=server))
    inner.judge(
        test_makes_the_applications_client="clean",
        test_uses_it_once_more="clean",
        test_leaks_a_client_of_its_own="leaked",
    )
    (finding,) = (finding for row in inner.report["tests"] for finding in row["findings"])
    assert finding["held_by"] == "module attribute test_a.KEPT[0]"


def test_a_frozen_module_holds_what_it_has_got_since(module: Any) -> None:
    module.thing = ["held"]
    assert references.process_wide(module.thing) is not None
    assert references.held_by(module.thing) == "module attribute somewhere.thing"


def test_what_a_frozen_module_keeps_is_kept_elsewhere(module: Any) -> None:
    module.thing = ["kept"]
    assert taskframes.is_kept_elsewhere(module.thing, [], lambda part: False)


@pytest.fixture
def worker(module: Any) -> Iterator[Callable[[bool], None]]:
    """Starts a thread that opens a file, freezes the heap and waits: the file is in its frame alone, or a module's."""
    started, stop = threading.Event(), threading.Event()
    threads = []

    def work(elsewhere: bool) -> None:
        with Path(__file__).open() as file:
            module.file = file if elsewhere else None
            gc.freeze()
            started.set()
            stop.wait()

    def start(elsewhere: bool) -> None:
        threads.append(threading.Thread(target=work, args=(elsewhere,)))
        threads[0].start()
        assert started.wait(30)

    yield start
    stop.set()
    threads[0].join()


@pytest.mark.usefixtures("whole_heap")
def test_a_frozen_file_of_a_threads_own_is_a_part_of_it(leaks: Leaks, worker: Callable[[bool], None]) -> None:
    assert [finding.kind for finding in leaks(lambda: worker(False))] == [Kind.THREADS]


@pytest.mark.usefixtures("whole_heap")
def test_a_frozen_file_of_a_module_is_a_leak_beside_the_thread(leaks: Leaks, worker: Callable[[bool], None]) -> None:
    assert {finding.kind for finding in leaks(lambda: worker(True))} == {Kind.THREADS, Kind.FDS}
