"""Services of ours over real sockets inside a test: started, reachable, stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twinfra.core.service import Context, Service, Stop, run_services
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for


@asynccontextmanager
async def serving(context: Context, *services: Service) -> AsyncIterator[None]:
    """Run `services` until the block ends; their doors are open when it begins.

    Raises:
        BaseExceptionGroup: a service failed.
    """
    stop = Stop()
    running = asyncio.create_task(run_services(context, services, stop=stop))
    ports = [door.port for service in services for door in service.listeners if door.port]
    try:
        await wait_for(
            lambda: running.done() or all(map(listening, ports)),
            timeout_s=20,
            what="the services' doors",
        )
        if running.done():
            await running
        yield
    finally:
        stop.now.set()
        await running
