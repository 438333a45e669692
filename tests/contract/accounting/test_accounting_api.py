"""Accounting over a socket, on both databases: kept once, shown to whom it belongs."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import delete

from twinfra.accounting.api import build_app
from twinfra.accounting.client import AccountingClient
from twinfra.accounting.model import (
    Filter,
    JobUsage,
    Person,
    StorageUsage,
    TransferUsage,
    to_json,
)
from twinfra.accounting.service import Accounting
from twinfra.accounting.settings import AccountingSettings
from twinfra.accounting.store import RecordStore, usage_records
from twinfra.core.database import Database
from twinfra.core.errors import InsufficientScope, InvalidRequest, NotFound, Unauthenticated
from twinfra.core.home import Home
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context, Listener, Service
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import free_port
from twinfra.testkit.serving import serving

END = datetime(2026, 6, 1, 12, tzinfo=UTC)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def issuer():
    with TestIssuer() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def kept(request, tmp_path_factory):
    """One database of each engine a test file."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path_factory.mktemp('db')}/accounting.sqlite")
    else:
        made = Database(request.getfixturevalue("postgres_url"), schema="accounting_api")
    await made.migrate("twinfra.accounting.migrations")
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory, kept, issuer):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    settings = AccountingSettings(batch_limit=50, page_limit=10)
    accounting = Accounting(settings, RecordStore(kept), SYSTEM_CLOCK)
    app = build_app(accounting, issuer.authenticator(base))
    doors = [Listener(app, port, tls=False)]
    context = Context(Home(tmp_path_factory.mktemp("home")))
    async with serving(context, Service("accounting", listeners=doors)):
        yield base


@pytest_asyncio.fixture(loop_scope="module")
async def url(service, kept):
    """The service, with no record yet."""
    async with kept.begin() as connection:
        await connection.execute(delete(usage_records))
    return service


@pytest_asyncio.fixture(loop_scope="module")
async def client_of(url, issuer):
    """Return a maker of clients: of a service (``plugin@hpc-b``) or a person and their groups."""
    made = []

    def make(name, *groups):
        service = not groups
        token = (
            issuer.service_token(name, aud=url)
            if service
            else issuer.token(name, [g for g in groups if g], aud=url)
        )

        async def source():
            return token

        client = AccountingClient(HttpClient(url, token=source))
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


@pytest.fixture
def job(issuer):
    def make(number=1, sub="alice", group="climate", **more):
        return JobUsage(
            **{
                "id": f"job-{number}",
                "site": "hpc-b",
                "person": Person(issuer.url, sub),
                "group": group,
                "deployment": "d-1",
                "started_at": END - timedelta(seconds=100),
                "ended_at": END + timedelta(seconds=number),
                "local_job_id": str(number),
                "wall_s": 100,
                "cpu_s": 150,
                "processors": 2,
                **more,
            }
        )

    return make


async def test_record_is_kept_once_when_it_is_sent_again(client_of, job):
    plugin = client_of("plugin@hpc-b")

    first = await plugin.post([job(1), job(2)])
    again = await plugin.post([job(1), job(2), job(3)])

    assert (first.accepted, first.repeated) == (2, 0)
    assert (again.accepted, again.repeated, again.rejected) == (1, 2, ())
    page = await client_of("alice", "climate").records()
    assert [record.id for record in page.records] == ["job-3", "job-2", "job-1"]
    assert page.records[2] == job(1)


async def test_record_is_rejected_when_its_id_has_another_content(client_of, job):
    plugin = client_of("plugin@hpc-b")
    await plugin.post([job(1)])

    receipt = await plugin.post([replace(job(1), cpu_s=1), job(2)])

    assert receipt.accepted == 1
    assert [rejection.id for rejection in receipt.rejected] == ["job-1"]
    (kept,) = (await client_of("alice", "climate").records(Filter(kind="job"))).records[1:]
    assert kept.cpu_s == 150


async def test_good_records_are_kept_when_others_of_the_batch_are_not(client_of, job, url, issuer):
    plugin = client_of("plugin@hpc-b")
    bad = [
        {**to_json(job(2)), "wall_s": -1},
        {**to_json(job(3)), "queue": "a%%b"},
        {"id": "job-4"},
        {**to_json(job(5)), "site": "cloud-a"},
        {**to_json(job(6)), "ended_at": "2020-01-01T00:00:00Z"},
        {**to_json(job(7)), "ended_at": "2099-01-01T00:00:00Z"},
    ]
    token = issuer.service_token("plugin@hpc-b", aud=url)
    http = HttpClient(url)
    reply = await http.request(
        "POST", "/records", json={"records": [to_json(job(1)), *bad]}, token=token
    )
    await http.close()

    assert reply.json()["accepted"] == 1
    assert [entry["id"] for entry in reply.json()["rejected"]] == [f"job-{n}" for n in range(2, 8)]
    assert "may not report for site cloud-a" in reply.json()["rejected"][3]["reason"]
    assert (await plugin.records()).records == (job(1),)


async def test_report_is_refused_when_it_is_not_from_a_reporting_service(client_of, job):
    for sender in (client_of("alice", "climate"), client_of("monitoring")):
        with pytest.raises(InsufficientScope):
            await sender.post([job(1)])


async def test_batch_is_refused_when_it_is_too_long(client_of, job):
    with pytest.raises(InvalidRequest):
        await client_of("plugin@hpc-b").post([job(number) for number in range(51)])


