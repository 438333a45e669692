"""Makes pods at a rate on a virtual node of a real control plane, and gathers what was seen."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.compute.load.poller import Poller
from benchmarks.compute.load.site import SITE
from benchmarks.compute.load.watcher import READY
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Thing
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.core.home import Home
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.kubernetes import ControlPlane, control_plane
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

ROOT = Path(__file__).parents[3]
NODE = "bench"
START_WITHIN_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")
CREATES_AT_ONCE = 64
MIB = 1024**2


@dataclass(frozen=True)
class Load:
    """What is asked for: so many pods, so many a second (None: as fast as they are taken)."""

    pods: int
    rate_per_s: float | None
    queue_s: float = 0.3
    run_s: float = 60.0
    within_s: float = 900.0
    peer: bool = True
    quiet_s: float = 0.0
    """Measure the kubelet for so long while all pods run and nothing changes."""


@dataclass
class Measured:
    """What was seen; moments are seconds since 1970, by pod UID (and phase)."""

    created: dict[str, float] = field(default_factory=dict)
    truth: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    watched: dict[tuple[str, str], float] = field(default_factory=dict)
    polled: dict[tuple[str, str], float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def late(self, seen: dict[tuple[str, str], float], phase: str, until: float) -> list[float]:
        """Return how late each pod's phase was seen, in seconds.

        One that was missed counts to the first sight of what followed, else to `until`: too kind
        to whoever had not seen it when the run ended.
        """
        at = 1 if phase == "Running" else 2
        over = (seen.get((uid, "Succeeded"), until) for uid in self.truth)
        return [
            max(0.0, seen.get((uid, phase), ended) - moments[at])
            for (uid, moments), ended in zip(self.truth.items(), over, strict=True)
        ]


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile, such as 0.99; of nothing: not a number."""
    if not values:
        return float("nan")
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def measure(load: Load) -> Measured:
    """Run one load on a control plane, a site and a kubelet of its own."""
    with tempfile.TemporaryDirectory(prefix="twinfra-bench-") as name:
        folder = Path(name)
        (folder / "cluster").mkdir()
        home = Home(folder / "home")
        home.root.mkdir()
        context = Context(home)
        issuer = TestIssuer(tls=context.tls_server(), port=home.port("issuer"))
        with control_plane(folder / "cluster") as cluster, issuer:
            return asyncio.run(_Bench(load, folder, context, cluster, issuer).run())


