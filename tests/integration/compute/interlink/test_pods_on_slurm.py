"""Pods through both interLink hops to real Slurm jobs: ``twinfra site run`` as it is typed."""

import asyncio
import json
import os
import sys

import pytest

from twinfra.compute.interlink.client import LogRequest, PodCreateRequest, PodPhase

SITE = "hpc-b"
OVER = (PodPhase.SUCCEEDED, PodPhase.FAILED)
PROGRAM = (sys.executable, "-m", "twinfra.cli.main", "site", "run", SITE, "--home")
FLAGS = "slurm-job.vk.io/flags"
PATIENCE_S = 90.0

pytestmark = [pytest.mark.real("slurm"), pytest.mark.slow]


@pytest.fixture
def settings(context, layout, slurm_cluster, tmp_path):
    """The site's settings, as the how-to page has them."""
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(
        f"""
[sites.{SITE}.compute]
backend = "slurm"
shared_folder = "{tmp_path}/shared"
images = ["{layout}"]
[sites.{SITE}.slurm]
partition = "debug"
poll_s = 0.3
look_s = 0.1
lost_after_s = 1.0
environment = {{ SLURM_CONF = "{slurm_cluster.conf}" }}
reach = "srun"
"""
    )


@pytest.fixture
async def site(context, issuer, settings, site_class):
    class Typed(site_class):
        """The same, but started by the command that an administrator types."""

        command = PROGRAM

    made = Typed(context)
    await made.start()
    yield made
    await made.close()


async def run(site, pod):
    await site.client().create(PodCreateRequest(pod))
    return await site.until(pod, *OVER, timeout_s=PATIENCE_S)


async def test_a_pod_runs_as_a_slurm_job_of_its_own_name(site, make_pod, slurm_cluster, tmp_path):
    pod = make_pod(
        "cat /cfg/word; sleep 2; exit 4",
        annotations={FLAGS: "--time 5 --nice=7"},
        container={"volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}]},
        volumes=[{"name": "cfg", "configMap": {"name": "words"}}],
    )
    uid = pod["metadata"]["uid"]
    words = {"metadata": {"name": "words"}, "data": {"word": "$(id) `id`\n#SBATCH --uid=0\n"}}
    await site.client().create(PodCreateRequest(pod, config_maps=(words,)))
    report = await site.until(pod, PodPhase.RUNNING, *OVER, timeout_s=PATIENCE_S)
    job = slurm_cluster.job(report.native_id)
    assert (job["JobName"], job["TimeLimit"], job["Nice"]) == (uid, "00:05:00", "7")
    assert job["WorkDir"] == str(tmp_path / "shared" / "jobs" / uid)
    ended = await site.until(pod, *OVER, timeout_s=PATIENCE_S)
    assert (ended.phase, ended.containers[0].exit_code) == (PodPhase.FAILED, 4)
    text = await site.client().logs(LogRequest("climate", uid, "job-0"))
    assert text == b"$(id) `id`\n#SBATCH --uid=0\n"


async def test_slurms_refusal_reaches_the_author_in_its_own_words(site, make_pod):
    report = await run(site, make_pod("true", annotations={FLAGS: "--constraint=mars"}))
    assert report.phase is PodPhase.FAILED
    assert "Invalid feature specification" in report.message
    report = await run(site, make_pod("true", annotations={FLAGS: "--wrap=id"}))
    assert "'wrap' is not allowed at this site" in report.message


async def test_a_command_runs_within_the_job(site, make_pod):
    pod = make_pod("trap 'exit 0' TERM; while :; do sleep 0.1; done")
    await site.client().create(PodCreateRequest(pod))
    await site.until(pod, PodPhase.RUNNING, timeout_s=PATIENCE_S)
    uid = pod["metadata"]["uid"]
    socket = await site.client().exec(uid, "main", ["sh", "-c", "cat; exit 3"], stdin=True)
    sent = os.urandom(100_000)
    await socket.send_bytes(b"\0" + sent)
    await socket.send_bytes(b"\xff\0")
    heard = {}
    async with asyncio.timeout(PATIENCE_S):
        async for message in socket:
            heard[message.data[0]] = heard.get(message.data[0], b"") + message.data[1:]
    await socket.close()
    assert heard[1] == sent
    assert json.loads(heard[3])["details"]["causes"][0]["message"] == "3"
    await site.client().delete(pod)


async def test_jobs_go_on_when_the_site_is_killed_and_started_again(site, make_pod):
    pod = make_pod("echo begun; while ! [ -e /tmp/go ]; do sleep 0.1; done")
    uid = pod["metadata"]["uid"]
    await site.client().create(PodCreateRequest(pod))
    await site.until(pod, PodPhase.RUNNING, timeout_s=PATIENCE_S)
    site.kill()
    await site.start()
    await site.until(pod, PodPhase.RUNNING, timeout_s=PATIENCE_S)
    socket = await site.client().exec(uid, "main", ["touch", "/tmp/go"])
    async with asyncio.timeout(PATIENCE_S):
        async for _ in socket:
            pass
    await socket.close()
    ended = await site.until(pod, *OVER, timeout_s=PATIENCE_S)
    assert ended.phase is PodPhase.SUCCEEDED
    assert site.output(uid).count(b"begun") == 1
