"""The site as a process of its own: both interLink hops over `mock`, which writes down the truth.

``python -m benchmarks.compute.load.site HOME TRUTH QUEUE_S RUN_S``: a line of TRUTH is a pod's UID
and the moments of its arrival, start and end, in seconds since 1970.
"""

import asyncio
import sys
from pathlib import Path
from typing import TextIO

from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.containers.model import ContainerSpec
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.compute.sites.mock import MockSettings, MockSite
from twinfra.compute.sites.model import JobSpec
from twinfra.core.home import Home
from twinfra.core.service import Context, Stop, run_services

SITE = "mock"


class PlainRuntime:
    """Plans containers; the site starts none."""

    name = "plain"

    def launch(self, spec: ContainerSpec) -> Launch:
        """Return the command as it is."""
        return Launch((), spec.command, env=dict(spec.env), inner_env=dict(spec.env))


class AnyImage:
    """Has every image: an empty one."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def resolve(self, _reference: str) -> str:
        """Return the one digest."""
        return "sha256:" + "0" * 64

    def ensure(
        self, reference: str, _credentials: object = None, *, policy: str = ""
    ) -> UnpackedImage:
        """Return the image; `policy` changes nothing."""
        del policy
        config = ImageConfig(cmd=("/bin/true",))
        return UnpackedImage(reference, self.resolve(reference), self._root, config)


class TruthfulSite(MockSite):
    """The back end `mock`, writing down when each pod came, and when it starts and ends."""

    def __init__(self, settings: MockSettings, truth: TextIO) -> None:
        super().__init__(settings)
        self._truth = truth

    async def submit(self, spec: JobSpec) -> str:
        """Submit, and note the job's script."""
        native_id = await super().submit(spec)
        job = self._jobs[native_id]
        moments = (job.submitted_at, job.starts_at, job.ends_at)
        stamps = " ".join(str(moment.timestamp()) for moment in moments)
        self._truth.write(f"{spec.plan.uid} {stamps}\n")
        return native_id


async def main(home: Path, truth: Path, queue_s: float, run_s: float) -> None:
    """Serve until told to stop."""
    ctx = Context(Home(home))
    stop = Stop()
    stop.on_signals()
    with truth.open("w", buffering=1) as file:
        site = TruthfulSite(MockSettings(queue_s=queue_s, run_s=run_s), file)
        ground = Ground(PlainRuntime(), isolated=True, network="none")
        foundation = SiteFoundation(site, ground, AnyImage(home / "rootfs"))
        services = [build_plugin(ctx, SITE, foundation), build_api(ctx, SITE)]
        await run_services(ctx, services, stop=stop)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
