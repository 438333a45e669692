"""Bad input on our own paths of both hops, and pods that look like programs: data, never run."""

import copy

import pytest

from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.core.errors import TwinfraError
from twinfra.testkit.waiting import wait_for

HOSTILE = (
    "$(touch /tmp/pwned)",
    "`id`",
    "a\n#SBATCH --uid=0\n",
    "#SBATCH -p x",
    "'; rm -rf / #",
    '"$HOME"',
    "--output=/etc/passwd",
    "a\r\nb",
    "\x1b[31m",
    "../../etc",
    "%s%n",
)
BROKEN = ("", "{", "[]", "7", '{"uid": 3}', '{"uid": "../.."}', "[" * 100_000, "\x01")


@pytest.mark.story("Every malformed body on every path: 4xx, server up")
async def test_13_malformed_bodies_of_our_own_paths_get_4xx_on_both_hops(house):
    for base in (house.api, house.plugin):
        for body in BROKEN:
            status, _ = await house.curl(
                "-X", "PUT", "-d", body[:60_000], f"{base}/ext/files", base=base
            )
            assert 400 <= status < 500, (base, body[:20])
        for path in ("/ext/stats", "/ext/stats?uid=%00", "/ext/other", "/ext/exec"):
            status, _ = await house.curl(f"{base}{path}", base=base)
            assert 400 <= status < 500, (base, path)
    assert (await house.client().ping()).extensions


@pytest.mark.story("arrives as data, never runs")
@pytest.mark.parametrize("evil", HOSTILE)
async def test_what_looks_like_a_program_reaches_the_job_byte_for_byte(house, pod, evil):
    body = pod(annotations={"slurm-job.vk.io/flags": evil, "note": evil})
    body["spec"]["containers"][0] |= {
        "command": ["/bin/echo", evil],
        "args": [evil],
        "env": [{"name": "EVIL", "value": evil}],
    }
    uid = body["metadata"]["uid"]
    await house.client().create(PodCreateRequest(body))
    await wait_for(lambda: uid in house.site.submissions, what="the job", timeout_s=30)
    spec = next(job.spec for job in house.site.jobs.values() if job.spec.name == uid)
    launch = spec.plan.containers[0].launch
    assert launch.command == ("/bin/echo", evil, evil)
    assert launch.env["EVIL"] == evil
    assert spec.native_options["slurm-job.vk.io/flags"] == evil


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize("place", ["name", "namespace", "uid", "container"])
async def test_a_name_that_is_none_is_refused(house, pod, place, evil):
    body = copy.deepcopy(pod())
    if place == "container":
        body["spec"]["containers"][0]["name"] = evil
    else:
        body["metadata"][place] = evil
    with pytest.raises(TwinfraError) as refusal:
        await house.client().create(PodCreateRequest(body))
    assert 400 <= refusal.value.status < 500
    assert not house.site.submissions


async def test_files_are_refused_when_the_pod_is_unknown_or_anothers(house, pod):
    body = pod()
    uid = body["metadata"]["uid"]
    with pytest.raises(TwinfraError) as unknown:
        await house.client().files(uid)
    assert unknown.value.status == 404
    await house.client().create(PodCreateRequest(body))
    with pytest.raises(TwinfraError) as anothers:
        await house.client(house.token("mallory")).files(uid)
    assert anothers.value.status == 404
