import asyncio

import aiohttp
import pytest


async def fetch_all(server, limit):
    gate = asyncio.Semaphore(limit)

    async def fetch(session, number):
        async with gate, session.get(f"{server}/orders/{number}") as response:
            return await response.read()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(fetch(session, number) for number in range(12)))


@pytest.mark.asyncio
@pytest.mark.httpleak(peak_connections=4)
async def test_all_at_once(server):
    await fetch_all(server, limit=12)


@pytest.mark.asyncio
@pytest.mark.httpleak(peak_connections=4)
async def test_all_at_once_mended(server):
    await fetch_all(server, limit=4)
