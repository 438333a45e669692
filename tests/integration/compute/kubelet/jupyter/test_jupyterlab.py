"""JupyterLab, a plain pod at a local site and on Slurm, used through ``kubectl port-forward``."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from twinfra.testkit.waiting import wait_for

from .kernels import run_cell

pytestmark = [pytest.mark.slow, pytest.mark.real("jupyterlab"), pytest.mark.real("kubernetes"),
              pytest.mark.timeout(1200)]  # fmt: skip
WITHIN_S = 180.0
MANIFEST = str(Path(__file__).with_name("lab.yaml"))
TOKEN = {"Authorization": "token of-the-lab"}
CELL = """
import os, socket
open("work/figure.txt", "w").write("forty-two")
print(socket.gethostname(), os.getuid(), 6 * 7)
"""


@asynccontextmanager
async def forwarded(pods, port):
    """Give the address on this machine that kubectl forwards to the pod."""
    words = ("-n", pods.namespace, "port-forward", "pod/lab", f":{port}")
    process = await asyncio.create_subprocess_exec(
        *pods.cluster.kubectl_command(*words),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        env=pods.cluster.environment,
    )  # fmt: skip
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), WITHIN_S)).decode()
        yield f"http://127.0.0.1:{line.split('127.0.0.1:')[1].split()[0]}"
    finally:
        process.kill()
        await process.wait()


@pytest.mark.story("A third party's manifest or chart needs nothing")
@pytest.mark.story("Unchanged means a diff of zero bytes.")
@pytest.mark.story("the site maps their image names to images built here")
async def test_a_lab_runs_a_cell_when_its_manifest_is_applied_as_it_is(pods, node, built):
    await pods.kubectl("apply", "-f", MANIFEST)
    await pods.kubectl("wait", "--for=condition=Ready", "pod/lab", f"--timeout={WITHIN_S:.0f}s")
    assert (await pods.kubectl("diff", "-f", MANIFEST)).stdout == ""
    pod = await pods.get("lab")
    assert pod["spec"]["nodeName"] == node
    assert pod["status"]["containerStatuses"][0]["imageID"].endswith(built.digest)
    async with forwarded(pods, 8888) as url, aiohttp.ClientSession(headers=TOKEN) as session:
        async with session.get(f"{url}/lab") as page:
            assert page.status == 200
            assert "<title>JupyterLab</title>" in await page.text()
        async with session.get(f"{url}/api/contents", headers={"Authorization": ""}) as refused:
            assert refused.status == 403
        assert await run_cell(session, url, CELL) == ("lab 1000 42\n", "ok")
        async with session.get(f"{url}/api/contents/work/figure.txt") as file:
            assert (await file.json())["content"] == "forty-two"

        async def ended():
            async with session.get(f"{url}/api/kernels") as answer:
                return await answer.json() == []

        await wait_for(ended, what="the kernel's end")
    await pods.kubectl("delete", "-f", MANIFEST, "--grace-period=10")
    await pods.until_gone("lab")