class _Bench:
    def __init__(
        self, load: Load, folder: Path, context: Context, cluster: ControlPlane, issuer: TestIssuer
    ) -> None:
        self._load, self._folder, self._context = load, folder, context
        self._cluster, self._issuer = cluster, issuer
        self._truth, self._seen = folder / "truth", folder / "seen"
        self._found = Measured()

    async def run(self) -> Measured:
        url = self._context.url(f"interlink@{SITE}")
        namespace = self._cluster.namespace()
        async with contextlib.AsyncExitStack() as stack:
            site = stack.enter_context(self._process("site", *self._site_argv()))
            ports = [self._context.home.port(f"{name}@{SITE}") for name in ("plugin", "interlink")]
            await self._until(lambda: all(map(listening, ports)), "the site")
            watching = ("-m", "benchmarks.compute.load.watcher", str(self._cluster.kubeconfig))
            stack.enter_context(self._process("watcher", *watching, namespace, str(self._seen)))
            kubelet = stack.enter_context(self._process("kubelet", *self._kubelet_argv(url)))
            await self._until(lambda: self._node_ready() and self._seen_ready(), "the node")
            client = KubeClient.from_kubeconfig(self._cluster.kubeconfig)
            stack.push_async_callback(client.close)
            poller = await stack.enter_async_context(self._polling(url))
            before = (_cpu_s(kubelet.pid), _cpu_s(site.pid), self._requests())
            began = time.time()
            await self._create(client, namespace, poller)
            made_s = time.time() - began
            if self._load.quiet_s:
                await self._quiet(kubelet.pid)
            await self._until(self._all_over, "the end of all pods", self._load.within_s)
            took_s = time.time() - began
            self._read()
            self._figures(kubelet.pid, site.pid, before, made_s, took_s)
            self._found.polled = dict(poller.seen)
            self._found.figures["peer_calls"] = poller.calls
        return self._found

    def _site_argv(self) -> tuple[str, ...]:
        where = (str(self._context.home.root), str(self._truth))
        script = (str(self._load.queue_s), str(self._load.run_s))
        return ("-m", "benchmarks.compute.load.site", *where, *script)

    def _kubelet_argv(self, url: str) -> tuple[str, ...]:
        home = str(self._context.home.root)
        return (
            "-m", "twinfra.cli.main", "kubelet", "run", "--home", home,
            "--kubeconfig", str(self._cluster.kubeconfig), "--node", f"{NODE}={url}",
        )  # fmt: skip

    @contextlib.contextmanager
    def _process(self, name: str, *argv: str) -> Iterator["subprocess.Popen[bytes]"]:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *argv], cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield process
            except BaseException:
                print((self._folder / f"{name}.log").read_text()[-2000:], file=sys.stderr)
                raise
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    @contextlib.asynccontextmanager
    async def _polling(self, url: str) -> AsyncIterator[Poller]:
        async def token() -> str:
            return str(self._issuer.service_token("deployments", aud=url))

        http = HttpClient(url, tls=self._context.tls_client(), token=token)
        poller = Poller(InterlinkClient(http))
        task = asyncio.create_task(poller.run()) if self._load.peer else None
        try:
            yield poller
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await http.close()

    async def _create(self, client: KubeClient, namespace: str, poller: Poller) -> None:
        room = asyncio.Semaphore(CREATES_AT_ONCE)
        began = time.monotonic()

        async def create(number: int) -> None:
            async with room:
                asked = time.time()
                made = await client.create(PODS, _pod(number), namespace, kind=Thing)
            uid = made.metadata.uid
            self._found.created[uid] = asked
            meta = {"uid": uid, "name": made.metadata.name, "namespace": namespace}
            poller.pods[uid] = {"metadata": meta, "status": {"phase": "Pending"}}

        async with asyncio.TaskGroup() as group:
            for number in range(self._load.pods):
                if self._load.rate_per_s:
                    due = began + number / self._load.rate_per_s
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(create(number))

    async def _quiet(self, kubelet: int) -> None:
        """Wait until all pods run, then measure the kubelet while nothing changes."""
        await self._until(lambda: self._count("Running") == self._load.pods, "all pods running")
        before = _cpu_s(kubelet)
        await asyncio.sleep(self._load.quiet_s)
        cores = (_cpu_s(kubelet) - before) / self._load.quiet_s
        self._found.figures["kubelet_quiet_cores"] = round(cores, 4)

    def _read(self) -> None:
        for line in self._truth.read_text().splitlines():
            uid, *moments = line.split()
            self._found.truth[uid] = (float(moments[0]), float(moments[1]), float(moments[2]))
        for line in self._seen.read_text().splitlines():
            uid, phase, at = line.split()
            self._found.watched[uid, phase] = float(at)

    def _figures(
        self,
        kubelet: int,
        site: int,
        before: tuple[float, float, dict[str, float]],
        made_s: float,
        took_s: float,
    ) -> None:
        found, pods = self._found, self._load.pods
        after = self._requests()
        grown = {key: value - before[2].get(key, 0.0) for key, value in after.items()}
        arrived = [found.truth[uid][0] - at for uid, at in found.created.items()]
        found.figures |= {
            "pods": pods,
            "rate_per_s": self._load.rate_per_s,
            "created_per_s": round(pods / made_s, 1),
            "all_over_after_s": round(took_s, 1),
            "pods_per_s": round(pods / took_s, 2),
            "create_to_plugin_p50_s": round(percentile(arrived, 0.5), 4),
            "create_to_plugin_p99_s": round(percentile(arrived, 0.99), 4),
            "running_seen": sum(phase == "Running" for _, phase in found.watched),
            "status_patches_per_pod": round(grown.get("PATCH pods/status", 0) / pods, 2),
            "api_requests_per_pod": round(sum(grown.values()) / pods - 1, 2),
            "kubelet_cpu_s": round(_cpu_s(kubelet) - before[0], 2),
            "kubelet_rss_peak_mib": round(_peak_bytes(kubelet) / MIB, 1),
            "both_hops_cpu_s": round(_cpu_s(site) - before[1], 2),
            "both_hops_rss_peak_mib": round(_peak_bytes(site) / MIB, 1),
            "cpus": os.cpu_count(),
        }
        for phase in ("Running", "Succeeded"):
            late = found.late(found.watched, phase, time.time())
            for share, word in ((0.5, "p50"), (0.99, "p99")):
                key = f"{phase.lower()}_staleness_{word}_s"
                found.figures[key] = round(percentile(late, share), 4)

    def _requests(self) -> dict[str, float]:
        """Return how many requests about pods and events the API server has answered, by kind."""
        found: dict[str, float] = {}
        for line in self._cluster.kubectl("get", "--raw", "/metrics").stdout.splitlines():
            if not line.startswith("apiserver_request_total{"):
                continue
            labels, _, value = line.rpartition("} ")
            words = dict(part.split("=", 1) for part in labels.split("{", 1)[1].split('",'))
            said = {key: word.strip('"') for key, word in words.items()}
            if said.get("resource") not in {"pods", "events", "serviceaccounts"}:
                continue
            sub = f"/{said['subresource']}" if said.get("subresource") else ""
            key = f"{said['verb']} {said['resource']}{sub}"
            found[key] = found.get(key, 0.0) + float(value)
        return found

    def _node_ready(self) -> bool:
        done = self._cluster.kubectl("get", "node", NODE, "-o", "json", check=False)
        if done.returncode:
            return False
        conditions = json.loads(done.stdout).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _seen_ready(self) -> bool:
        return self._seen.exists() and f"- {READY} " in self._seen.read_text()

    def _count(self, *phases: str) -> int:
        lines = self._seen.read_text().splitlines() if self._seen.exists() else []
        return sum(line.split()[1] in phases for line in lines if line.count(" ") == 2)

    def _all_over(self) -> bool:
        return self._count("Succeeded", "Failed") >= self._load.pods

    async def _until(
        self, test: Callable[[], bool], what: str, within_s: float = START_WITHIN_S
    ) -> None:
        async def reached() -> bool:
            await asyncio.sleep(0.5)
            return await asyncio.to_thread(test)

        await wait_for(reached, timeout_s=within_s, what=what)


def _pod(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"load-{number}"},
        "spec": {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "main",
                    "image": "python:3.12",
                    "command": ["true"],
                    "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}},
                }
            ],
        },
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
