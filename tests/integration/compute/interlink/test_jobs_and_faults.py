"""Pods of a real site: what they do and what they survive; a job's own output counts its starts."""

import asyncio
import signal

import aiohttp
import pytest

from twinfra.compute.interlink.client import LogRequest, PodCreateRequest, PodPhase
from twinfra.testkit.waiting import wait_for

pytestmark = pytest.mark.slow
OVER = (PodPhase.SUCCEEDED, PodPhase.FAILED)


async def create(site, pod):
    await site.client().create(PodCreateRequest(pod))
    return pod["metadata"]["uid"]


async def log_of(site, uid):
    return (await site.client().logs(LogRequest("climate", uid, "job-0"))).decode()


async def started(site, uid, word, attempt=1):
    await wait_for(
        lambda: word.encode() in site.output(uid, attempt=attempt), timeout_s=30, what=word
    )


async def test_succeeds_when_the_job_exits_zero(site, make_pod):
    pod = make_pod("echo hello $WHO", container={"env": [{"name": "WHO", "value": "twin"}]})
    uid = await create(site, pod)
    ended = await site.until(pod, *OVER)
    assert (ended.phase, ended.containers[0].reason) == (PodPhase.SUCCEEDED, "Completed")
    assert ended.containers[0].image_id.startswith("sha256:")
    assert await log_of(site, uid) == "hello twin\n"


async def test_terminates_with_code_three_and_a_reason_when_the_job_exits_three(site, make_pod):
    pod = make_pod("echo it broke; exit 3")
    uid = await create(site, pod)
    ended = await site.until(pod, *OVER)
    assert (ended.phase, ended.containers[0].exit_code) == (PodPhase.FAILED, 3)
    assert ended.containers[0].reason == "Error"
    assert await log_of(site, uid) == "it broke\n"


