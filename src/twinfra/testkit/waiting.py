"""Waiting for a state with a bound, instead of a sleep that hopes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
PAUSE_S = 0.02


@overload
async def wait_for(
    predicate: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0, what: str = ""
) -> T: ...
@overload
async def wait_for(predicate: Callable[[], T], *, timeout_s: float = 10.0, what: str = "") -> T: ...
async def wait_for(predicate: Callable[[], Any], *, timeout_s: float = 10.0, what: str = "") -> Any:
    """Return the predicate's first true answer.

    Raises:
        AssertionError: it was not true within `timeout_s`; says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            name = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"{name}: not so within {timeout_s} s, last answer {value!r}")
        await asyncio.sleep(PAUSE_S)


def wait_for_sync(predicate: Callable[[], T], *, timeout_s: float = 10.0, what: str = "") -> T:
    """Do as `wait_for` where there is no event loop."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            name = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"{name}: not so within {timeout_s} s, last answer {value!r}")
        time.sleep(PAUSE_S)
    return value
