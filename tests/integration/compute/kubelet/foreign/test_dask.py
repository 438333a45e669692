"""Dask, unmodified: workers in the pods of a Job at our sites, scheduler and client outside."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from twinfra.testkit.ports import LOOPBACK, free_port, listening
from twinfra.testkit.processes import running
from twinfra.testkit.strangers import python_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("kubernetes"),
    pytest.mark.real("dask"),
    pytest.mark.timeout(1200),
]
DASK = Path(__file__).parents[4] / "servers" / "dask"
PROGRAM = Path(__file__).parent / "programs" / "dask_client.py"
WITHIN_S = 240.0
WORKERS = 2


@pytest.fixture
def network():
    """The scheduler is on this machine's loopback, and so are the workers' doors."""
    return "host"


@pytest.fixture(scope="session")
def dask_bin():
    return python_environment(DASK)


@pytest.fixture
def scheduler(dask_bin, tmp_path):
    """A scheduler; gives its address."""
    port = free_port()
    words = ["--host", LOOPBACK, "--port", str(port), "--dashboard-address", f"{LOOPBACK}:0"]
    log = tmp_path / "scheduler.log"
    argv = [dask_bin / "dask", "scheduler", *words]
    with running(argv, log=log, ready=lambda: listening(port), timeout_s=90):
        yield f"tcp://{LOOPBACK}:{port}"


def worker_job(address):
    """Return a Job of workers: the pod that dask's operator makes of its example cluster.

    Source: Dask Kubernetes documentation, "Custom Resources": image, command and the two variables.
    """
    name = {"fieldRef": {"fieldPath": "metadata.name"}}
    container = {
        "name": "worker",
        "image": "ghcr.io/dask/dask:latest",
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1",
            "--host", LOOPBACK, "--dashboard-address", f"{LOOPBACK}:0", "--death-timeout", "60",
        ],
        "env": [
            {"name": "DASK_WORKER_NAME", "valueFrom": name},
            {"name": "DASK_SCHEDULER_ADDRESS", "value": address},
        ],
        "resources": {"limits": {"cpu": "1", "memory": "1G"}},
    }  # fmt: skip
    pod = {"restartPolicy": "Never", "containers": [container]}
    template = {"metadata": {"labels": {"app": "dask"}}, "spec": pod}
    spec = {"parallelism": WORKERS, "completions": WORKERS, "backoffLimit": 0, "template": template}
    metadata = {"name": "dask-workers"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


async def compute(dask_bin, address, folder):
    """Return what the client says."""
    process = await asyncio.create_subprocess_exec(
        dask_bin / "python", PROGRAM, address, str(WORKERS), cwd=folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={"PATH": os.defpath, "HOME": str(folder)},
    )  # fmt: skip
    try:
        out, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()[-5000:]
    return json.loads(out)


@pytest.mark.story("the site maps their image names to images built here")
@pytest.mark.story("A third party's manifest or chart needs nothing")
async def test_a_sum_is_computed_by_workers_in_the_pods_of_a_job(
    pods, node, dask_bin, scheduler, tmp_path
):
    await pods.apply(worker_job(scheduler))
    said = await compute(dask_bin, scheduler, tmp_path)
    made = (await pods.json("get", "pods", "-l", "app=dask"))["items"]
    names = sorted(pod["metadata"]["name"] for pod in made)
    assert said == {"total": -285, "names": names, "hosts": names}
    assert {pod["spec"]["nodeName"] for pod in made} == {node}
    await pods.kubectl("wait", "--for=condition=complete", "job/dask-workers", "--timeout=90s")
    log = (await pods.kubectl("logs", names[0])).stdout
    assert f"Registered to: {scheduler}" in " ".join(log.split())
