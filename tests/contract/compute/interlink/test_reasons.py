"""Why a pod waits, or ended, is told through both hops: in statuses and in events."""

import asyncio

import pytest

from twinfra.compute.interlink.client import ContainerPhase, PodCreateRequest, PodPhase
from twinfra.testkit.waiting import wait_for


async def made(house, pod, **spec):
    body = pod(**spec)
    await house.client().create(PodCreateRequest(body))
    uid = body["metadata"]["uid"]
    await wait_for(lambda: uid in house.site.submissions, timeout_s=60, what="the job")
    return body, uid


async def until(house, body, reached):
    async def look():
        found = await house.client().status([body])
        return [report for report in found if reached(report)]

    return (await wait_for(look, timeout_s=60, what="the report"))[0]


@pytest.mark.story("queue reason and position as events")
async def test_the_queues_reason_and_place_are_kept_through_both_hops(house, pod):
    body, uid = await made(house, pod)
    report = await until(house, body, lambda r: r.reason == "Priority")
    main = report.containers[0]
    assert (main.phase, main.reason) == (ContainerPhase.WAITING, "Priority")
    assert main.message == "number 1 in the queue"
    seen = []

    async def listen():
        async for event in house.client().events():
            if event.report is not None and event.report.uid == uid:
                seen.append(event.report.phase)
            if PodPhase.RUNNING in seen:
                return

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    house.site.start(uid)
    await until(house, body, lambda r: r.phase is PodPhase.RUNNING)
    listening.cancel()


@pytest.mark.story("the plug-in's own reasons kept (OOMKilled, Preempted, DeadlineExceeded")
@pytest.mark.parametrize(
    ("code", "reason"), [(137, "OOMKilled"), (143, "Preempted"), (143, "DeadlineExceeded")]
)
async def test_18_the_sites_own_reason_is_kept_through_both_hops(house, pod, code, reason):
    body, uid = await made(house, pod)
    house.site.start(uid)
    house.site.finish(uid, code, reason=reason)
    report = await until(house, body, lambda r: r.phase.final)
    main = report.containers[0]
    assert (report.phase, main.exit_code, main.reason) == (PodPhase.FAILED, code, reason)


async def test_a_pod_that_was_deleted_says_so_and_not_that_it_failed_by_itself(house, pod):
    body, uid = await made(house, pod, restartPolicy="Always")
    house.site.start(uid)
    await until(house, body, lambda r: r.phase is PodPhase.RUNNING)
    told = []

    async def listen():
        async for event in house.client().events():
            if event.report is not None and event.report.uid == uid:
                told.append(event.report)  # noqa: PERF401 - read while it grows

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.5)
    await house.client().delete(body)
    await wait_for(lambda: any(r.phase.final for r in told), timeout_s=60, what="the end")
    listening.cancel()
    end = next(r for r in told if r.phase.final)
    assert (end.reason, end.message) == ("Cancelled", "its end was asked for")
    assert end.containers[0].exit_code == 143
