"""The hop to the plug-in: curl's bytes in, as a stranger's API server would send them."""

import asyncio
import json
import time
from dataclasses import replace

import pytest

from twinfra.compute.containers.machine import Machine
from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.compute.interlink.plugin.store import PodStore
from twinfra.compute.interlink.settings import PluginSettings
from twinfra.core.errors import InsufficientScope, NotFound
from twinfra.testkit.issuer import ALL_SCOPES
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"


def retrieved(pod, **more):
    """Return what an API server posts to a plug-in."""
    entry = {
        "name": "main",
        "configMaps": None,
        "projectedvolumemaps": None,
        "secrets": None,
        "emptyDirs": None,
    }
    return {"pod": pod, "container": [entry], "jobConfig": {}, **more}


@pytest.fixture
def plugin(house):
    async def curl(path, *argv, body=None, token=None):
        more = [] if body is None else ["--data-binary", json.dumps(body)]
        bearer = token or house.issuer.service_token(f"interlink@{SITE}", aud=house.plugin)
        return await house.curl(*argv, *more, house.plugin + path, token=bearer)

    return curl


@pytest.mark.parametrize("shape", ["object", "list"])
async def test_05_create_takes_an_object_and_a_list_of_one(plugin, pod, shape):
    made = pod()
    body = retrieved(made)
    sent = [body] if shape == "list" else body
    status, answer = await plugin("/create", "-X", "POST", body=sent)
    assert status == 200
    assert json.loads(answer)["PodUID"] == made["metadata"]["uid"]
    assert json.loads(answer)["PodJID"]


async def test_create_changes_nothing_when_it_is_repeated(plugin, pod, house):
    body = retrieved(pod())
    answers = [await plugin("/create", "-X", "POST", body=body) for _ in range(3)]
    assert len(set(answers)) == 1
    await wait_for(lambda: house.site.jobs, what="the job")
    assert len(house.site.jobs) == 1


