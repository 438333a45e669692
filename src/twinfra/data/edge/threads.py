"""Work that is never left behind: who is cancelled waits until it lets go.

A descriptor or a block of memory that a thread works on must not be closed or filled under it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from twinfra.core.tasks import settled

T = TypeVar("T")


async def in_thread(pool: Executor, work: Callable[..., T], *arguments: Any) -> T:
    """Return what ``work(*arguments)`` returns in a thread of `pool`.

    Guarantees: however this ends, the thread does not work on the arguments any more.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await settled(future)
        raise
