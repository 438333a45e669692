"""Commands in running containers and containers joined, by each runtime, with real keepers."""

import asyncio
import json
from pathlib import Path

import pytest

from twinfra.compute.containers.keeper import channels
from twinfra.compute.containers.keeper.sessions import MOST_SESSIONS
from twinfra.compute.containers.session import Streams, attach_request, exec_request
from twinfra.core.errors import InvalidRequest, NotFound, RateLimited, Unavailable
from twinfra.testkit.site_contract import hear
from twinfra.testkit.waiting import wait_for

PATIENCE_S = 40


async def hang(bench, runtime, script="trap 'exit 0' TERM; while :; do sleep 0.1; done", **fields):
    """Start a container that runs until it is told to end."""
    item = bench.container(runtime, "sh", "-c", script, **fields)
    handle = await bench.start(bench.plan(runtime, item, termination_grace_s=2.0))
    await wait_for(lambda: handle.state().phase == "Running", timeout_s=PATIENCE_S)
    return handle


async def execute(handle, *command, **streams):
    return await handle.join(exec_request("main", command, Streams(**streams)))


class Reader:
    """Reads a session piece by piece."""

    def __init__(self, session):
        self.session, self.text = session, b""

    async def until(self, *wanted):
        async with asyncio.timeout(PATIENCE_S):
            while not all(word in self.text for word in wanted):
                piece = await self.session.receive()
                assert piece is not None, self.text
                self.text += piece[1:]
        return self.text

    async def type(self, text):
        await self.session.send(b"\0" + text)


@pytest.mark.story("exec, attach and port-forward into the running job")
async def test_a_command_has_streams_of_its_own_and_its_exit_code(bench, runtime):
    handle = await hang(bench, runtime)
    script = 'cat; echo "$1" >&2; exit 42'
    session = await execute(handle, "sh", "-c", script, "sh", "$(id); `id`", stdin=True)
    await session.send(b"\0" + b"x" * 300_000)
    await session.send(b"\0\xff\0")
    await session.send(bytes([channels.CLOSE, channels.STDIN]))
    heard = await hear(session, PATIENCE_S)
    assert heard.out == b"x" * 300_000 + b"\xff\0"
    assert (heard.err, heard.code) == (b"$(id); `id`\n", 42)


async def test_a_command_is_in_the_containers_own_place(bench, runtime):
    handle = await hang(bench, runtime, spec={"env": {"PATH": "/bin", "A": "b c"}})
    script = 'echo "$A"; ls /; id -u; kill -9 $$'
    heard = await hear(await execute(handle, "sh", "-c", script), PATIENCE_S)
    assert heard.out.startswith(b"b c\n")
    assert b"bin" in heard.out
    assert heard.code == 137
    assert heard.err == b""


async def test_a_command_that_is_not_there_says_so(bench, bubblewrap):
    handle = await hang(bench, bubblewrap)
    heard = await hear(await execute(handle, "/no/such"), PATIENCE_S)
    assert (heard.code, heard.err) == (127, b"/no/such: No such file or directory\n")


async def test_much_output_arrives_whole_when_the_reader_is_slow(bench, runtime):
    handle = await hang(bench, runtime)
    session = await execute(handle, "sh", "-c", "yes 0123456 | head -c 4000000")
    await asyncio.sleep(0)
    heard = await hear(session, PATIENCE_S)
    assert len(heard.out) == 4_000_000
    assert heard.code == 0


async def test_a_terminal_has_its_size_its_keys_and_its_prompt(bench, runtime):
    handle = await hang(bench, runtime)
    session = await execute(handle, "sh", "-i", stdin=True, tty=True)
    reader = Reader(session)
    size = json.dumps({"Width": 132, "Height": 43}).encode()
    await session.send(bytes([channels.RESIZE]) + size)
    await session.send(bytes([channels.RESIZE]) + b"junk")
    await reader.type(b"stty size; tty >/dev/null && echo is-a-$((1+1))-tty\n")
    await reader.until(b"43 132\r\n")
    await reader.type(b"sleep 4714\n")
    await wait_for(lambda: sleepers("4714"), timeout_s=PATIENCE_S)
    await reader.type(b"\x03")
    await wait_for(lambda: not sleepers("4714"), timeout_s=PATIENCE_S)
    await reader.type(b"echo after $((40+2))\n")
    await reader.until(b"after 42\r\n")
    await reader.type(b"exit 7\n")
    heard = await hear(session, PATIENCE_S)
    assert heard.code == 7
    assert b"proot" not in reader.text


async def test_a_command_ends_with_all_it_started_when_its_client_leaves(bench, runtime):
    handle = await hang(bench, runtime)
    session = await execute(handle, "sh", "-c", "sleep 4711 & sleep 4711 & echo up; wait")
    await Reader(session).until(b"up")
    await wait_for(lambda: len(sleepers("4711")) >= 2, timeout_s=PATIENCE_S)
    await session.close()
    await wait_for(lambda: not sleepers("4711"), timeout_s=PATIENCE_S)
    assert handle.state().phase == "Running"


