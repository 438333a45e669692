"""The FTS3 interface as its clients see it: statuses, bodies, errors."""

import httpx2
import pytest

from twinfra.core.bus import Outbox
from twinfra.core.database import Database
from twinfra.core.ids import new_uuid
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.data.transfers.api import build_app
from twinfra.data.transfers.model.faults import Scope, fault_of_text
from twinfra.data.transfers.service import JobService, Ledger, Queue
from twinfra.data.transfers.settings import TransferSettings
from twinfra.data.transfers.store import OUTBOX, TransferStore
from twinfra.testkit.issuer import TestIssuer

UNKNOWN = "00000000-0000-0000-0000-000000000000"


class AllPeers:
    async def allowed(self, url):
        return "evil" not in url

    def site_of(self, url):
        return None


@pytest.fixture(scope="module")
def issuer():
    with TestIssuer() as made:
        yield made


@pytest.fixture
async def world(tmp_path, issuer):
    database = Database(f"sqlite:///{tmp_path}/t.sqlite")
    await database.migrate("twinfra.data.transfers.migrations")
    settings = TransferSettings()
    store = TransferStore(database, Outbox(database, OUTBOX, None))
    ledger = Ledger(store, AllPeers(), settings, SYSTEM_CLOCK)
    service = JobService(
        store=store, ledger=ledger, queue=Queue(store, ledger, settings, SYSTEM_CLOCK),
        peers=AllPeers(), settings=settings, clock=SYSTEM_CLOCK, new_id=new_uuid,
    )  # fmt: skip
    app = build_app(service, issuer.authenticator(), SYSTEM_CLOCK, max_files=5)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://fts.test") as client:
        yield World(client, issuer, ledger, store)
    await database.close()


class World:
    def __init__(self, client, issuer, ledger, store):
        self.client, self.issuer, self.ledger, self.store = client, issuer, ledger, store

    async def ask(self, method, path, *, sub="alice", groups=("climate",), token=None, **more):
        bearer = self.issuer.token(sub, groups) if token is None else token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return await self.client.request(method, path, headers=headers, **more)

    async def submit(self, *names, params=None, **more):
        files = [
            {"sources": [f"https://a:1/{name}"], "destinations": [f"https://b:2/{name}"],
             "metadata": {"request_id": name}, "filesize": 7, "checksum": "ADLER32:1"}
            for name in names
        ]  # fmt: skip
        body = {"files": files, "params": params or {"job_metadata": {"issuer": "rucio"}}}
        return await self.ask("POST", "/jobs", json=body, **more)

    async def job(self, *names, **more):
        return (await self.submit(*names, **more)).json()["job_id"]


async def test_the_root_names_the_version_and_needs_no_token(world):
    answer = await world.ask("GET", "http://fts.test//", token="")
    assert answer.status_code == 200
    assert set(answer.json()["api"]) == {"major", "minor", "patch"}


async def test_whoami_has_what_ftss_client_reads(world):
    body = (await world.ask("GET", "http://fts.test//whoami", groups=("climate", "ocean"))).json()
    assert body["dn"] == ["alice"]
    assert body["vos"] == ["climate", "ocean"]
    assert len(body["vos_id"]) == 2
    assert (body["method"], len(body["delegation_id"])) == ("oauth2", 16)
    assert body["base_id"]


@pytest.mark.parametrize("kind", ["missing", "forged", "expired", "audience"])
async def test_a_token_that_proves_nobody_is_401_with_the_reason(world, kind):
    token = {
        "missing": "", "forged": world.issuer.forged(), "expired": world.issuer.expired(),
        "audience": world.issuer.token(aud="https://other.test"),
    }[kind]  # fmt: skip
    answer = await world.ask("GET", "/jobs", token=token)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["status"] == "401 Unauthorized"
    assert answer.json()["message"]


async def test_put_submits_as_well_as_post(world):
    body = {"files": [{"sources": ["https://a/x"], "destinations": ["https://b/x"]}]}
    answer = await world.ask("PUT", "/jobs", json=body)
    assert (answer.status_code, list(answer.json())) == (200, ["job_id"])


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"files": []}', b'{"files": [{}]}'])
async def test_a_bad_submission_is_400_with_ftss_body(world, body):
    answer = await world.ask("POST", "/jobs", content=body)
    assert answer.status_code == 400
    assert answer.json()["status"] == "400 Bad Request"
    assert answer.json()["message"]


async def test_the_same_sid_is_409(world):
    params = {"id_generator": "deterministic", "sid": "r-1"}
    assert (await world.submit("a", params=params)).status_code == 200
    assert (await world.submit("b", params=params)).status_code == 409


async def test_one_job_is_an_object_and_several_are_a_list(world):
    first, second = await world.job("a"), await world.job("b")
    fields = "file_state,dest_surl,finish_time,start_time,staging_start,staging_finished,reason,"
    fields += "source_surl,file_metadata"
    one = (await world.ask("GET", f"/jobs/{first}", params={"files": fields})).json()
    assert (one["job_id"], one["job_state"], one["job_type"]) == (first, "SUBMITTED", "N")
    assert one["job_metadata"] == {"issuer": "rucio"}
    assert set(one["files"][0]) == set(fields.split(","))
    assert one["files"][0]["file_metadata"] == {"request_id": "a"}
    both = await world.ask("GET", f"/jobs/{first},{second}", params={"files": fields})
    assert [job["http_status"] for job in both.json()] == ["200 Ok", "200 Ok"]
    mixed = await world.ask("GET", f"/jobs/{first},{UNKNOWN}")
    assert mixed.status_code == 207
    assert mixed.json()[1]["http_status"] == "404 Not Found"


