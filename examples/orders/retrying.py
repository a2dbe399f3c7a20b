"""Retries, and one requests session for each tenant."""

import time

import requests

_SESSIONS: dict[str, requests.Session] = {}  # grows with every tenant: a cache that nothing ever leaves


def session_for(tenant: str) -> requests.Session:
    if tenant not in _SESSIONS:
        _SESSIONS[tenant] = requests.Session()  # planted: clients x2
    return _SESSIONS[tenant]


def close_sessions() -> None:
    while _SESSIONS:
        _SESSIONS.popitem()[1].close()


def get_with_retries(session: requests.Session, url: str, *, tries: int = 3, pause: float = 0.01) -> str | None:
    """The body of the first answer that is no error, or None. Each answer is given back before the next try."""
    for _ in range(tries):
        with session.get(url, stream=True, timeout=5) as response:
            if response.ok:
                return response.text
        time.sleep(pause)
    return None
