"""Ending tasks for sure, and waiting for them for sure.

Python before 3.12 can lose a cancellation that arrives in the same moment as the answer which
``asyncio.wait_for`` waits for, and libraries wait so; a loop told once may run on for ever.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 3.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until they are over; what they raise stays with them.

    Each has three seconds to put things in order before it is told again.

    Source: CPython issue 86296 (``wait_for`` swallowing cancellation, cured in 3.12).
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN_S)


async def settled(future: "asyncio.Future[Any]") -> None:
    """Wait until `future` is done, even while being cancelled; its outcome is dropped."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; who is cancelled meanwhile goes on waiting for it first."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await settled(task)
        raise