async def test_create_makes_the_pod_anew_when_it_was_deleted_before(plugin, pod, house):
    made = pod()
    await plugin("/create", "-X", "POST", body=retrieved(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    await plugin("/delete", "-X", "POST", body=made)

    async def again():
        return (await plugin("/create", "-X", "POST", body=retrieved(made)))[0] == 200

    await wait_for(again, what="the second creation")
    status, body = await plugin("/status", "-X", "GET", body=[made])
    assert (status, len(json.loads(body))) == (200, 1)


async def test_01_an_empty_status_is_the_ping_and_tells_the_sites_figures(plugin, house):
    status, body = await plugin("/status", "-X", "GET", body=[])
    ping = json.loads(body)
    assert status == 200
    assert ping["status"] == "ok"
    assert ping["resources"] == {"cpu": "4", "memory": str(8 << 30), "pods": "10000"}
    assert ping["extensions"] == [
        "idempotent",
        "events",
        "portforward",
        "stats",
        "files",
        "exec",
        "attach",
    ]
    assert ping["free"] == {"cpu": 4, "memory": 8 << 30, "slots": 4}
    assert ping["queue"] == {"length": 0, "wait_s": 0.0}


@pytest.mark.story("Nodes publish real os, architecture and CPU level")
async def test_the_ping_tells_the_sites_machines(plugin, house):
    house.site.figures = replace(house.site.figures, machine=Machine("linux", "arm64"))
    _, body = await plugin("/status", "-X", "GET", body=[])
    assert json.loads(body)["machine"] == {"os": "linux", "architecture": "arm64"}
    ping = await house.client().ping()
    assert (ping.os, ping.architecture, ping.cpu_level) == ("linux", "arm64", "")


async def test_02_the_ping_fails_when_the_batch_system_is_down(plugin, house):
    house.site.down = True
    status, body = await plugin("/status", "-X", "GET", body=[])
    assert (status, body) == (503, b"the fake batch system is down")


async def test_status_has_waiting_entries_when_the_pod_was_just_made(plugin, pod):
    made = pod()
    await plugin("/create", "-X", "POST", body=retrieved(made))
    _, body = await plugin("/status", "-X", "GET", body=[made])
    (found,) = json.loads(body)
    assert (found["name"], found["namespace"]) == ("train-0", "ml")
    assert found["UID"] == made["metadata"]["uid"]
    assert [entry["name"] for entry in found["containers"]] == ["main"]
    assert "waiting" in found["containers"][0]["state"]


async def test_09_status_omits_unknown_pods(plugin, pod):
    made = pod()
    await plugin("/create", "-X", "POST", body=retrieved(made))
    status, body = await plugin("/status", "-X", "GET", body=[pod(), made, pod()])
    assert (status, len(json.loads(body))) == (200, 1)


async def test_12_delete_is_harmless_when_nobody_knows_the_pod(plugin, pod):
    assert (await plugin("/delete", "-X", "POST", body=pod()))[0] == 200


async def test_18_the_exit_code_and_the_sites_own_reason_are_kept(plugin, pod, house):
    made = pod()
    uid = made["metadata"]["uid"]
    await plugin("/create", "-X", "POST", body=retrieved(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    house.site.finish(uid, 137, reason="OOMKilled")

    async def ended():
        _, body = await plugin("/status", "-X", "GET", body=[made])
        return json.loads(body)[0]["containers"][0]["state"].get("terminated")

    end = await wait_for(ended, what="the end")
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


@pytest.mark.parametrize("path", ["/create", "/delete", "/status", "/getLogs"])
async def test_13_malformed_bodies_get_4xx_and_the_plugin_keeps_serving(plugin, path):
    for body in ({}, 7, "text", [3], {"pod": []}, {"pod": {"metadata": 3}}, [[]], None):
        status, answer = await plugin(path, "-X", "POST", body=body)
        assert 400 <= status < 500, (body, answer)
    assert (await plugin("/status", "-X", "GET", body=[]))[0] == 200


async def test_15_a_followed_log_shows_a_line_soon_and_ends_with_the_container(plugin, pod, house):
    made = pod()
    uid = made["metadata"]["uid"]
    await plugin("/create", "-X", "POST", body=retrieved(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    house.site.write(uid, b"early\n")
    wanted = {
        "Namespace": "ml",
        "PodUID": uid,
        "PodName": "train-0",
        "ContainerName": "main",
        "Opts": {"Follow": True},
    }
    following = asyncio.create_task(plugin("/getLogs", "-N", "-X", "GET", body=wanted))
    await asyncio.sleep(0.2)
    house.site.write(uid, b"late\n")
    house.site.finish(uid)
    assert await asyncio.wait_for(following, 5) == (200, b"early\nlate\n")


# ---------------------------------------------------------------------------- who may


async def test_401_says_why_when_the_token_is_not_good(plugin, house):
    tokens = {
        "the token has expired": house.issuer.expired(aud=house.plugin),
        "the token is for another audience": house.issuer.token(aud="https://elsewhere.test"),
        "signature": house.issuer.forged(aud=house.plugin),
    }
    for why, token in tokens.items():
        status, body = await plugin("/status", "-X", "GET", body=[], token=token)
        assert (status, why in body.decode()) == (401, True), (why, body)
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-i", "--cacert", str(house.ctx.tls_server().cafile),
        house.plugin + "/status", "-d", "[]", "-X", "GET",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.startswith(b"HTTP/1.1 401")
    assert b"www-authenticate: Bearer" in out


async def test_403_names_the_scope_when_a_good_token_lacks_it(plugin, house, pod):
    token = house.issuer.token(aud=house.plugin, scope="compute.read")
    status, body = await plugin("/create", "-X", "POST", body=retrieved(pod()), token=token)
    assert (status, b"compute.create" in body) == (403, True)
    status, body = await plugin("/delete", "-X", "POST", body=pod(), token=token)
    assert (status, b"compute.cancel" in body) == (403, True)


async def test_pods_are_seen_by_their_group_and_ended_by_their_owner(plugin, house, pod):
    made = pod(annotations={"twinfra.io/group": "climate"})

    def token(sub, *groups):
        return house.issuer.token(sub, groups, aud=house.plugin, scope=ALL_SCOPES)

    alice, carol, bob = token("alice", "climate"), token("carol", "climate"), token("bob", "water")
    await plugin("/create", "-X", "POST", body=retrieved(made), token=alice)
    seen = {}
    for name, who in (("alice", alice), ("carol", carol), ("bob", bob)):
        _, body = await plugin("/status", "-X", "GET", body=[made], token=who)
        seen[name] = len(json.loads(body))
    assert seen == {"alice": 1, "carol": 1, "bob": 0}
    assert (await plugin("/delete", "-X", "POST", body=made, token=carol))[0] == 403
    assert (await plugin("/delete", "-X", "POST", body=made, token=bob))[0] == 200
    _, body = await plugin("/status", "-X", "GET", body=[made], token=alice)
    assert len(json.loads(body)) == 1
    taken, _ = await plugin("/create", "-X", "POST", body=retrieved(made), token=bob)
    assert taken == 403


async def test_a_group_can_only_be_named_by_its_members(plugin, house, pod):
    made = pod(annotations={"twinfra.io/group": "water"})
    token = house.issuer.token("alice", ("climate",), aud=house.plugin, scope=ALL_SCOPES)
    status, body = await plugin("/create", "-X", "POST", body=retrieved(made), token=token)
    assert (status, b"only members of water" in body) == (403, True)


async def test_data_is_refused_when_the_token_does_not_reach_it(plugin, house, pod):
    for hint, scope in (("inputs", "storage.read"), ("outputs", "storage.modify")):
        made = pod(annotations={f"twinfra.io/{hint}": "climate:model"})
        token = house.issuer.token(aud=house.plugin, scope="compute.create storage.read:/elsewhere")
        status, body = await plugin("/create", "-X", "POST", body=retrieved(made), token=token)
        assert (status, scope in body.decode()) == (403, True), body


async def test_the_person_and_the_actor_reach_the_plugin_through_the_api(house, pod):
    token = house.token(act={"sub": "service:deployments"}, client_id="deployments")
    made = pod(annotations={"twinfra.io/group": "climate", "twinfra.io/deployment": "d1"})
    await house.client(token).create(PodCreateRequest(made))
    database = house.ctx.database("plugin", folder=house.ctx.home.site(SITE).db)
    kept = await PodStore(database).get(made["metadata"]["uid"])
    await database.close()
    assert (kept.owner.sub, kept.owner.group, kept.owner.is_service) == ("alice", "climate", False)
    assert kept.owner.actor
    assert kept.deployment == "d1"


# ---------------------------------------------------------------------------- /ext


async def lines_of(house, *argv, until, path="/ext/events"):
    """Read an event stream by curl until it says `until`."""
    bearer = house.issuer.service_token("watcher", aud=house.plugin)
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-N", "--cacert", str(house.ctx.tls_server().cafile), "-m", "20",
        "-H", f"Authorization: Bearer {bearer}", *argv, house.plugin + path,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    seen = []
    try:
        async with asyncio.timeout(10):
            while line := await process.stdout.readline():
                seen.append(line.decode().strip())
                if until in seen[-1]:
                    return seen
    finally:
        process.kill()
        await process.communicate()
    raise AssertionError(seen)


async def test_events_go_on_after_the_last_one_seen(house, plugin, pod):
    uids = []
    for _ in range(3):
        made = pod()
        uids.append(made["metadata"]["uid"])
        await plugin("/create", "-X", "POST", body=retrieved(made))
    all_of_them = await lines_of(house, "-H", "Last-Event-ID: 0", until=uids[2])
    first = next(i for i, line in enumerate(all_of_them) if uids[0] in line)
    number = all_of_them[first - 2].removeprefix("id: ")
    rest = await lines_of(house, "-H", f"Last-Event-ID: {number}", until=uids[2])
    assert not any(line == f"id: {number}" for line in rest)
    assert any(uids[1] in line for line in rest)


async def test_events_say_resync_when_they_cannot_go_on(house, plugin, pod):
    seen = await lines_of(house, "-H", "Last-Event-ID: 4711", until="data:")
    assert "event: resync" in seen


async def test_events_refuse_an_id_that_is_none(house, plugin):
    status, body = await plugin("/ext/events", "-H", "Last-Event-ID: soon")
    assert (status, json.loads(body)["code"]) == (400, "invalid-request")


async def test_events_show_people_only_what_they_may_see(house, plugin, pod):
    bob = house.issuer.token("bob", ("water",), aud=house.plugin, scope=ALL_SCOPES)
    hidden, shown = pod(), pod()
    await plugin("/create", "-X", "POST", body=retrieved(hidden))
    await plugin("/create", "-X", "POST", body=retrieved(shown), token=bob)
    argv = ("-H", f"Authorization: Bearer {bob}", "-H", "Last-Event-ID: 0")
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-N", "--cacert", str(house.ctx.tls_server().cafile), "-m", "2", *argv,
        house.plugin + "/ext/events", stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert shown["metadata"]["uid"].encode() in out
    assert hidden["metadata"]["uid"].encode() not in out


async def test_stats_are_real_figures_when_the_job_ran(house, plugin, pod):
    made = pod()
    uid = made["metadata"]["uid"]
    with pytest.raises(NotFound):
        await house.client().stats(uid)
    await plugin("/create", "-X", "POST", body=retrieved(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    house.site.finish(uid)

    async def told():
        status, body = await plugin(f"/ext/stats?uid={uid}")
        return json.loads(body) if status == 200 else None

    assert (await wait_for(told, what="figures"))["wall_time_s"] >= 0


async def test_a_port_is_refused_when_the_pod_is_anothers(house, pod):
    made = pod()
    await house.client().create(PodCreateRequest(made))
    bob = house.token("bob", groups=("water",))
    for token, error in ((bob, NotFound), (house.token(scope="compute.read"), InsufficientScope)):
        with pytest.raises(error):
            await house.http(token=token).websocket(
                "/ext/portforward", uid=made["metadata"]["uid"], port="80"
            )


async def test_too_many_readers_of_events_are_refused(house, plugin):
    clients = [house.http(house.plugin) for _ in range(65)]
    opened = []
    try:
        statuses = []
        for client in clients:
            stream = client.stream("GET", "/ext/events")
            statuses.append((await stream.__aenter__()).status)
            opened.append(stream)
        assert statuses == [200] * 64 + [429]
    finally:
        for stream in opened:
            await stream.__aexit__(None, None, None)


async def test_few_pods_are_taken_in_at_once_so_that_the_others_go_on(plugin, pod, foundation):
    images, at_once, most = foundation.images, 0, 0
    resolve, images.ensure = images.resolve, type(images)(images.root).ensure

    def slowly(reference):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.05)  # paced: in a thread, as a slow disk would
        at_once -= 1
        return resolve(reference)

    images.resolve = slowly
    bodies = [retrieved(pod()) for _ in range(12)]
    made = (plugin("/create", "-X", "POST", body=body) for body in bodies)
    assert {status for status, _ in await asyncio.gather(*made)} == {200}
    assert most == PluginSettings().intake