async def test_a_client_is_missed_when_its_input_is_not_read(bench, runtime):
    handle = await hang(bench, runtime)
    session = await execute(handle, "sleep", "4712", stdin=True)
    writing = asyncio.create_task(session.send(b"\0" + b"x" * 3_000_000))
    await wait_for(lambda: sleepers("4712"), timeout_s=PATIENCE_S)
    done, _ = await asyncio.wait({writing}, timeout=0.5)
    assert not done
    writing.cancel()
    session._writer.transport.abort()
    await wait_for(lambda: not sleepers("4712"), timeout_s=PATIENCE_S)


async def test_sessions_are_bounded_and_room_comes_back(bench, bubblewrap):
    handle = await hang(bench, bubblewrap)
    held = [await execute(handle, "sleep", "100") for _ in range(MOST_SESSIONS)]
    with pytest.raises(RateLimited):
        await execute(handle, "true")
    for session in held:
        await session.close()

    async def free():
        try:
            return [await execute(handle, "true")]
        except RateLimited:
            return []

    session = (await wait_for(free, timeout_s=PATIENCE_S))[0]
    assert (await hear(session, PATIENCE_S)).code == 0


async def test_a_session_is_refused_for_what_is_not_there(bench, runtime):
    handle = await hang(bench, runtime)
    with pytest.raises(NotFound, match="other"):
        await handle.join(exec_request("other", ("true",), Streams()))
    for command in ((), ("",), ("a\0b",)):
        with pytest.raises(InvalidRequest):
            await handle.join(exec_request("main", command, Streams()))
    with pytest.raises(InvalidRequest, match="no input"):
        await handle.join(attach_request("main", Streams(stdin=True)))
    with pytest.raises(InvalidRequest, match="no terminal"):
        await handle.join(attach_request("main", Streams(tty=True)))


async def test_commands_end_with_their_container(bench, runtime):
    handle = await hang(bench, runtime)
    session = await execute(handle, "sleep", "4713")
    await handle.cancel(0)
    heard = await hear(session, PATIENCE_S)
    assert heard.code == 137
    await handle.wait_finished(timeout_s=PATIENCE_S)
    assert not sleepers("4713")
    with pytest.raises(Unavailable):
        await execute(handle, "true")


async def test_a_joined_container_tells_both_streams_and_its_end(bench, runtime):
    script = "read go; echo out; echo err >&2; sleep 0.2; exit 5"
    handle = await hang(bench, runtime, script, stdin=True)
    watching = await handle.join(attach_request("main", Streams(stderr=False)))
    session = await handle.join(attach_request("main", Streams(stdin=True)))
    await session.send(b"\0go\n")
    heard = await hear(session, PATIENCE_S)
    assert (heard.out, heard.err, heard.status["status"]) == (b"out\n", b"err\n", "Success")
    other = await hear(watching, PATIENCE_S)
    assert (other.out, other.err) == (b"out\n", b"")
    state = await handle.wait_finished(timeout_s=PATIENCE_S)
    assert state.containers[0].terminated.exit_code == 5
    assert sorted(bench.logs().splitlines()) == ["err", "out"]


@pytest.mark.parametrize("once", [True, False])
async def test_input_ends_with_the_first_who_joined_only_when_it_is_once(bench, runtime, once):
    script = "while read line; do echo got $line; done; echo over"
    handle = await hang(bench, runtime, script, stdin=True, stdin_once=once)
    for word in (b"one", b"two"):
        session = await handle.join(attach_request("main", Streams(stdin=True)))
        await session.send(b"\0" + word + b"\n")
        await Reader(session).until(b"got " + word)
        if once:
            await session.send(bytes([channels.CLOSE, channels.STDIN]))
            state = await handle.wait_finished(timeout_s=PATIENCE_S)
            assert state.phase == "Succeeded"
            assert "over" in bench.logs()
            await session.close()
            return
        await session.send(bytes([channels.CLOSE, channels.STDIN]))
        await session.close()
    assert handle.state().phase == "Running"


async def test_a_container_has_a_terminal_when_it_asks_for_one(bench, runtime):
    script = "trap 'echo stopped; exit 9' INT; while read line; do stty size; echo $line; done"
    handle = await hang(bench, runtime, script, stdin=True, tty=True)
    session = await handle.join(attach_request("main", Streams(stdin=True, tty=True)))
    reader = Reader(session)
    size = json.dumps({"Width": 100, "Height": 30}).encode()
    await session.send(bytes([channels.RESIZE]) + size)
    await reader.type(b"hello\n")
    await reader.until(b"30 100\r\nhello\r\n")
    await reader.type(b"\x03")
    await reader.until(b"stopped")
    await hear(session, PATIENCE_S)
    state = await handle.wait_finished(timeout_s=PATIENCE_S)
    assert state.containers[0].terminated.exit_code == 9
    assert "proot" not in bench.logs()


async def test_nothing_that_is_no_frame_harms_the_keeper(bench, bubblewrap):
    handle = await hang(bench, bubblewrap)
    for junk in (b"\xff" * 40, b"\0\0\0\0", b"\x09\0\0\0\1x"):
        session = await execute(handle, "sleep", "0.1", stdin=True)
        session._writer.write(junk)
        session._writer.write_eof()
        await session.close()
    heard = await hear(await execute(handle, "echo", "well"), PATIENCE_S)
    assert heard.out == b"well\n"


def sleepers(seconds):
    """Return the processes of this machine that sleep for so long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(path)
    return found
