"""Calls for asyncio, over one aiohttp session."""

import asyncio

import aiohttp


class AsyncOrders:
    """Reads orders over one aiohttp session, which lives as long as this object."""

    def __init__(self, url: str) -> None:
        self.http = aiohttp.ClientSession(url)

    async def state(self, number: int) -> str:
        async with self.http.get(f"/orders/{number}") as response:
            return str((await response.json(content_type=None))["state"])

    async def export(self) -> aiohttp.ClientResponse:
        """All orders as CSV, not yet read. Close it."""
        return await self.http.get("/export")  # planted: responses

    async def close(self) -> None:
        await self.http.close()


async def wait_until(orders: AsyncOrders, number: int, state: str, interval: float = 60) -> None:
    """Ask every `interval` seconds until the order is in `state`."""
    while await orders.state(number) != state:
        await asyncio.sleep(interval)
