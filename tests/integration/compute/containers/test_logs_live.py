"""Logs while they are written, and how much of them is kept."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from twinfra.compute.containers.handle import LogQuery
from twinfra.core.errors import NotFound
from twinfra.testkit.waiting import wait_for


async def test_new_lines_are_followed_until_the_end(bench, bubblewrap):
    script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.15; done"
    item = bench.container(bubblewrap, "sh", "-c", script)
    handle = await bench.start(bench.plan(bubblewrap, item))
    await wait_for(lambda: handle.state().phase == "Running")
    seen = []
    async for line in handle.follow_logs(LogQuery("main", timestamps=True)):
        written, _, text = line.decode().partition(" ")
        age_s = time.time() - datetime.fromisoformat(written[:26] + "+00:00").timestamp()
        seen.append((text, age_s))
    assert [text for text, _ in seen] == [f"line {i}\n" for i in range(1, 6)]
    assert max(age_s for _, age_s in seen) < 1.0


async def test_follow_ends_with_its_container_when_another_runs_on(bench, bubblewrap):
    items = [
        bench.container(bubblewrap, "sh", "-c", "sleep 0.5; echo done", name="first"),
        bench.container(bubblewrap, "sleep", "300", name="second"),
    ]
    handle = await bench.start(bench.plan(bubblewrap, *items))
    await wait_for(lambda: handle.state().phase == "Running")

    async def read():
        return [line async for line in handle.follow_logs(LogQuery("first"))]

    task = asyncio.create_task(read())
    assert await asyncio.wait_for(task, 10) == [b"done\n"]
    assert handle.state().phase == "Running"


async def test_follow_ends_when_the_keeper_dies(bench, bubblewrap):
    item = bench.container(bubblewrap, "sh", "-c", "echo up; sleep 300")
    handle = await bench.start(bench.plan(bubblewrap, item))

    async def read():
        return [line async for line in handle.follow_logs(LogQuery("main"))]

    await wait_for(lambda: handle.state().phase == "Running" and bench.logs())
    task = asyncio.create_task(read())
    await handle.prove_gone()
    assert await asyncio.wait_for(task, 5) == [b"up\n"]


async def test_only_the_newest_lines_are_kept_when_a_container_talks_too_much(bench, bubblewrap):
    item = bench.container(bubblewrap, "sh", "-c", "seq 1 60000; sleep 0.2; echo end")
    plan = replace(bench.plan(bubblewrap, item), log_limit_bytes=400_000)
    state = await bench.run(plan)
    assert state.phase == "Succeeded"
    folder = bench.jobdir / "attempts" / "1" / "logs" / "main"
    size_bytes = sum(path.stat().st_size for path in folder.iterdir())
    assert size_bytes < 500_000
    lines = bench.logs().splitlines()
    assert lines[-1] == "end"
    numbers = [int(line) for line in lines[:-1]]
    assert numbers == list(range(numbers[0], 60001))


async def test_long_and_binary_lines_arrive_whole(bench, bubblewrap):
    script = "head -c 50000 /dev/zero | tr '\\0' 'x'; echo; printf 'a\\377\\0b\\r'"
    item = bench.container(bubblewrap, "sh", "-c", script)
    await bench.run(bench.plan(bubblewrap, item))
    first, second = bench.handles[0].read_logs(LogQuery("main"))
    assert first == b"x" * 50000 + b"\n"
    assert second == b"a\xff\0b\r\n"


async def test_a_log_that_is_not_there_is_not_found(bench, bubblewrap):
    await bench.shell(bubblewrap, "true")
    for query in (
        LogQuery("other"),
        LogQuery("../main"),
        LogQuery("main", previous=True),
        LogQuery("main", attempt=2),
    ):
        with pytest.raises(NotFound):
            bench.handles[0].read_logs(query)


async def test_since_and_tail_choose_lines(bench, bubblewrap):
    await bench.shell(bubblewrap, "echo a; echo b; echo c")
    assert bench.logs(tail_lines=2) == "b\nc\n"
    assert bench.logs(tail_lines=0) == ""
    assert bench.logs(limit_bytes=3) == "a\nb"
    assert bench.logs(since=datetime.now(UTC) + timedelta(seconds=5)) == ""
    assert bench.logs(since=datetime.now(UTC) - timedelta(seconds=60)) == "a\nb\nc\n"
