"""Child processes that are kept alive, and ended for sure."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import psutil
import pytest

from twinfra.core.errors import Unavailable
from twinfra.core.supervisor import Child, Supervisor
from twinfra.testkit.waiting import wait_for

SLEEP = ["sleep", "1000"]
LOOP = "while :; do sleep 0.05; done"


async def yes():
    return True


async def no():
    return False


@pytest.fixture
def place(tmp_path):
    """Makes supervisors with folders of their own."""
    (tmp_path / "logs").mkdir()
    return lambda *children: Supervisor(children, logs=tmp_path / "logs", pids=tmp_path / "run")


@asynccontextmanager
async def started(supervisor):
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def other_process(argv=SLEEP, **options):
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options)


def script(text, path, ready=None):
    """A child that says "up" and then does as told."""

    async def says_up():
        return path.exists()

    return ["sh", "-c", f"{text}; touch {path}; {LOOP}"], ready or says_up


@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_a_child_comes_back_when_it_is_killed(place):
    async with started(place(Child("a", SLEEP, yes), Child("b", SLEEP, yes))) as supervisor:
        first, other = supervisor.pid("a"), supervisor.pid("b")
        os.kill(first, signal.SIGKILL)
        await wait_for(lambda: supervisor.pid("a") not in {None, first})
        assert supervisor.pid("b") == other
    assert supervisor.pid("a") is None
    assert gone(other)


async def test_a_child_comes_back_when_it_ends_at_once_and_often(place, tmp_path):
    count = tmp_path / "count"
    argv = ["sh", "-c", f"echo x >> {count}"]
    async with started(place(Child("a", argv, yes))):
        await wait_for(lambda: count.exists() and len(count.read_text()) >= 6)


async def test_a_child_comes_back_when_it_could_not_be_started_for_a_while(place, tmp_path):
    program = tmp_path / "program"
    program.symlink_to("/bin/sleep")
    async with started(place(Child("a", [str(program), "1000"], yes))) as supervisor:
        first = supervisor.pid("a")
        program.unlink()
        os.kill(first, signal.SIGKILL)
        await wait_for(lambda: supervisor.pid("a") is None)
        program.symlink_to("/bin/sleep")
        await wait_for(lambda: supervisor.pid("a") not in {None, first})


async def test_children_wait_for_the_stage_before_when_they_start(place, tmp_path):
    up = tmp_path / "up"
    argv, ready = script("sleep 0.2", up)
    late = ["sh", "-c", f"test -e {up} && touch {tmp_path}/late; {LOOP}"]

    async def late_ready():
        return (tmp_path / "late").exists()

    children = (
        Child("late", late, late_ready, ready_within_s=20, stage=1),
        Child("a", argv, ready),
    )
    async with started(place(*children)):
        assert (tmp_path / "late").exists()


async def test_children_stop_from_the_last_stage_when_all_stop(place, tmp_path):
    order, children = tmp_path / "order", []
    for stage, name in enumerate("abc"):
        trap = f"trap 'sleep 0.1; echo {name} >> {order}; exit' TERM"
        children.append(Child(name, *script(trap, tmp_path / f"up-{name}"), stage=stage))
    async with started(place(*children)):
        pass
    assert order.read_text().split() == ["c", "b", "a"]
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("drain", "words"), [(True, ["a USR1", "b TERM"]), (False, ["a TERM", "b TERM"])]
)
async def test_children_end_their_work_when_they_are_asked_so(place, tmp_path, drain, words):
    children = []
    for name, wanted in (("a", signal.SIGUSR1), ("b", signal.SIGTERM)):
        traps = [f"trap 'echo {name} {s} >> {tmp_path}/{name}; exit' {s}" for s in ("USR1", "TERM")]
        argv, ready = script("; ".join(traps), tmp_path / f"up-{name}")
        children.append(Child(name, argv, ready, drain_signal=wanted))
    supervisor = place(*children)
    await supervisor.start()
    await supervisor.stop(drain=drain)
    assert [(tmp_path / name).read_text().strip() for name in "ab"] == words


async def test_a_child_is_killed_when_it_does_not_listen(place, tmp_path, monkeypatch):
    monkeypatch.setattr("twinfra.core.supervisor.STOP_WITHIN_S", 0.2)
    argv, ready = script("trap '' TERM", tmp_path / "up")
    async with started(place(Child("deaf", argv, ready))) as supervisor:
        pid = supervisor.pid("deaf")
    assert gone(pid)


async def test_starting_fails_with_the_log_named_when_a_child_is_not_ready(place, tmp_path):
    supervisor = place(
        Child("a", SLEEP, yes), Child("b", SLEEP, no, ready_within_s=0.3, stage=1)
    )  # fmt: skip
    starting = asyncio.create_task(supervisor.start())
    first = await wait_for(lambda: supervisor.pid("a"))
    with pytest.raises(Unavailable, match=rf"b did not become ready; its log is {tmp_path}"):
        await starting
    assert gone(first)
    assert supervisor.pid("b") is None


async def test_starting_fails_at_once_when_a_child_ends(place, tmp_path):
    with pytest.raises(Unavailable, match="a did not become ready"):
        async with asyncio.timeout(30):
            await place(Child("a", ["sh", "-c", "echo why; exit 3"], no)).start()
    assert (tmp_path / "logs" / "a.log").read_text() == "why\n"


async def test_what_a_supervisor_left_is_ended_when_the_next_one_starts(place, tmp_path):
    left = other_process()
    noted = {"pid": left.pid, "started_at": psutil.Process(left.pid).create_time()}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.pid").write_text(json.dumps(noted))
    async with started(place(Child("a", SLEEP, yes))) as supervisor:
        assert gone(left.pid)
        assert json.loads((tmp_path / "run" / "a.pid").read_text())["pid"] == supervisor.pid("a")
    left.wait()


@pytest.mark.parametrize("noted", ["another start", "nonsense", "no process"])
async def test_nobody_else_is_ended_when_the_note_is_not_of_our_child(place, tmp_path, noted):
    other = other_process()
    began = psutil.Process(other.pid).create_time()
    text = {
        "another start": json.dumps({"pid": other.pid, "started_at": began - 3600}),
        "nonsense": "{",
        "no process": json.dumps({"pid": 2**22 + 1, "started_at": began}),
    }[noted]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.pid").write_text(text)
    async with started(place(Child("a", SLEEP, yes))):
        assert other.poll() is None
    other.kill()
    other.wait()


PARENT = """
import asyncio, sys
from pathlib import Path
from twinfra.core.supervisor import Child, Supervisor
from twinfra.core.telemetry import configure_logging

configure_logging("parent")

async def yes():
    return True

async def main(folder):
    supervisor = Supervisor([Child("a", ["sleep", "1000"], yes)], logs=folder, pids=folder)
    await supervisor.start()
    print(supervisor.pid("a"), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_children_die_with_it_when_the_supervisor_is_killed(tmp_path):
    with (tmp_path / "err").open("wb") as errors:
        argv = [sys.executable, "-c", PARENT, str(tmp_path)]
        parent = other_process(argv, stdout=subprocess.PIPE, stderr=errors)
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await wait_for(lambda: gone(child))
