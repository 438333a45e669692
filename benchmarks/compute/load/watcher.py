"""An independent watcher: notes when each phase of each pod came through the API server's watch.

``python -m benchmarks.compute.load.watcher KUBECONFIG NAMESPACE SEEN``: a line of SEEN is a pod's
UID, the phase and the moment when it was first seen, in seconds since 1970.
"""

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.kube.reflector import Reflector, Synced
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.core.time import SYSTEM_CLOCK

READY = "watching"


class Status(msgspec.Struct):
    """What is looked at of a pod's status."""

    phase: str = ""


class Pod(msgspec.Struct):
    """What is looked at of a pod."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    status: Status = msgspec.field(default_factory=Status)


async def main(kubeconfig: Path, namespace: str, seen: Path) -> None:
    """Watch until killed."""
    client = KubeClient.from_kubeconfig(kubeconfig)
    known: set[tuple[str, str]] = set()
    with seen.open("w", buffering=1) as file:
        async for event in Reflector(
            client, PODS, kind=Pod, clock=SYSTEM_CLOCK, namespace=namespace
        ).follow():
            if isinstance(event, Synced):
                file.write(f"- {READY} {time.time()}\n")
                continue
            key = (event.object.metadata.uid, event.object.status.phase)
            if key not in known:
                known.add(key)
                file.write(f"{key[0]} {key[1] or 'none'} {time.time()}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
