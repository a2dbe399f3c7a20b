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


async def first_of(one, other):
    tasks = asyncio.create_task(one), asyncio.create_task(other)
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return done.pop().result()


@pytest.mark.asyncio
async def test_cancelled_at_each_await(httpleak):
    await httpleak.sweep(lambda: first_of(asyncio.sleep(0), slow()))


async def first_of_closing(one, other):
    tasks = asyncio.create_task(one), asyncio.create_task(other)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()


@pytest.mark.asyncio
async def test_cancelled_at_each_await_mended(httpleak):
    print(await httpleak.sweep(lambda: first_of_closing(asyncio.sleep(0), slow())))
