"""Work that goes on beside the caller: an asyncio task and a thread. Whoever starts one stops it."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable


class Refresher:
    """Calls `refresh` every `interval` seconds, in a task."""

    def __init__(self, refresh: Callable[[], Awaitable[object]], interval: float = 60) -> None:
        self.refresh = refresh
        self.interval = interval

    def start(self) -> None:
        self.task = asyncio.create_task(self._run(), name="orders-refresher")  # planted: tasks

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(self.interval)


class Poller:
    """Calls `poll` every `interval` seconds, in a thread."""

    def __init__(self, poll: Callable[[], object], interval: float = 60) -> None:
        self.poll = poll
        self.interval = interval
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="orders-poller", daemon=True)

    def start(self) -> None:
        self.thread.start()  # planted: threads

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.stopping.wait(self.interval):
            self.poll()
