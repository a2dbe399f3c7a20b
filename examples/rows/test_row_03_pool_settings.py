import requests
from requests.adapters import HTTPAdapter


def fetch_at_once(server, size):
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_maxsize=size))
        answers = [session.get(f"{server}/orders/{number}", stream=True, timeout=5) for number in range(3)]
        assert all(answer.json() for answer in answers)


def test_pool_far_too_small(server):
    fetch_at_once(server, size=1)


def test_pool_far_too_small_mended(server):
    fetch_at_once(server, size=3)