async def test_an_unknown_job_is_404_everywhere(world):
    for method, path in (
        ("GET", f"/jobs/{UNKNOWN}"), ("GET", f"/jobs/{UNKNOWN}/files"),
        ("GET", f"/jobs/{UNKNOWN}/job_state"), ("DELETE", f"/jobs/{UNKNOWN}"),
        ("DELETE", f"/jobs/{UNKNOWN}/files/1"), ("GET", f"/jobs/{UNKNOWN}/files/1/retries"),
    ):  # fmt: skip
        answer = await world.ask(method, path)
        assert answer.status_code == 404, path
        assert answer.json()["status"] == "404 Not Found"


async def test_files_fields_and_retries_are_shown(world):
    job_id = await world.job("a")
    (file,) = (await world.ask("GET", f"/jobs/{job_id}/files")).json()
    assert (file["file_state"], file["user_filesize"], file["source_se"]) == (
        "SUBMITTED", 7, "https://a:1",
    )  # fmt: skip
    assert (await world.ask("GET", f"/jobs/{job_id}/dm")).json() == []
    assert (await world.ask("GET", f"/jobs/{job_id}/priority")).json() == 3
    assert (await world.ask("GET", f"/jobs/{job_id}/nonsense")).status_code == 404
    async with world.store.begin() as unit:
        row = (await unit.files([job_id]))[0]
        await unit.change(row, [row.state], state="ACTIVE")
        job, row = (await unit.jobs([job_id]))[0], (await unit.files([job_id]))[0]
    await world.ledger.failed(job, row, fault_of_text(Scope.TRANSFER, "COPY", "timed out"))
    path = f"/jobs/{job_id}/files/{file['file_id']}/retries"
    (attempt,) = (await world.ask("GET", path)).json()
    assert (attempt["attempt"], attempt["reason"]) == (1, "TRANSFER [110] COPY timed out")


async def test_a_priority_is_changed_within_its_bounds(world):
    job_id = await world.job("a")
    good = await world.ask("POST", f"/jobs/{job_id}", json={"params": {"priority": 5}})
    assert good.json()["priority"] == 5
    for bad in ({"params": {"priority": 6}}, {"params": {"priority": "5"}}, {"params": {}}, []):
        assert (await world.ask("POST", f"/jobs/{job_id}", json=bad)).status_code == 400


async def test_cancelling_answers_with_the_state_that_is_left(world):
    first, second = await world.job("a"), await world.job("b")
    one = await world.ask("DELETE", f"/jobs/{first}")
    assert (one.status_code, one.json()["job_state"]) == (200, "CANCELED")
    both = await world.ask("DELETE", f"/jobs/{first},{second}")
    assert both.status_code == 207
    assert [job["http_status"] for job in both.json()] == ["304 Not Modified", "200 Ok"]


async def test_single_files_are_cancelled_by_id(world):
    job_id = await world.job("a", "b")
    files = (await world.ask("GET", f"/jobs/{job_id}/files")).json()
    ids = [str(file["file_id"]) for file in files]
    one = await world.ask("DELETE", f"/jobs/{job_id}/files/{ids[0]}")
    assert one.json() == "CANCELED"
    two = await world.ask("DELETE", f"/jobs/{job_id}/files/{','.join(ids)}")
    assert two.json() == ["CANCELED", "CANCELED"]
    assert (await world.ask("DELETE", f"/jobs/{job_id}/files/x")).status_code == 400


async def test_lists_are_narrowed_and_hide_other_groups_jobs(world):
    mine = await world.job("a")
    other = await world.job("b", sub="bob", groups=("hydrology",))
    listed = (await world.ask("GET", "/jobs?vo_name=climate&limit=5")).json()
    assert [job["job_id"] for job in listed] == [mine]
    assert (await world.ask("GET", "/jobs?state_in=FINISHED,FAILED")).json() == []
    assert (await world.ask("GET", "/jobs?source_se=https://a:1&dest_se=https://b:2")).json()
    assert (await world.ask("GET", "/jobs?dest_se=https://c:2")).json() == []
    assert (await world.ask("GET", "/jobs?state_in=NONSENSE")).status_code == 400
    assert (await world.ask("GET", "/jobs?time_window=1&fields=job_id")).json() == [
        {"job_id": mine}
    ]
    assert (await world.ask("GET", f"/jobs/{other}")).status_code == 403
    assert (await world.ask("DELETE", f"/jobs/{other}")).status_code == 403


async def test_no_answer_holds_a_token(world):
    file = {"sources": ["https://a/x"], "destinations": ["https://b/x"]}
    tokens = {"source_tokens": ["sesame-1"], "destination_tokens": ["sesame-2"]}
    body = {"files": [file | tokens]}
    job_id = (await world.ask("POST", "/jobs", json=body)).json()["job_id"]
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/files", "/jobs"):
        assert "sesame" not in (await world.ask("GET", path)).text


async def test_health_is_open_and_metrics_and_docs_want_a_token(world):
    assert (await world.ask("GET", "/healthz", token="")).status_code == 200
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert (await world.ask("GET", path, token="")).status_code == 401
        assert (await world.ask("GET", path)).status_code == 200
