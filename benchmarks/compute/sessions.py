"""Into a running pod at a `local` site: how late a followed log line is, how long an exec takes.

It has no peer. ``python -m benchmarks.compute.sessions --lines 20 --execs 5`` is a quick look.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.compute.load.measure import percentile
from benchmarks.harness import Result, write
from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.interlink.client import InterlinkClient, LogRequest, PodCreateRequest, PodPhase
from twinfra.core.home import Home
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context
from twinfra.testkit.images import BUSYBOX, busybox_image
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

NAME = "compute/sessions"
TARGETS = {"log_line_late_p99_s": 0.3, "exec_round_trip_s": 0.15}
SITE = "bench"
SPEAKS = "while :; do read up rest < /proc/uptime; echo $up; sleep 0.1; done"


def run(lines: int = 300, execs: int = 100) -> Result:
    """Measure both, one after the other."""
    with tempfile.TemporaryDirectory(prefix="twinfra-bench-") as name:
        folder = Path(name)
        home = Home(folder / "home")
        home.root.mkdir()
        context = Context(home)
        (folder / "busybox").mkdir()
        busybox_image(folder / "layout", folder / "busybox")
        home.settings_file.write_text(f'[sites.{SITE}.compute]\nimages = ["{folder}/layout"]\n')
        with TestIssuer(tls=context.tls_server(), port=home.port("issuer")) as issuer:
            return asyncio.run(_measure(context, issuer, lines, execs))


async def _measure(context: Context, issuer: TestIssuer, lines: int, execs: int) -> Result:
    async with _site(context), _client(context, issuer) as client:
        pod = _pod()
        await client.create(PodCreateRequest(pod))

        async def running() -> bool:
            return [each.phase for each in await client.status([pod])] == [PodPhase.RUNNING]

        await wait_for(running, timeout_s=60, what="the pod")
        late = [each async for each in _late_s(client, pod, lines)]
        took = [await _exec_s(client, pod) for _ in range(execs)]
        await client.delete(pod)
    figures = {
        f"{name}_{word}_s": round(percentile(values, share), 4)
        for name, values in (("log_line_late", late), ("exec_round_trip", took))
        for word, share in (("p50", 0.5), ("p99", 0.99))
    }
    return Result([], {**figures, "lines": lines, "execs": execs, "targets": TARGETS}, runs=1)


async def _late_s(client: InterlinkClient, pod: dict[str, Any], count: int) -> AsyncIterator[float]:
    """Yield how late each line is seen [s]; its text is the machine's uptime to a hundredth."""
    meta = pod["metadata"]
    request = LogRequest(
        meta["namespace"], meta["uid"], meta["name"], "main", tail_lines=1, follow=True
    )
    rest = b""
    async for piece in client.follow_logs(request):
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield max(0.0, now - float(line))
            count -= 1
        if count <= 0:
            return


async def _exec_s(client: InterlinkClient, pod: dict[str, Any]) -> float:
    """Return how long a command takes from the request to its status [s]."""
    began = time.perf_counter()
    socket = await client.exec(pod["metadata"]["uid"], "main", ["true"])
    async for message in socket:
        if message.data[:1] == b"\x03":
            break
    took_s = time.perf_counter() - began
    await socket.close()
    return took_s


@asynccontextmanager
async def _site(context: Context) -> AsyncIterator[None]:
    """Run the site as a process of its own."""
    command = [sys.executable, "-m", "twinfra.cli.main", "site", "run", SITE]
    log = context.home.logs / "site.log"
    with log.open("wb") as output:
        process = await asyncio.to_thread(
            subprocess.Popen, [*command, "--home", str(context.home.root)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    ports = [context.home.port(f"{name}@{SITE}") for name in ("plugin", "interlink")]
    try:
        await wait_for(lambda: all(map(listening, ports)), timeout_s=60, what="the site")
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
        for folder in context.home.site(SITE).jobs.glob("*/attempts"):
            await KeeperHandle(folder.parent).prove_gone()


@asynccontextmanager
async def _client(context: Context, issuer: TestIssuer) -> AsyncIterator[InterlinkClient]:
    url = context.url(f"interlink@{SITE}")

    async def token() -> str:
        return str(issuer.service_token("deployments", aud=url))

    http = HttpClient(url, tls=context.tls_client(), token=token)
    try:
        yield InterlinkClient(http)
    finally:
        await http.close()


def _pod() -> dict[str, Any]:
    container = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", SPEAKS]}
    meta = {"name": "speaks", "namespace": "bench", "uid": new_uuid()}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}


def main() -> None:
    """Run with other counts than the full ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=300, help="log lines that are followed")
    parser.add_argument("--execs", type=int, default=100, help="commands, one after the other")
    parser.add_argument("--results", type=Path, default=None, help="folder of the result file")
    given = parser.parse_args()
    write(NAME, run(given.lines, given.execs), given.results)


if __name__ == "__main__":
    main()
