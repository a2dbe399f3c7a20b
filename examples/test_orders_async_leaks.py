"""Four ways to leak in asyncio code, each followed by its mended twin. See test_orders_leaks.py."""

import asyncio
import contextlib

import aiohttp
import pytest

from orders import Refresher, wait_until

DEBUG_LOG: list[object] = []  # "we may want to look at it later": keeps alive what should be gone


# In Go: resp, err := client.Do(req) and no resp.Body.Close(): the connection never returns to its pool.
@pytest.mark.asyncio(loop_scope="session")
async def test_export_never_released(async_orders):
    export = await async_orders.export()  # the leak is born within export(), at the line marked there
    assert export.status == 200


@pytest.mark.asyncio(loop_scope="session")
async def test_export_never_released_mended(async_orders):
    async with await async_orders.export() as export:
        assert export.status == 200


# In Go: an http.Transport that outlives its http.Client: its idle connections belong to nobody any more.
@pytest.mark.asyncio
async def test_connector_outlives_its_session(server):
    connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())  # planted: clients
    DEBUG_LOG.append(connector)
    async with (
        aiohttp.ClientSession(connector=connector, connector_owner=False) as session,
        session.get(f"{server.url}/orders/1") as response,
    ):
        assert await response.text()


@pytest.mark.asyncio
async def test_connector_outlives_its_session_mended(server):
    async with (
        aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver()) as connector,
        aiohttp.ClientSession(connector=connector, connector_owner=False) as session,
        session.get(f"{server.url}/orders/1") as response,
    ):
        assert await response.text()


# In Go: go refresh(context.Background()): nobody holds the handle that would stop it.
@pytest.mark.asyncio
async def test_refresher_never_stopped():
    refresher = Refresher(lambda: asyncio.sleep(0))
    refresher.start()  # the leak is born within start(), at the line marked there
    await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_refresher_never_stopped_mended():
    refresher = Refresher(lambda: asyncio.sleep(0))
    refresher.start()
    await asyncio.sleep(0)
    await refresher.stop()


# In Go: select { case <-done: case <-time.After(...): } and the goroutine that would send on done waits for ever.
@pytest.mark.asyncio(loop_scope="session")
async def test_timeout_leaves_its_task(async_orders):
    task = asyncio.create_task(wait_until(async_orders, 1, "delivered"))  # planted: tasks
    _, pending = await asyncio.wait({task}, timeout=0.1)
    assert pending  # asyncio.wait gives up waiting, and cancels nothing


@pytest.mark.asyncio(loop_scope="session")
async def test_timeout_leaves_its_task_mended(async_orders):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await wait_until(async_orders, 1, "delivered")
