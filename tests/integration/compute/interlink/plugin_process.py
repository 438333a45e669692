"""A plug-in and its API server as a process of their own, or one of them, for tests that kill it.

Run with the home folder, then the names of the services (default: both); the issuer and all else
are the test's.
"""

import asyncio
import sys
from pathlib import Path

from twinfra.compute.sites.wiring import build
from twinfra.core.home import Home
from twinfra.core.service import Context, Stop, run_services

SITE = "hpc-b"
BOTH = ("plugin", "interlink")


async def main(root: Path, *names: str) -> None:
    """Serve until killed."""
    ctx = Context(Home(root))
    stop = Stop()
    stop.on_signals()
    wanted = {f"{name}@{SITE}" for name in names or BOTH}
    services = [service for service in build(ctx, SITE) if service.name in wanted]
    await run_services(ctx, services, stop=stop)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