async def test_volumes_and_modes_arrive_as_they_were_given(site, make_pod):
    script = "cat /cfg/a.ini /cfg/deep/b; stat -L -c %a /cfg/a.ini; cat /tok/token; echo x > /tmp/w"
    pod = make_pod(
        script + " && echo x > /empty/y && ! echo x 2>/dev/null > /cfg/z && echo fine",
        container={
            "volumeMounts": [
                {"name": "cfg", "mountPath": "/cfg"},
                {"name": "tok", "mountPath": "/tok", "readOnly": True},
                {"name": "tmp", "mountPath": "/empty"},
            ]
        },
        volumes=[
            {
                "name": "cfg",
                "configMap": {
                    "name": "maps",
                    "items": [
                        {"key": "a", "path": "a.ini", "mode": 0o600},
                        {"key": "b", "path": "deep/b"},
                    ],
                },
            },
            {"name": "tok", "secret": {"secretName": "keys"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    )
    request = PodCreateRequest(
        pod,
        config_maps=({"metadata": {"name": "maps"}, "data": {"a": "x=1\n", "b": "two\n"}},),
        secrets=({"metadata": {"name": "keys"}, "data": {"token": "c2VjcmV0Cg=="}},),
    )
    await site.client().create(request)
    ended = await site.until(pod, *OVER)
    text = await log_of(site, pod["metadata"]["uid"])
    assert (ended.phase, text) == (PodPhase.SUCCEEDED, "x=1\ntwo\n600\nsecret\nfine\n")


async def test_what_looks_like_shell_arrives_as_data(site, make_pod):
    evil = "$(touch /tmp/pwned) `id`\n#SBATCH --evil\n; rm -rf / & \"quoted\" 'too' ${HOME} %s\\n"
    pod = make_pod(
        'printf "%s|%s\\n" "$EVIL" "$0"',
        container={"args": [evil], "env": [{"name": "EVIL", "value": evil}]},
        annotations={"slurm-job.vk.io/flags": evil},
    )
    uid = await create(site, pod)
    assert (await site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    assert await log_of(site, uid) == f"{evil}|{evil}\n"


async def test_ends_with_its_deadline_when_it_runs_too_long(site, make_pod):
    pod = make_pod("sleep 1000", activeDeadlineSeconds=1)
    await create(site, pod)
    ended = await site.until(pod, *OVER)
    assert (ended.phase, ended.containers[0].reason) == (PodPhase.FAILED, "DeadlineExceeded")


async def test_init_containers_go_first_and_their_failure_fails_the_pod(site, make_pod):
    first = {"name": "first", "image": "busybox:1", "command": ["sh", "-c", "exit 4"]}
    pod = make_pod("echo never", initContainers=[first])
    uid = await create(site, pod)
    ended = await site.until(pod, *OVER)
    assert (ended.phase, ended.inits[0].exit_code) == (PodPhase.FAILED, 4)
    assert site.output(uid) == b""


async def test_a_service_is_reached_by_its_port_over_kept_connections(site, make_pod):
    page = "mkdir /tmp/w; echo served > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
    ready = {"readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}
    pod = make_pod(page, restart="Always", container=ready)
    uid = await create(site, pod)

    async def is_ready():
        found = await site.client().status([pod])
        return found and found[0].containers[0].ready

    await wait_for(is_ready, timeout_s=30, what="readiness")
    forward = await site.client().port_forward(uid, 8080)
    connector = aiohttp.UnixConnector(str(forward.path))
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(20):
            async with session.get("http://pod/") as answer:
                assert (answer.status, await answer.text()) == (200, "served\n")
    await forward.close()
    await site.client().delete(pod)


async def test_the_plugin_killed_in_mid_job_adopts_it_when_it_is_back(site, make_pod):
    script = "echo started; while [ ! -e /empty/go ]; do sleep 0.1; done; echo done; exit 7"
    volume = {"volumes": [{"name": "v", "emptyDir": {}}]}
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/empty"}]}
    pod = make_pod(script, container=mount, **volume)
    uid = await create(site, pod)
    await started(site, uid, "started")
    keeper = site.keeper(uid).identity().pid
    site.kill()
    assert site.keeper(uid).alive()
    await site.start()
    running = await site.until(pod, PodPhase.RUNNING)
    assert running.containers[0].restarts == 0
    assert site.keeper(uid).identity().pid == keeper
    (site.jobs / uid / "pod" / "scratch-volumes" / "1" / "v" / "go").touch()
    assert (await site.until(pod, *OVER)).containers[0].exit_code == 7
    assert site.output(uid).count(b"started") == 1


async def test_the_end_is_seen_when_the_job_ended_while_the_plugin_was_dead(site, make_pod):
    pod = make_pod("echo started; sleep 1; exit 5")
    uid = await create(site, pod)
    await started(site, uid, "started")
    site.kill()
    await wait_for(lambda: site.keeper(uid).state().final, timeout_s=20, what="the end")
    await site.start()
    assert (await site.until(pod, *OVER)).containers[0].exit_code == 5
    assert site.output(uid).count(b"started") == 1


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.2])
async def test_one_start_only_when_the_plugin_is_killed_at_any_moment(site, make_pod, pause_s):
    pod = make_pod("echo started; sleep 0.3; echo done")
    uid = pod["metadata"]["uid"]
    await create(site, pod)
    await asyncio.sleep(pause_s)
    site.kill()
    await site.start()
    ended = await site.until(pod, *OVER)
    assert (ended.phase, ended.containers[0].restarts) == (PodPhase.SUCCEEDED, 0)
    assert site.output(uid).count(b"started") == 1


async def test_a_killed_keeper_makes_a_second_numbered_attempt_where_restarts_are_allowed(
    site, make_pod
):
    pod = make_pod("echo started; sleep 1000", restart="Always")
    uid = await create(site, pod)
    await started(site, uid, "started")
    site.kill_keeper(uid)
    again = await site.until(pod, PodPhase.RUNNING, attempt=2)
    assert again.containers[0].restarts == 1
    assert again.containers[0].last.reason == "KeeperLost"
    await started(site, uid, "started", attempt=2)
    for attempt in (1, 2):
        assert site.output(uid, attempt=attempt).count(b"started") == 1
    await site.client().delete(pod)


async def test_a_killed_keeper_fails_the_pod_when_it_never_restarts(site, make_pod):
    pod = make_pod("echo started; sleep 1000")
    uid = await create(site, pod)
    await started(site, uid, "started")
    site.kill_keeper(uid)
    ended = await site.until(pod, *OVER)
    assert (ended.phase, ended.containers[0].reason) == (PodPhase.FAILED, "KeeperLost")
    assert site.output(uid).count(b"started") == 1


async def test_keeper_and_plugin_killed_together_make_one_more_attempt(site, make_pod):
    pod = make_pod("echo started; sleep 1000", restart="OnFailure")
    uid = await create(site, pod)
    await started(site, uid, "started")
    site.kill()
    site.kill_keeper(uid)
    await site.start()
    await site.until(pod, PodPhase.RUNNING, attempt=2)
    await started(site, uid, "started", attempt=2)
    assert not (site.jobs / uid / "attempts" / "3").exists()
    await site.client().delete(pod)


async def test_a_plain_stop_spares_jobs_and_a_drain_ends_them(site, make_pod):
    pod = make_pod("echo started; sleep 1000")
    uid = await create(site, pod)
    await started(site, uid, "started")
    await site.stop(signal.SIGTERM)
    assert site.keeper(uid).alive()
    await site.start()
    await site.until(pod, PodPhase.RUNNING)
    await site.stop(signal.SIGUSR1)
    assert not site.keeper(uid).alive()
    assert site.keeper(uid).state().final


async def test_a_deleted_pod_leaves_nothing_behind(site, make_pod):
    pod = make_pod("trap '' TERM; echo started; sleep 1000")
    uid = await create(site, pod)
    await started(site, uid, "started")
    keeper = site.keeper(uid)
    await site.client().delete(pod)
    await wait_for(lambda: not (site.jobs / uid).exists(), timeout_s=20, what="the folder gone")
    assert not keeper.alive()
    assert await site.client().status([pod]) == []
