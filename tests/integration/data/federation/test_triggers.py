"""A file that lands at a site joins a dataset, through every real service in between."""

import hashlib
from zlib import adler32

import pytest

from twinfra.core.errors import InsufficientScope, NotFound
from twinfra.data.datasets.client import Did
from twinfra.testkit.waiting import wait_for

SCENARIOS = Did("climate", "scenarios")


async def members(federation, did=SCENARIOS):
    try:
        return {found.did.name: found for found in await federation.datasets().list_files(did)}
    except NotFound:
        return {}


@pytest.mark.story(
    "An ingestor writes them over WebDAV to `edge-c`. The edge notices each new file; a"
    " registration trigger, set through the API, registers the file (adler32, md5, size)"
)
async def test_a_new_file_is_registered_with_its_checksums_and_joins_the_dataset(federation):
    body = b"temperature" * 3000
    await federation.notifications().create_trigger(
        "edge-c", "incoming/scenarios", "climate:scenarios", name="scenarios"
    )
    await federation.put("edge-c", "/incoming/scenarios/A1B.nc", body)
    await federation.put("edge-c", "/incoming/ensemble/other.pp", body)
    found = await wait_for(lambda: members(federation), timeout_s=30)
    file = found["scenarios/A1B.nc"]
    assert list(found) == ["scenarios/A1B.nc"]
    assert (file.size_bytes, file.adler32, file.md5) == (
        len(body), f"{adler32(body):08x}", hashlib.md5(body).hexdigest(),
    )  # fmt: skip
    replicas = await federation.datasets().list_replicas([SCENARIOS])
    assert replicas[0].pfns == {"EDGE-C": (federation.dav("edge-c", "/incoming/scenarios/A1B.nc"),)}
    listed = await federation.notifications().triggers()
    assert [(each.name, each.owner["sub"]) for each in listed] == [("scenarios", "alice")]
    did = await federation.datasets().get_did(Did("climate", "scenarios/A1B.nc"))
    assert did.account == "alice"


async def test_files_from_before_join_too_when_that_is_wished(federation):
    await federation.put("edge-c", "/incoming/scenarios/old.nc", b"old")
    await federation.put("edge-c", "/incoming/scenarios/old.txt", b"old")
    client = federation.notifications()
    stream = client.events(["org.twinfra.storage.created"], since="beginning")
    seen = set()
    async for event in stream:
        seen.add(event.data["path"])
        if len(seen) == 2:
            break
    await stream.aclose()
    await client.create_trigger(
        "edge-c", "/incoming/scenarios", "climate:scenarios", existing=True, pattern="*.nc"
    )
    await federation.put("edge-c", "/incoming/scenarios/new.nc", b"new")

    async def both():
        return len(await members(federation)) == 2

    await wait_for(both, timeout_s=30)
    assert set(await members(federation)) == {"scenarios/old.nc", "scenarios/new.nc"}


async def test_files_from_before_stay_out_otherwise(federation):
    await federation.put("edge-c", "/incoming/scenarios/old.nc", b"old")
    client = federation.notifications()
    async for _ in client.events(["org.twinfra.storage.created"], since="beginning"):
        break
    await client.create_trigger("edge-c", "/incoming/scenarios", "climate:scenarios")
    await federation.put("edge-c", "/incoming/scenarios/new.nc", b"new")
    found = await wait_for(lambda: members(federation), timeout_s=30)
    assert set(found) == {"scenarios/new.nc"}


async def test_a_file_written_beside_the_edge_is_noticed_too(federation, home):
    await federation.notifications().create_trigger(
        "edge-c", "/incoming/scenarios", "climate:scenarios"
    )
    folder = home.site("edge-c").storage / "incoming" / "scenarios"
    folder.mkdir(parents=True)
    (folder / "copied.nc").write_bytes(b"by cp")
    found = await wait_for(lambda: members(federation), timeout_s=30)
    assert found["scenarios/copied.nc"].adler32 == f"{adler32(b'by cp'):08x}"


async def test_another_version_of_a_file_is_refused_and_said_so_and_the_next_one_joins(federation):
    client = federation.notifications()
    made = await client.create_trigger("edge-c", "/incoming/scenarios", "climate:scenarios")
    await federation.put("edge-c", "/incoming/scenarios/a.nc", b"first")
    await wait_for(lambda: members(federation), timeout_s=30)
    await federation.put("edge-c", "/incoming/scenarios/deeper/a.nc", b"second")

    async def refused():
        found = next(each for each in await client.triggers() if each.id == made.id)
        return found.registered if found.registered.dropped else None

    registered = await wait_for(refused, timeout_s=30)
    assert "/incoming/scenarios/deeper/a.nc" in registered.last_error
    await federation.put("edge-c", "/incoming/scenarios/b.nc", b"third")

    async def both():
        return len(await members(federation)) == 2

    await wait_for(both, timeout_s=30)


async def test_only_members_of_the_scopes_group_may_set_a_trigger_or_see_it(federation):
    made = await federation.notifications().create_trigger(
        "edge-c", "/incoming/scenarios", "climate:scenarios"
    )
    stranger = federation.notifications("bob")
    with pytest.raises(InsufficientScope):
        await stranger.create_trigger("edge-c", "/incoming/scenarios", "climate:scenarios")
    assert await stranger.triggers() == []
    with pytest.raises(NotFound):
        await federation.http("notifications", "bob").request("GET", f"/triggers/{made.id}")


@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_nothing_is_lost_when_all_services_go_in_the_middle(prepared, federate):
    async with federate(prepared) as first:
        await first.notifications().create_trigger(
            "edge-c", "/incoming/scenarios", "climate:scenarios"
        )
        for number in range(20):
            await first.put("edge-c", f"/incoming/scenarios/f{number}.nc", b"x%d" % number)
    async with federate(prepared, without=("datasets",)) as second:
        for number in range(20, 25):
            await second.put("edge-c", f"/incoming/scenarios/f{number}.nc", b"x%d" % number)
    async with federate(prepared) as third:

        async def all_there():
            return len(await members(third)) == 25

        await wait_for(all_there, timeout_s=60)
