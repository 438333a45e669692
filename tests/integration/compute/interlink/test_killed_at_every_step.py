"""Plug-in, API server and keeper killed at each step of a pod's life; outputs count the starts."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from twinfra.compute.interlink.client import PodCreateRequest, PodPhase
from twinfra.core.errors import TwinfraError
from twinfra.data.datasets.client import Did, FileSpec, NewCollection
from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.registry import registry
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OVER = (PodPhase.SUCCEEDED, PodPhase.FAILED)
WITHIN_S = 60.0
STUBBORN = "trap '' TERM; echo started; while true; do sleep 0.2; done"


async def until(test, what):
    return await wait_for(test, timeout_s=WITHIN_S, what=what)


async def create(site, pod):
    await site.client().create(PodCreateRequest(pod))
    return pod["metadata"]["uid"]


async def begun(site, uid, attempt=1, container="main"):
    await until(lambda: started(site, uid, attempt, container), f"the start of attempt {attempt}")


def started(site, uid, attempt=1, container="main"):
    """Count the starts that the job's own output tells of."""
    return site.output(uid, container, attempt).count(b"started")


def attempts(site, uid):
    return sorted(int(path.name) for path in (site.jobs / uid / "attempts").iterdir())


def running(uid):
    """Return the processes of a job that are left: its folder is in what they were started with."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if uid.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def goes_when_told(make_pod, **more):
    """Return a pod that ends with code 7 once its volume has a file ``go``."""
    script = "echo started; while [ ! -e /go/go ]; do sleep 0.1; done; exit 7"
    mounts = {
        "volumeMounts": [{"name": "v", "mountPath": "/go"}],
        "env": [{"name": "A", "value": ""}],
    }
    pod = make_pod(script, container=mounts, volumes=[{"name": "v", "emptyDir": {}}])
    pod["spec"]["containers"][0]["env"][0]["value"] = pod["metadata"]["uid"]
    return pod


def let_go(site, uid):
    (site.jobs / uid / "pod" / "scratch-volumes" / "1" / "v" / "go").touch()


@pytest.fixture
async def heard(split_site):
    """All phases that one long stream of events tells, by pod, as a kubelet reads it."""
    told = {}

    async def all_known():
        with contextlib.suppress(TwinfraError):
            return await split_site[1].client().status([]) or True

    async def listen():
        async for event in split_site[1].client().events():
            ready.set()
            if event.report is None:  # there may be a gap: ask
                reports = await until(all_known, "an answer")
            else:
                reports = [event.report]
            for report in reports if isinstance(reports, list) else []:
                told.setdefault(report.uid, []).append(report.phase)

    ready = asyncio.Event()
    task = asyncio.create_task(listen())
    await asyncio.wait_for(ready.wait(), WITHIN_S)
    yield told
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def again(api):
    api.kill()
    await api.start()


@pytest.mark.story("`kill -9` of the interLink API alone at every step of a pod's life")
async def test_one_start_when_the_api_server_is_killed_in_create(split_site, heard, make_pod):
    plugin, api = split_site
    for pause_s in (0.0, 0.01, 0.05):
        pod = goes_when_told(make_pod)
        uid = pod["metadata"]["uid"]
        first = asyncio.create_task(create(api, pod))
        await asyncio.sleep(pause_s)
        await again(api)
        with contextlib.suppress(TwinfraError):
            await first
        await create(api, pod)
        await begun(plugin, uid)
        let_go(plugin, uid)
        ended = await plugin.until(pod, *OVER, timeout_s=WITHIN_S)
        assert (ended.phase, ended.containers[0].exit_code) == (PodPhase.FAILED, 7)
        assert (started(plugin, uid), attempts(plugin, uid)) == (1, [1])
        await until(lambda uid=uid: PodPhase.FAILED in heard.get(uid, ()), "the end, by event")


@pytest.mark.parametrize("step", ["queued", "running", "ended"])
async def test_one_start_and_the_right_end_when_the_api_server_is_killed(
    context, split_site, heard, make_pod, step
):
    plugin, api = split_site
    blockers = [goes_when_told(make_pod) for _ in range(4 if step == "queued" else 0)]
    for blocker in blockers:
        await begun(plugin, await create(api, blocker))
    pod = goes_when_told(make_pod)
    uid = await create(api, pod)
    if step == "queued":
        await plugin.until(pod, PodPhase.PENDING)
        await again(api)
        assert (await plugin.until(pod, PodPhase.PENDING)).containers[0].restarts == 0
        for blocker in blockers:
            let_go(plugin, blocker["metadata"]["uid"])
    await begun(plugin, uid)
    if step == "running":
        await plugin.until(pod, PodPhase.RUNNING)
        await again(api)
        assert [each.phase for each in await api.client().status([])] == [PodPhase.RUNNING]
    let_go(plugin, uid)
    await plugin.until(pod, *OVER, timeout_s=WITHIN_S)
    if step == "ended":
        await again(api)
    remembered = {each.uid: each.phase for each in await api.client().status([])}
    assert remembered[uid] is PodPhase.FAILED
    ended = await plugin.until(pod, *OVER)
    assert (ended.containers[0].exit_code, started(plugin, uid)) == (7, 1)
    assert attempts(plugin, uid) == [1]
    await until(lambda: PodPhase.FAILED in heard.get(uid, ()), "the end, by event")


async def test_a_pod_is_gone_when_the_api_server_is_killed_while_it_ends(split_site, make_pod):
    plugin, api = split_site
    pod = make_pod(STUBBORN, restart="Always", terminationGracePeriodSeconds=3)
    uid = await create(api, pod)
    await begun(plugin, uid)
    keeper = plugin.keeper(uid)
    await api.client().delete(pod)
    api.kill()
    assert keeper.alive()
    await api.start()
    await until(lambda: not (plugin.jobs / uid).exists(), "the folder gone")
    assert not keeper.alive()
    assert await api.client().status([pod]) == []


@pytest.mark.story(
    "`kill -9` of the plug-in at every step: it waits for data, pulls an image, ends"
)
async def test_a_pod_that_waits_for_data_starts_once_when_the_plugin_was_killed(
    federation, make_pod
):
    did, file = Did("climate", "ensemble"), FileSpec(Did("climate", "ensemble/far"), 3)
    await federation.datasets.dids_add([NewCollection(did)])
    await federation.datasets.add_replicas("FAR-AWAY", [file])
    await federation.datasets.attach(did, [file.did])
    site = federation.site
    pod = make_pod("echo started; cat /data/climate/ensemble/far", annotations={
        "twinfra.io/inputs": str(did)
    })  # fmt: skip
    uid = await federation.create(pod)

    async def held():
        (report,) = await federation.pods.status([pod])
        return report.containers[0].reason == "WaitingForData"

    await until(held, "the pod held")
    site.kill()
    await site.start()
    await until(held, "the pod still held")
    site.kill()
    await federation.put("/datasets/climate/ensemble/far", b"far")
    await federation.datasets.add_replicas("HPC-B", [file])
    await site.start()
    assert (await site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    assert (started(site, uid), attempts(site, uid)) == (1, [1])
    assert len(await federation.datasets.did_rules(did)) == 1


class Gate:
    """A way to a registry that is shut at first: who comes waits, and is noted."""

    def __init__(self, target):
        self.target, self.opened, self.callers = target, asyncio.Event(), 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def relay(self, reader, writer):
        self.callers += 1
        await self.opened.wait()
        host, port = self.target.split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError):
            await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))


async def pipe(reader, writer):
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.close()


@pytest.mark.real("docker-registry")
async def test_an_image_is_pulled_and_the_pod_starts_once_when_the_plugin_was_killed(
    context, issuer, settings, layout, tmp_path, make_pod, site_class
):
    with registry(tmp_path) as server:
        await asyncio.to_thread(server.push, layout, BUSYBOX, "team/app:1")
        async with Gate(server.host) as gate:
            with context.home.settings_file.open("a") as file:
                file.write(f'registries = ["{gate.host}"]\nplain_registries = ["{gate.host}"]\n')
            site = site_class(context)
            await site.start()
            try:
                image = {"image": f"{gate.host}/team/app:1"}
                pod = make_pod("echo started", container=image)
                uid = await create(site, pod)
                await until(lambda: gate.callers, "the pull")
                site.kill()
                gate.opened.set()
                await site.start()
                ended = await site.until(pod, *OVER, timeout_s=WITHIN_S)
                assert ended.phase is PodPhase.SUCCEEDED, ended
                assert (started(site, uid), attempts(site, uid)) == (1, [1])
            finally:
                await site.close()


async def test_a_pod_is_gone_when_the_plugin_is_killed_while_it_ends(site, make_pod):
    pod = make_pod(STUBBORN, restart="Always", terminationGracePeriodSeconds=3)
    uid = await create(site, pod)
    await begun(site, uid)
    keeper = site.keeper(uid)
    await site.client().delete(pod)
    site.kill()
    assert keeper.alive()
    await site.start()
    await until(lambda: not (site.jobs / uid).exists(), "the folder gone")
    assert not keeper.alive()
    assert await site.client().status([pod]) == []


@pytest.mark.story(
    "`kill -9` of the keeper: in an init container, in back-off, in grace, publishing"
)
async def test_a_keeper_killed_in_an_init_container_makes_one_more_attempt(site, make_pod):
    wait = "echo started; [ -e /go/go ] || sleep 1000"
    init = {"name": "first", "image": BUSYBOX, "command": ["sh", "-c", wait]}
    init["volumeMounts"] = [{"name": "v", "mountPath": "/go"}]
    pod = make_pod(
        "echo started", restart="OnFailure", initContainers=[init],
        volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    uid = await create(site, pod)
    await begun(site, uid, container="first")
    site.kill_keeper(uid)
    await begun(site, uid, 2, "first")
    (site.jobs / uid / "pod" / "scratch-volumes" / "2" / "v" / "go").touch()
    site.kill_keeper(uid)
    await begun(site, uid, 3, "first")
    (site.jobs / uid / "pod" / "scratch-volumes" / "3" / "v" / "go").touch()
    assert attempts(site, uid) == [1, 2, 3]
    assert [started(site, uid, number) for number in (1, 2, 3)] == [0, 0, 0]
    assert [started(site, uid, number, "first") for number in (1, 2, 3)] == [1, 1, 1]
    await site.client().delete(pod)


async def test_a_keeper_killed_in_back_off_makes_one_more_attempt(site, make_pod):
    pod = make_pod("echo started; exit 1", restart="Always")
    uid = await create(site, pod)

    def in_back_off():
        return started(site, uid) == 2 and site.keeper(uid).alive()

    await until(in_back_off, "the back-off")
    site.kill_keeper(uid)
    await until(lambda: started(site, uid, 2) == 2, "the second attempt's back-off")
    assert attempts(site, uid) == [1, 2]
    assert started(site, uid) == 2
    await site.client().delete(pod)
    await until(lambda: not (site.jobs / uid).exists(), "the folder gone")


async def test_a_keeper_killed_in_the_grace_of_its_pod_leaves_nothing(site, make_pod):
    mark = {"env": [{"name": "MARK", "value": "x"}]}
    pod = make_pod(
        STUBBORN, restart="Always", container=mark, terminationGracePeriodSeconds=60
    )  # fmt: skip
    uid = pod["metadata"]["uid"]
    mark["env"][0]["value"] = uid
    await create(site, pod)
    await begun(site, uid)
    assert running(uid)
    await site.client().delete(pod)
    site.kill_keeper(uid)
    await until(lambda: not (site.jobs / uid).exists(), "the folder gone")
    assert running(uid) == []
    assert await site.client().status([pod]) == []


async def test_outputs_are_published_once_when_the_keeper_is_killed_meanwhile(federation, make_pod):
    write = "echo started; for i in $(seq 40); do head -c 500000 /dev/zero > /outputs/climate/m/$i"
    pod = make_pod(f"{write}; done", annotations={"twinfra.io/outputs": "climate:m"})
    uid, site = await federation.create(pod), federation.site

    async def publishing():
        (report,) = await federation.pods.status([pod])
        return report.reason == "PublishingOutputs" or report.phase in OVER

    await until(publishing, "the outputs being published")
    if site.keeper(uid).alive():
        site.kill_keeper(uid)
    assert (await site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    (version,) = await federation.datasets.list_versions(Did("climate", "m"))
    assert len(await federation.datasets.list_files(version.did)) == 40
    assert (started(site, uid), attempts(site, uid)) == (1, [1])