async def test_central_service_reports_for_every_site(client_of, job, issuer):
    moved = TransferUsage(
        id="t-1",
        site="cloud-a",
        person=Person(issuer.url, "alice"),
        group="climate",
        started_at=END,
        ended_at=END,
        source_site="edge-c",
        dest_site="cloud-a",
        size_bytes=12_000_000,
        duration_s=3.2,
    )
    stored = StorageUsage(
        id="s-1", site="hpc-b", started_at=END, ended_at=END, rse="HPC-B", used_bytes=7
    )

    assert (await client_of("transfers").post([moved])).accepted == 1
    assert (await client_of("datasets").post([stored])).accepted == 1


async def test_people_see_their_own_and_their_groups_records(client_of, job):
    plugin = client_of("plugin@hpc-b")
    await plugin.post(
        [
            job(1, "alice", "climate"),
            job(2, "carol", "climate", local_user="grid7"),
            job(3, "bob", "hydrology"),
            job(4, "alice", None),
        ]
    )

    async def seen(client):
        return {record.id: record.person.sub for record in (await client.records()).records}

    assert await seen(client_of("alice", "climate")) == {
        "job-1": "alice",
        "job-2": "withheld",
        "job-4": "alice",
    }
    assert await seen(client_of("bob", "hydrology")) == {"job-3": "bob"}
    assert await seen(client_of("eve", "")) == {}
    assert len(await seen(client_of("oscar", "operators"))) == 4
    assert len(await seen(client_of("deployments"))) == 4


async def test_equal_subject_of_another_issuer_sees_nothing(client_of, job, url):
    await client_of("plugin@hpc-b").post(
        [job(1, group=None, person=Person("https://other.test", "alice"))]
    )

    assert (await client_of("alice", "climate").records()).records == ()


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Filter(site="cloud-a"), []),
        (Filter(kind="storage"), []),
        (Filter(deployment="d-2"), ["job-2"]),
        (Filter(group="climate", sub="alice"), ["job-3", "job-2", "job-1"]),
        (Filter(since=END + timedelta(seconds=2)), ["job-3", "job-2"]),
        (Filter(until=END + timedelta(seconds=2)), ["job-1"]),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_records_are_narrowed_when_a_filter_is_given(client_of, job, wanted, ids):
    await client_of("plugin@hpc-b").post([job(1), job(2, deployment="d-2"), job(3)])

    page = await client_of("alice", "climate").records(wanted)

    assert [record.id for record in page.records] == ids


async def test_pages_follow_each_other_when_there_are_many_records(client_of, job):
    jobs = [job(number, ended_at=END) for number in range(20)] + [job(n) for n in range(20, 25)]
    await client_of("plugin@hpc-b").post(jobs)
    alice, seen, after = client_of("alice", "climate"), [], None
    while True:
        page = await alice.records(after=after)
        assert len(page.records) <= 10
        seen += [record.id for record in page.records]
        after = page.next
        if after is None:
            break

    assert len(seen) == 25
    assert set(seen) == {job.id for job in jobs}
    naive = base64.urlsafe_b64encode(b"2026-01-01T00:00:00 x").decode()
    for nonsense in ("nonsense", "\u00e9", naive):
        with pytest.raises(InvalidRequest):
            await alice.records(after=nonsense)


async def test_sums_are_of_what_the_caller_sees(client_of, job):
    plugin = client_of("plugin@hpc-b")
    await plugin.post([job(1), job(2, "carol"), job(3, "bob", "hydrology", gpus=0.5)])

    (climate,) = await client_of("alice", "climate").summaries(by=("month", "site", "group"))
    own = await client_of("alice", "climate").summaries(by=("sub",))
    everyone = await plugin.summaries(by=("group",))

    assert climate == {
        "month": "2026-06",
        "site": "hpc-b",
        "group": "climate",
        "record_count": 2,
        "wall_s": 200,
        "cpu_s": 300,
        "core_s": 400,
        "gpu_s": 0.0,
        "size_bytes": 0,
    }
    assert [(row["sub"], row["record_count"]) for row in own] == [("alice", 1)]
    assert [(row["group"], row["gpu_s"]) for row in everyone] == [("climate", 0), ("hydrology", 50)]
    with pytest.raises(InvalidRequest):
        await plugin.summaries(by=("iss; DROP TABLE usage_records",))


@pytest.mark.story("the APEL job message of a job can be printed")
async def test_apel_message_of_a_job_is_given_to_who_may_see_it(client_of, job):
    await client_of("plugin@hpc-b").post([job(1), job(2, id="job:hpc-b/2 x?")])

    message = await client_of("alice", "climate").apel("job-1")
    other = await client_of("alice", "climate").apel("job:hpc-b/2 x?")

    assert message.startswith("APEL-individual-job-message: v0.3\nSite: hpc-b\n")
    assert "FQAN: /climate\n" in message
    assert "LocalJobId: 2\n" in other
    with pytest.raises(NotFound):
        await client_of("bob", "hydrology").apel("job-1")


async def test_no_apel_message_is_given_when_the_record_is_no_job(client_of):
    stored = StorageUsage(
        id="s-1", site="hpc-b", started_at=END, ended_at=END, rse="HPC-B", used_bytes=7
    )
    await client_of("datasets").post([stored])

    with pytest.raises(InvalidRequest):
        await client_of("datasets").apel("s-1")


async def test_token_is_demanded_when_anything_is_asked(url):
    http = HttpClient(url)
    for method, path in (
        ("GET", "/records"),
        ("POST", "/records"),
        ("GET", "/summaries"),
        ("GET", "/records/x/apel"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
    ):
        with pytest.raises(Unauthenticated):
            await http.request(method, path)
    assert (await http.request("GET", "/healthz")).status == 200
    await http.close()
