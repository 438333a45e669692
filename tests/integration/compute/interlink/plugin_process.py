"""A plug-in and its API server as a process of their own, or one of them, for tests that kill it.

Run with the home folder, then the names of the services (default: both); the issuer and all else
are the test's.
"""

import asyncio
import sys
from pathlib import Path

from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.compute.sites.backends import build_site
from twinfra.compute.sites.runtime import choose_ground
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.core.home import Home
from twinfra.core.service import Context, Stop, run_services

SITE = "hpc-b"


async def main(root: Path, *names: str) -> None:
    """Serve until killed."""
    ctx = Context(Home(root))
    stop = Stop()
    stop.on_signals()
    compute = ctx.settings(ComputeSettings, SITE)
    ground, isolation = choose_ground(compute, ctx.home.site(SITE).jobs)
    images = ImageStore(compute.images, ctx.home.site(SITE).images)
    foundation = SiteFoundation(build_site(ctx, SITE), ground, images, isolation)
    makers = {
        "plugin": lambda: build_plugin(ctx, SITE, foundation),
        "interlink": lambda: build_api(ctx, SITE),
    }
    await run_services(ctx, [makers[name]() for name in names or makers], stop=stop)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
