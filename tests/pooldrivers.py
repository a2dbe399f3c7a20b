"""One way to use the pools of every library: `new_driver("httpx", most=2)`, then `get`, `hold`, `begin`, `until`."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

LIBRARIES = ("urllib3", "requests", "httpx", "httpx2", "httpx async", "httpx2 async", "aiohttp")
_PATIENCE = 5  # seconds until a condition that does not come about is a failure


class Counter:
    """What the server has counted since this was made, over a connection that is there already."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self._before = self._ask()

    def _ask(self, path: str = "/count") -> Any:
        self._connection.request("GET", path)
        body = self._connection.getresponse().read()
        return json.loads(body) if path == "/count" else None

    def drop(self) -> None:
        """Let the server close the connections over which somebody has asked for `/dropped`."""
        self._ask("/drop")

    def counts(self) -> tuple[int, int]:
        """Connections and requests."""
        now = self._ask()
        return now["connections"] - self._before["connections"], now["requests"] - self._before["requests"]

    def close(self) -> None:
        self._connection.close()


class Driver:
    """A client with one pool, whose requests are made here, or in a thread where they do not end."""

    def __init__(self, library: Any, limits: dict[str, Any]) -> None:
        self.library = library
        self.limits = limits
        self.client: Any = self.made()
        self._held: list[Any] = []
        self._threads: list[threading.Thread] = []

    def made(self) -> Any:
        raise NotImplementedError

    def send(self, url: str, *, timeout: float | None = None) -> Any:
        """A response whose body has not been read."""
        raise NotImplementedError

    def finish(self, response: Any) -> None:
        """Read a response to its end."""
        raise NotImplementedError

    def get(self, url: str, **options: Any) -> None:
        """Send a request and read the answer."""
        self.finish(self.send(url, **options))

    def hold(self, url: str) -> None:
        """Send a request and leave the answer unread until `release()`."""
        self._held.append(self.send(url))

    def release(self) -> None:
        while self._held:
            self.finish(self._held.pop(0))

    def begin(self, url: str) -> None:
        """Send a request that is not answered yet."""

        def run() -> None:
            try:
                self.get(url)
            except Exception:  # noqa: BLE001  # it is broken off at the end of the test
                return

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)

    def until(self, condition: Callable[[], object]) -> None:
        """Let things happen until the condition is true."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it has not come about"
            self.step()

    def step(self) -> None:
        time.sleep(0)

    def close(self) -> None:
        self.client.close()

    def end(self) -> None:
        """Finish what was begun, and close."""
        self.release()
        for thread in self._threads:
            thread.join(_PATIENCE)
        self.close()


class Urllib3(Driver):
    def made(self) -> Any:
        most, keep = self.limits.get("most"), self.limits.get("keep")
        return self.library.PoolManager(maxsize=most or keep or 10, block=most is not None, retries=False)

    def send(self, url: str, *, timeout: float | None = None) -> Any:
        return self.client.request("GET", url, preload_content=False, timeout=self.library.Timeout(read=timeout))

    def finish(self, response: Any) -> None:
        response.read()

    def close(self) -> None:
        self.client.clear()


class Requests(Driver):
    def made(self) -> Any:
        most, keep = self.limits.get("most"), self.limits.get("keep")
        session = self.library.Session()
        adapter = self.library.adapters.HTTPAdapter(pool_maxsize=most or keep or 10, pool_block=most is not None)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def send(self, url: str, *, timeout: float | None = None) -> Any:
        return self.client.get(url, stream=True, timeout=(None, timeout))

    def finish(self, response: Any) -> None:
        assert response.content


class Httpx(Driver):
    def options(self) -> dict[str, Any]:
        limits = {"max_connections": self.limits.get("most"), "max_keepalive_connections": self.limits.get("keep")}
        return {"timeout": None, "limits": self.library.Limits(**limits)}

    def made(self) -> Any:
        return self.library.Client(**self.options())

    def send(self, url: str, *, timeout: float | None = None) -> Any:
        return self.client.send(
            self.client.build_request("GET", url, timeout=self.library.Timeout(None, read=timeout)), stream=True
        )

    def finish(self, response: Any) -> None:
        response.read()


class _Async(Driver):
    """The same within an event loop, which runs only while something is asked for."""

    def __init__(self, library: Any, limits: dict[str, Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self._tasks: list[Any] = []
        super().__init__(library, limits)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def begin(self, url: str) -> None:
        self._tasks.append(self.loop.create_task(self.asend(url)))

    def step(self) -> None:
        self.run(asyncio.sleep(0))

    async def asend(self, url: str, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def send(self, url: str, *, timeout: float | None = None) -> Any:
        return self.run(self.asend(url, timeout))

    def end(self) -> None:
        self.release()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self.run(asyncio.wait(self._tasks))
        self.close()
        self.run(asyncio.sleep(0))
        self.loop.close()


class AsyncHttpx(_Async, Httpx):
    def made(self) -> Any:
        return self.library.AsyncClient(**self.options())

    async def asend(self, url: str, timeout: float | None = None) -> Any:
        return await self.client.send(
            self.client.build_request("GET", url, timeout=self.library.Timeout(None, read=timeout)), stream=True
        )

    def finish(self, response: Any) -> None:
        self.run(response.aread())

    def close(self) -> None:
        self.run(self.client.aclose())


class Aiohttp(_Async):
    def made(self) -> Any:
        async def made() -> Any:
            limits = {"limit": self.limits.get("most") or 0, "limit_per_host": self.limits.get("per_host") or 0}
            if "expiry" in self.limits:
                limits["keepalive_timeout"] = self.limits["expiry"]
            return self.library.ClientSession(connector=self.library.TCPConnector(**limits))

        return self.run(made())

    async def asend(self, url: str, timeout: float | None = None) -> Any:
        return await self.client.get(url, timeout=self.library.ClientTimeout(total=None, sock_read=timeout))

    def finish(self, response: Any) -> None:
        self.run(response.read())

    def close(self) -> None:
        self.run(self.client.close())


_CLASSES: dict[str, type[Driver]] = {
    "urllib3": Urllib3,
    "requests": Requests,
    "httpx": Httpx,
    "httpx2": Httpx,
    "httpx async": AsyncHttpx,
    "httpx2 async": AsyncHttpx,
    "aiohttp": Aiohttp,
}


def new_driver(name: str, **limits: Any) -> Driver:
    """A client of that library: at most `most` connections, `per_host` for each host, `keep` of them while idle."""
    return _CLASSES[name](pytest.importorskip(name.partition(" ")[0]), limits)
