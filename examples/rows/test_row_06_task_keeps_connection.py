import asyncio

import pytest


@pytest.mark.asyncio
async def test_task_keeps_a_connection(address):
    async def listen():
        reader, writer = await asyncio.open_connection(*address)
        await reader.read()  # for ever: nobody has asked for anything
        writer.close()

    RUNNING.append(asyncio.create_task(listen()))
    await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_task_keeps_a_connection_mended(address):
    async def listen():
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())


RUNNING = []
