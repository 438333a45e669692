"""Ending tasks that do not listen at once."""

import asyncio

from twinfra.core import tasks


async def test_a_task_that_swallowed_its_cancellation_is_told_again(monkeypatch):
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    told = 0

    async def deaf_once():
        nonlocal told
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told += 1
                if told == 2:
                    raise

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    await tasks.end([task])
    assert task.cancelled()
    assert told == 2


async def test_what_a_task_raises_stays_with_it():
    async def fails():
        raise ValueError("its own")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await tasks.end([task])
    assert isinstance(task.exception(), ValueError)
