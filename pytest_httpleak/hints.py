"""One line for each kind and library that says how to mend the leak, where the adapter has not said it better."""

from __future__ import annotations

from typing import Final

from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State

_CLOSE_RESPONSE: Final = {
    "http.client": "read the body to its end, or use `with` on the response so that it is closed",
    "urllib3": "read it (`.read()`, `.data`), or give the connection back in a `finally`: `response.release_conn()`",
    "requests": "use `with session.get(..., stream=True) as response:`, or read `response.content`",
    "aiohttp": "use `async with session.get(...) as response:`, or read the body, or call `response.release()`",
}
_CLOSE_CLIENT: Final = {
    "urllib3": "use `with urllib3.PoolManager() as pool:` (or call `.clear()`; a bare pool has `.close()`)",
    "requests": "use `with requests.Session() as session:`, or close it in the fixture's teardown",
    "aiohttp": "use `async with aiohttp.ClientSession() as session:`, or `await session.close()`",
}
_BY_KIND: Final = {
    Kind.RESPONSES: "read the body to its end, or close the response",
    Kind.CLIENTS: "close the client, best with a `with` block",
    Kind.CONNECTIONS: "close the connection in a `finally`, or use `contextlib.closing(connection)`",
    Kind.SOCKETS: "close the socket, best with a `with` block",
    Kind.FDS: "close it, best with a `with` block",
    Kind.TASKS: "await the task, or cancel it and await it; `asyncio.TaskGroup` does both",
    Kind.THREADS: "tell the thread to stop and `join()` it before the test ends",
    Kind.LOOPS: "call `loop.close()`, or let `asyncio.run()` or `asyncio.Runner` own the loop",
}


def hint(suspect: Suspect) -> str:
    """How to mend this leak, in one line."""
    if suspect.state is State.PEAK:
        return "limit what runs at once (a semaphore, a pool limit), or raise the limit in the marker"
    if suspect.kind is Kind.RESPONSES:
        return _CLOSE_RESPONSE.get(suspect.library, _BY_KIND[Kind.RESPONSES])
    if suspect.kind is Kind.CLIENTS:
        return _CLOSE_CLIENT.get(suspect.library, _BY_KIND[Kind.CLIENTS])
    return _BY_KIND[suspect.kind]
