"""A virtual kubelet as a process, and pods as people see them with kubectl."""

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import dataclass

from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
WITHIN_S = 60.0
TOLERATION = {"key": "virtual-node.interlink/no-schedule", "operator": "Exists"}


class Kubelet:
    """A virtual kubelet as a process of its own, which a test may kill."""

    def __init__(self, context, cluster, node, *more):
        self.context, self.cluster, self.node, self.more = context, cluster, node, more
        self.process = None

    @property
    def log(self):
        return self.context.home.logs / f"{self.node}.log"

    def start(self, *more):
        command = [
            sys.executable, "-m", "twinfra.cli.main", "kubelet", "run",
            "--kubeconfig", str(self.cluster.kubeconfig), "--home", str(self.context.home.root),
            "--node", f"{self.node}={self.context.url(f'interlink@{SITE}')}", *self.more, *more,
        ]  # fmt: skip
        self.context.home.logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def kill(self):
        self.process.kill()
        self.process.wait()

    async def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self.process.wait, 30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


@dataclass
class Pods:
    """The pods of a test: made, asked for and waited for with kubectl."""

    cluster: object
    namespace: str
    node: str

    def manifest(self, name="train-0", *, bound=True, container=None, **spec):
        main = {"name": "main", "image": "python:3.12", "command": ["true"], **(container or {})}
        body = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "tolerations": [TOLERATION],
            "containers": [main],
            **({"nodeName": self.node} if bound else {}),
            **spec,
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}

    def template(self, *, annotations=None, **spec):
        """Return what a controller makes pods of, which the scheduler binds to the node."""
        body = self.manifest(bound=False, **spec)["spec"]
        body["nodeSelector"] = {"kubernetes.io/hostname": self.node}
        return {
            "metadata": {"labels": {"app": "x"}, "annotations": annotations or {}},
            "spec": body,
        }

    async def create(self, name="train-0", **spec):
        await self.apply(self.manifest(name, **spec))
        return (await self.get(name))["metadata"]["uid"]

    async def apply(self, *objects):
        await asyncio.to_thread(self.cluster.apply, *objects, namespace=self.namespace)

    async def kubectl(self, *args, **more):
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *args, **more)

    async def json(self, *args):
        return json.loads((await self.kubectl(*args, "-o", "json")).stdout)

    async def cluster_json(self, *args):
        return await asyncio.to_thread(self.cluster.kubectl_json, *args)

    async def get(self, name="train-0"):
        done = await self.kubectl("get", "pod", name, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    async def until(self, name, test, what=""):
        last = {}

        async def reached():
            last["pod"] = pod = await self.get(name)
            return (pod or True) if test(pod) else None

        try:
            return await wait_for(reached, timeout_s=WITHIN_S, what=what or f"pod {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(last['pod'])[:3000]}") from error

    async def until_phase(self, name, *phases):
        return await self.until(
            name, lambda pod: pod and pod["status"]["phase"] in phases, f"{name} {phases}"
        )

    async def until_gone(self, name="train-0"):
        await self.until(name, lambda pod: pod is None, f"{name} gone")

    async def until_event(self, name, reason, text=""):
        async def told():
            found = await self.json("get", "events")
            return [
                entry["message"]
                for entry in found["items"]
                if entry["involvedObject"]["name"] == name
                and entry["reason"] == reason
                and text in entry["message"]
            ]

        return await wait_for(told, timeout_s=WITHIN_S, what=f"event {reason} of {name}")
