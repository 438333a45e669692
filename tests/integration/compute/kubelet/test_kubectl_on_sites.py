"""What kubectl asks of one pod, over real containers of a local site and of one on Slurm."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN_S = 60.0


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.real("slurm"))])
def house(request):
    return request.getfixturevalue(f"{request.param}_house")


def shell(script, **more):
    limits = {"limits": {"cpu": "1", "memory": "64Mi"}}
    return {"image": BUSYBOX, "command": ["sh", "-c", script], "resources": limits, **more}


class Talk:
    """A kubectl that is still running, and both its ends."""

    def __init__(self, process):
        self._process = process

    async def says(self):
        line = await asyncio.wait_for(self._process.stdout.readline(), WITHIN_S)
        return line.decode()

    async def rest(self):
        """Return what it says until it ends by itself, and its exit code."""
        said = await asyncio.wait_for(self._process.stdout.read(), WITHIN_S)
        return said.decode(), await asyncio.wait_for(self._process.wait(), WITHIN_S)

    async def hears(self, text):
        self._process.stdin.write(text.encode())
        await self._process.stdin.drain()

    def hangs_up(self):
        self._process.stdin.close()


@asynccontextmanager
async def talking(pods, *args):
    process = await asyncio.create_subprocess_exec(
        *pods.cluster.kubectl_command("-n", pods.namespace, *args),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env=pods.cluster.environment,
    )  # fmt: skip
    try:
        yield Talk(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def logs(pods, *args):
    return (await pods.kubectl("logs", "train-0", *args)).stdout


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_logs_shows_the_part_that_is_asked_for(pods, node):
    inits = [{"name": "before", **shell("echo prepared")}]
    script = "echo one; echo two; sleep 2; echo three; echo four >&2"
    await pods.create(container=shell(script), initContainers=inits)
    await pods.until_phase("train-0", "Succeeded")
    whole = "one\ntwo\nthree\nfour\n"
    assert await logs(pods) == whole
    assert await logs(pods, "--tail=2") == "three\nfour\n"
    assert await logs(pods, "--limit-bytes=6") == whole[:6]
    assert await logs(pods, "--tail=2", "--limit-bytes=7") == "three\nf"
    assert await logs(pods, "-c", "before") == "prepared\n"
    stamped = (await logs(pods, "--timestamps")).splitlines()
    assert [line.split()[1] for line in stamped] == whole.split()
    since = stamped[2].split()[0]
    assert await logs(pods, f"--since-time={since}") == "three\nfour\n"


@pytest.mark.story("containerLogs: since, as kubectl logs --since asks for it")
async def test_logs_shows_what_is_new_enough_while_the_container_runs(pods, node):
    await pods.create(container=shell("echo old; sleep 4; while :; do echo new; sleep 0.2; done"))

    async def said():
        return "new" in (await pods.kubectl("logs", "train-0", check=False)).stdout

    await wait_for(said, timeout_s=WITHIN_S, what="its later lines")
    assert set((await logs(pods, "--since=2s")).split()) == {"new"}
    assert (await logs(pods, "--since=1h")).startswith("old\nnew\n")


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_logs_shows_the_run_before_when_a_container_was_started_again(pods, node):
    script = "if mkdir /keep/seen 2>/dev/null; then echo first; exit 1; fi; echo second"
    await pods.create(
        container=shell(script, volumeMounts=[{"name": "keep", "mountPath": "/keep"}]),
        volumes=[{"name": "keep", "emptyDir": {}}],
        restartPolicy="OnFailure",
    )
    await pods.until_phase("train-0", "Succeeded")
    assert await logs(pods, "--previous") == "first\n"
    assert await logs(pods) == "second\n"


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_logs_follows_until_the_container_ends(pods, node):
    await pods.create(
        container=shell("echo first; until [ -e /tmp/go ]; do sleep 0.1; done; echo last")
    )
    await pods.until_phase("train-0", "Running")
    async with talking(pods, "logs", "-f", "train-0") as follower:
        assert await follower.says() == "first\n"
        await pods.kubectl("exec", "train-0", "--", "touch", "/tmp/go")
        assert await follower.rest() == ("last\n", 0)
    await pods.until_phase("train-0", "Succeeded")


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_attach_reaches_the_input_of_a_container_again_and_again(pods, node):
    echoing = 'while read -r line && [ "$line" != bye ]; do echo "heard $line"; done; echo ended'
    await pods.create(container=shell(echoing, stdin=True))
    await pods.until_phase("train-0", "Running")
    for word in ("one", "two"):
        async with talking(pods, "attach", "-i", "train-0") as caller:
            await caller.hears(f"{word}\n")
            assert await caller.says() == f"heard {word}\n"
    async with talking(pods, "attach", "-i", "train-0") as caller:
        await caller.hears("bye\n")
        assert await caller.rest() == ("ended\n", 0)
    await pods.until_phase("train-0", "Succeeded")


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_attach_ends_the_input_when_the_container_wants_one_caller(pods, node):
    await pods.create(container=shell("cat; echo ended", stdin=True, stdinOnce=True))
    await pods.until_phase("train-0", "Running")
    async with talking(pods, "attach", "-i", "train-0") as caller:
        await caller.hears("through\n")
        assert await caller.says() == "through\n"
        caller.hangs_up()
        assert await caller.rest() == ("ended\n", 0)
    await pods.until_phase("train-0", "Succeeded")


@pytest.mark.story("terminationGracePeriodSeconds: a real container has time to end")
async def test_delete_runs_the_hook_and_then_the_handler_of_a_container(pods, node):
    handler = "[ -e /tmp/hooked ] && echo hooked; echo terminated; exit 0"
    script = f"trap '{handler}' TERM; echo ready; while :; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["touch", "/tmp/hooked"]}}}
    await pods.create(container=shell(script, lifecycle=hook))
    await pods.until_phase("train-0", "Running")
    async with talking(pods, "logs", "-f", "train-0") as follower:
        assert await follower.says() == "ready\n"
        await pods.kubectl("delete", "pod", "train-0", "--grace-period=10")
        assert await follower.rest() == ("hooked\nterminated\n", 0)
    assert await pods.get() is None


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_kubectl_reaches_into_a_running_container(pods, node, tmp_path):
    serves = (
        "echo ready; mkdir /tmp/www; echo hello > /tmp/www/f; exec httpd -f -p 8080 -h /tmp/www"
    )
    await pods.create(container=shell(serves))
    await pods.until_phase("train-0", "Running")

    async def said():
        return "ready" in (await pods.kubectl("logs", "train-0", check=False)).stdout

    await wait_for(said, timeout_s=WITHIN_S, what="its log")
    done = await pods.kubectl("exec", "train-0", "--", "sh", "-c", "echo out; exit 3", check=False)
    assert (done.stdout, done.returncode) == ("out\n", 3)
    done = await pods.kubectl("exec", "-i", "train-0", "--", "cat", stdin="through\n")
    assert done.stdout == "through\n"
    await pods.kubectl("cp", "train-0:/tmp/www/f", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "hello\n"
    forward = await asyncio.create_subprocess_exec(
        *pods.cluster.kubectl_command("-n", pods.namespace, "port-forward", "pod/train-0", ":8080"),
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        env=pods.cluster.environment,
    )  # fmt: skip
    try:
        line = (await asyncio.wait_for(forward.stdout.readline(), 60)).decode()
        port = int(line.split("127.0.0.1:")[1].split()[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /f HTTP/1.0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.endswith(b"hello\n")
        writer.close()
    finally:
        forward.kill()
        await forward.wait()
    await pods.kubectl("delete", "pod", "train-0", "--grace-period=1")
    await pods.until_gone()
