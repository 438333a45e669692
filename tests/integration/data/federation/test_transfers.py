"""Copies between two real edges, ordered by people and by FTS's own commands."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from twinfra.core.errors import InvalidRequest
from twinfra.data.transfers.client import JobState, NewTransfer, TransferParams
from twinfra.testkit.strangers import python_environment
from twinfra.testkit.waiting import wait_for

FTS3 = Path(__file__).parents[3] / "servers" / "fts3"
BODY = b"climate" * 200_000


async def submit(federation, *files, person="alice", **params):
    """Submit (source site, source path, destination site, destination path) tuples."""
    source = {site: await federation.token(f"edge@{site}", person) for site in ("edge-c", "hpc-b")}
    wanted = [
        NewTransfer(
            tuple(federation.dav(site, path) for site, path in sources),
            federation.dav(*dest),
            tuple(source[site] for site, _ in sources),
            source[dest[0]],
        )
        for sources, dest in files
    ]
    return await federation.transfers(person).submit(wanted, TransferParams(**params))


async def ended(federation, job_id, timeout_s=30):
    client = federation.transfers()

    async def over():
        found = await client.status(job_id)
        return found if found.state.final else None

    return await wait_for(over, timeout_s=timeout_s, what=f"job {job_id}")


@pytest.mark.story(
    "the transfer service has the two edges copy third-party (HTTP `COPY`, pull), checksums"
    " compared"
)
async def test_a_file_goes_from_edge_to_edge_and_its_usage_to_accounting(federation):
    await federation.put("edge-c", "/in/a", BODY)
    job_id = await submit(
        federation, ([("edge-c", "/in/a")], ("hpc-b", "/out/deep/a")),
        job_metadata={"deployment": "d-1"},
    )  # fmt: skip
    job = await ended(federation, job_id)
    assert job.state is JobState.FINISHED, job
    assert (await federation.get("hpc-b", "/out/deep/a")).body == BODY
    accounting = federation.http("accounting")

    async def recorded():
        reply = await accounting.request("GET", "/records", params={"kind": "transfer"})
        return reply.json()["records"]

    (record,) = await wait_for(recorded, timeout_s=20)
    assert (record["size_bytes"], record["file_count"]) == (len(BODY), 1)
    assert (record["source_site"], record["dest_site"]) == ("edge-c", "hpc-b")
    assert (record["person"]["sub"], record["group"], record["deployment"]) == (
        "alice", "climate", "d-1",
    )  # fmt: skip


@pytest.mark.real("fts3")
@pytest.mark.story("`fts-rest-transfer-submit` moves a file")
async def test_ftss_own_command_moves_a_file_between_edges(federation, home):
    await federation.put("edge-c", "/in/a", BODY)
    bin_folder = await asyncio.to_thread(python_environment, FTS3)
    argv = [
        bin_folder / "fts-rest-transfer-submit", "-s", federation.url("transfers"),
        "--capath", str(home.tls / "ca.pem"), "-b", "-i", "1", "-C", "both",
        "--fts-access-token", await federation.token("transfers"),
        "--src-access-token", await federation.token("edge@edge-c"),
        "--dst-access-token", await federation.token("edge@hpc-b"),
        federation.dav("edge-c", "/in/a"), federation.dav("hpc-b", "/out/a"),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={"PATH": os.defpath, "HOME": str(home.root)},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert "Job finished with state FINISHED" in out.decode()
    assert (await federation.get("hpc-b", "/out/a")).body == BODY


@pytest.mark.story("A corrupted source file: the transfer fails on the checksum, the bad copy is "
                   "removed, another source is tried")  # fmt: skip
async def test_a_source_whose_bytes_went_bad_is_passed_over_for_a_good_one(federation, home):
    await federation.put("edge-c", "/in/a", BODY)
    await federation.put("hpc-b", "/in/good", BODY)
    spoil(home.site("edge-c").storage / "in" / "a")
    job_id = await submit(
        federation,
        ([("edge-c", "/in/a"), ("hpc-b", "/in/good")], ("hpc-b", "/out/a")),
    )
    job = await ended(federation, job_id)
    assert job.state is JobState.FINISHED, job
    assert [file.state.value for file in job.files] == ["FAILED", "FINISHED"]
    assert "checksum" in job.files[0].reason.lower()
    assert (await federation.get("hpc-b", "/out/a")).body == BODY


async def test_no_bad_copy_is_left_when_there_is_no_other_source(federation, home):
    await federation.put("edge-c", "/in/a", BODY)
    spoil(home.site("edge-c").storage / "in" / "a")
    job = await ended(
        federation, await submit(federation, ([("edge-c", "/in/a")], ("hpc-b", "/out/a")))
    )
    assert job.state is JobState.FAILED
    assert "checksum" in job.reason.lower()
    assert (await federation.get("hpc-b", "/out/a", expect=(404,))).status == 404


def spoil(path):
    """Change a byte behind the edge's back: same size, same time, as a failing disk does."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_token_that_does_not_reach_is_named_as_the_reason(federation):
    await federation.put("edge-c", "/in/a", BODY)
    wanted = NewTransfer(
        (federation.dav("edge-c", "/in/a"),), federation.dav("hpc-b", "/out/a"),
        (await federation.token("datasets"),), await federation.token("edge@hpc-b"),
    )  # fmt: skip
    job = await ended(federation, await federation.transfers().submit([wanted]))
    assert job.state is JobState.FAILED
    assert job.files[0].reason.startswith("SOURCE [13] CHECK Permission denied")


async def test_a_storage_outside_the_federation_is_refused_at_once(federation):
    wanted = NewTransfer(
        ("https://169.254.169.254/latest/meta-data",), federation.dav("hpc-b", "/x"), ("t",), "t"
    )
    with pytest.raises(InvalidRequest, match="not a registered storage"):
        await federation.transfers().submit([wanted])


async def test_events_of_a_transfer_are_seen_in_the_feed(federation):
    await federation.put("edge-c", "/in/a", BODY)
    job_id = await submit(
        federation, ([("edge-c", "/in/a")], ("hpc-b", "/out/a")), job_metadata={"rule_id": "r"}
    )
    seen = {}
    async for event in federation.notifications().events(
        ["org.twinfra.transfer.*"], since="beginning"
    ):
        seen[event.type.rpartition(".")[2]] = event.data
        if "finished" in seen:
            break
    assert set(seen) >= {"submitted", "active", "finished"}
    assert seen["finished"]["job_id"] == job_id
    assert seen["finished"]["job_metadata"] == {"rule_id": "r"}
    assert json.dumps(seen).count("eyJ") == 0
