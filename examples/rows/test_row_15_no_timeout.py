import requests


def test_no_timeout(server):
    assert requests.get(f"{server}/orders/1").ok  # noqa: S113  # the mistake itself


def test_no_timeout_mended(server):
    assert requests.get(f"{server}/orders/1", timeout=(3, 10)).ok
