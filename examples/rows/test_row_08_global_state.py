import socket

import pytest


def test_default_changed_for_everyone():
    socket.setdefaulttimeout(0.5)


def test_default_changed_for_everyone_mended():
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(2)
    try:
        assert socket.getdefaulttimeout() == 2
    finally:
        socket.setdefaulttimeout(before)


@pytest.fixture(scope="module", autouse=True)
def nothing_of_this_reaches_the_other_examples():
    yield
    socket.setdefaulttimeout(None)
