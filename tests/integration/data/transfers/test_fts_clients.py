"""FTS's own commands against the whole service over HTTPS, with bearer tokens."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from twinfra.core.http.client import HttpClient
from twinfra.core.tls import server_tls
from twinfra.data.transfers.client import JobState, NewTransfer, TransferParams, TransfersClient
from twinfra.data.transfers.wiring import build
from twinfra.testkit import servers
from twinfra.testkit.fake_storage import fake_storage
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.serving import serving
from twinfra.testkit.strangers import python_environment
from twinfra.testkit.waiting import wait_for

FTS3 = Path(__file__).parents[3] / "servers" / "fts3"


@pytest.fixture(scope="session")
def fts_bin():
    return python_environment(FTS3)


@pytest.fixture
async def federation(context, home):
    """An issuer, NATS, the transfer service and two storages."""
    tls = server_tls(home.tls)
    with TestIssuer.for_home(home) as issuer, servers.nats(home.nats, port=home.port("nats")):
        async with fake_storage(tls) as source, fake_storage(tls) as dest:
            peers = ", ".join(f'"{each.url.removeprefix("https://")}"' for each in (source, dest))
            home.settings_file.write_text(f"[transfers]\npeers = [{peers}]\nretry_pause_s = 0.05\n")
            async with serving(context, build(context)):
                url = context.url("transfers")
                client = TransfersClient(HttpClient(url, tls=context.tls_client()))
                yield Federation(url, tls, issuer, source, dest, client)
                await client._http.close()


class Federation:
    def __init__(self, url, tls, issuer, source, dest, client):
        self.url, self.tls, self.issuer = url, tls, issuer
        self.source, self.dest, self.client = source, dest, client
        self.token = issuer.token(aud=url, scope="storage.read:/ storage.modify:/")

    async def run(self, program, *words, token=None, succeeds=True):
        """Run one of FTS's commands and return what it printed."""
        argv = [
            program, "-s", self.url, "--capath", str(self.tls.cafile),
            "--access-token", token or self.token, *words,
        ]  # fmt: skip
        environment = {"PATH": os.defpath, "HOME": str(program.parent), "NO_PROXY": "*"}
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=environment,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        text = out.decode()
        assert (process.returncode == 0) is succeeds, text
        return text


@pytest.mark.real("fts3")
@pytest.mark.story("`fts-rest-transfer-submit` moves a file")
async def test_the_fts_commands_submit_watch_list_and_cancel(federation, fts_bin):
    federation.source.files["/dav/in/a"] = b"climate" * 5000
    source, dest = f"{federation.source.url}/dav/in/a", f"{federation.dest.url}/dav/out/a"

    who = json.loads(await federation.run(fts_bin / "fts-rest-whoami", "--json"))
    assert (who["dn"], who["vos"]) == (["alice"], ["climate"])
    text = await federation.run(fts_bin / "fts-rest-whoami")
    assert "User DN: alice" in text
    assert f"Base id: {who['base_id']}" in text

    submit = ["-o", "-C", "both", "--retry", "2", "--job-metadata", '{"deployment": "d1"}']
    job_id = await _submit(federation, fts_bin, *submit, source, dest)
    await _ended(federation, job_id, JobState.FINISHED)
    assert federation.dest.files["/dav/out/a"] == federation.source.files["/dav/in/a"]

    status = json.loads(
        await federation.run(fts_bin / "fts-rest-transfer-status", "--json", job_id)
    )
    assert (status["job_state"], status["job_metadata"]) == ("FINISHED", {"deployment": "d1"})
    assert status["files"][0]["file_state"] == "FINISHED"
    assert status["files"][0]["filesize"] == 35000
    assert "Status: FINISHED" in await federation.run(fts_bin / "fts-rest-transfer-status", job_id)

    federation.dest.rate_bytes_per_s = 1000
    slow = await _submit(federation, fts_bin, "-K", source, f"{federation.dest.url}/dav/out/b")
    await wait_for(lambda: "/dav/out/b" in federation.dest.copies)
    listed = await federation.run(fts_bin / "fts-rest-transfer-list", "-o", "climate")
    assert slow in listed
    assert job_id not in listed
    assert "CANCELED" in await federation.run(fts_bin / "fts-rest-transfer-cancel", slow)
    await wait_for(lambda: not federation.dest.active["/dav/out/b"])
    assert "/dav/out/b" not in federation.dest.files


@pytest.mark.real("fts3")
async def test_the_fts_command_says_why_a_token_is_refused(federation, fts_bin):
    text = await federation.run(
        fts_bin / "fts-rest-whoami",
        token=federation.issuer.expired(aud=federation.url),
        succeeds=False,
    )
    assert "expired" in text


async def _submit(federation, fts_bin, *words):
    text = await federation.run(fts_bin / "fts-rest-transfer-submit", *words)
    return text.rpartition("Job id: ")[2].strip()


async def _ended(federation, job_id, state):
    async def over():
        found = await federation.client.status(job_id, token=federation.token)
        return found if found.state.final else None

    job = await wait_for(over, timeout_s=20)
    assert job.state is state, job
    return job


async def test_the_typed_client_submits_watches_and_cancels(federation):
    client, token = federation.client, federation.token
    federation.source.files["/dav/in/a"] = b"x" * 100
    wanted = NewTransfer(
        (f"{federation.source.url}/dav/in/a",), f"{federation.dest.url}/dav/out/a",
        (token,), token, metadata={"request_id": "r"},
    )  # fmt: skip
    job_id = await client.submit([wanted], TransferParams(sid="one"), token=token)
    job = await _ended(federation, job_id, JobState.FINISHED)
    assert job.files[0].metadata == {"request_id": "r"}
    assert job.files[0].transferred_bytes == 100
    known = await client.statuses([job_id, "00000000-0000-0000-0000-000000000000"], token=token)
    assert [each.known for each in known.values()] == [True, False]
    assert (await client.statuses(["nothing"], token=token))["nothing"].known is False
    assert await client.cancel(job_id, token=token) is JobState.FINISHED
    listed = await client.jobs(states=[JobState.FINISHED], token=token)
    assert [each.job_id for each in listed] == [job_id]
