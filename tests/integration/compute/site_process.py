"""The services of a site in a process that a test may kill, and pods for it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from twinfra.access.tokens import TokenClient
from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
PROGRAM = Path(__file__).parent / "interlink" / "plugin_process.py"


class SiteProcess:
    """The process of a site's plug-in and API server."""

    command = (sys.executable, PROGRAM)

    def __init__(self, context, *names):
        self.context, self.names = context, names
        self.tokens = TokenClient.from_context(context, "deployments")
        self.process = None
        self.clients = []

    @property
    def jobs(self):
        return self.context.home.site(SITE).jobs

    async def start(self):
        log = self.context.home.logs / "site.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - a fork is quick, and is waited for
                [*self.command, self.context.home.root, *self.names],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        kinds = self.names or ("plugin", "interlink")
        ports = [self.context.home.port(f"{kind}@{SITE}") for kind in kinds]
        await wait_for(
            lambda: self.process.poll() is not None or all(listening(port) for port in ports),
            timeout_s=120, what="the site",
        )  # fmt: skip
        assert self.process.poll() is None, log.read_text()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    async def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, 60)

    def client(self, source=None):
        url = self.context.url(f"interlink@{SITE}")
        token = source or self.tokens.for_service(url)
        http = HttpClient(url, tls=self.context.tls_client(), token=token)
        self.clients.append(http)
        return InterlinkClient(http)

    async def over(self):
        """Kill the process and end all connections; the jobs stay."""
        self.kill()
        for client in self.clients:
            await client.close()
        await self.tokens.close()

    async def close(self):
        """End the process, its jobs and all connections."""
        await self.over()
        for folder in self.jobs.iterdir():
            if (folder / "attempts").exists():
                await KeeperHandle(folder).prove_gone()

    def keeper(self, uid):
        return KeeperHandle(self.jobs / uid)

    def kill_keeper(self, uid):
        os.kill(self.keeper(uid).identity().pid, signal.SIGKILL)

    async def until(self, pod, *phases, timeout_s=30.0, attempt=1):
        client, found = self.client(), []

        async def reached():
            found[:] = await client.status([pod])
            return [r for r in found if r.phase in phases and _attempt(r) >= attempt]

        try:
            return (await wait_for(reached, timeout_s=timeout_s, what=f"phase {phases}"))[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{found}\n{self.story()}") from None

    def story(self):
        """What the site's processes wrote last: its own log, and the states of its jobs."""
        states = [path.read_text() for path in self.jobs.glob("*/state.json")]
        return "\n".join([(self.context.home.logs / "site.log").read_text()[-5000:], *states])

    def output(self, uid, container="main", attempt=1):
        folder = self.jobs / uid / "attempts" / str(attempt) / "logs" / container
        return b"".join(path.read_bytes() for path in sorted(folder.glob("*.log")))


def _attempt(report):
    return report.containers[0].restarts + 1


def shell(script, *, uid=None, restart="Never", **more):
    """Return a pod of one busybox container."""
    container = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", script]}
    container |= {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}
    container |= more.pop("container", {})
    return {
        "metadata": {
            "name": "job-0",
            "namespace": "climate",
            "uid": uid or new_uuid(),
            "annotations": more.pop("annotations", {}),
        },
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **more,
        },
        "status": {"phase": "Pending"},
    }
