import asyncio

import pytest


async def slow():
    await asyncio.sleep(3600)


@pytest.mark.asyncio
async def test_timeout_leaves_the_task():
    done, _ = await asyncio.wait([asyncio.create_task(slow())], timeout=0.01)  # gives up, and cancels nothing
    assert not done


@pytest.mark.asyncio
async def test_timeout_leaves_the_task_mended():
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow(), timeout=0.01)
