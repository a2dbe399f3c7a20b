import threading

import pytest
import requests


def test_retries_without_a_bound(server):
    with requests.Session() as session:
        for _ in range(25):  # `while True`, had the server not to come back for this example to end
            session.get(f"{server}/busy", timeout=5)


def test_retries_without_a_bound_mended(server):
    with requests.Session() as session:
        for _ in range(3):
            session.get(f"{server}/busy", timeout=5)


@pytest.mark.httpleak(peak_threads=2)
def test_thread_for_each_try():
    gate = threading.Event()
    tries = [threading.Thread(target=gate.wait) for _ in range(5)]
    for each in tries:
        each.start()
    gate.set()
    for each in tries:
        each.join()


@pytest.mark.httpleak(peak_threads=2)
def test_thread_for_each_try_mended():
    for _ in range(5):
        each = threading.Thread(target=threading.Event().is_set)
        each.start()
        each.join()
