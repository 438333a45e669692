"""A pod from its start to its end, by each runtime."""

import pytest

from twinfra.compute.containers.keeper.model import Limits
from twinfra.compute.containers.model import Mount
from twinfra.core.errors import InvalidRequest
from twinfra.testkit.waiting import wait_for


async def test_exit_code_and_output_arrive_when_a_container_ends(bench, runtime):
    state, text = await bench.shell(runtime, "echo out; echo err >&2; exit 7")
    ended = state.containers[0].terminated
    assert (state.phase, ended.exit_code, ended.reason) == ("Failed", 7, "Error")
    assert sorted(text.splitlines()) == ["err", "out"]
    assert state.message == "container main exited with code 7"


async def test_phase_is_succeeded_when_all_exit_with_zero(bench, runtime):
    items = [bench.container(runtime, "true", name=name) for name in ("one", "two")]
    state = await bench.run(bench.plan(runtime, *items))
    assert (state.phase, state.reason) == ("Succeeded", "Completed")
    assert [item.terminated.reason for item in state.containers] == ["Completed", "Completed"]


async def test_signal_shows_when_the_process_dies_by_one(bench, runtime):
    state, _ = await bench.shell(runtime, "kill -9 $$")
    ended = state.containers[0].terminated
    assert (ended.exit_code, ended.signal, ended.reason) == (137, 9, "Error")


async def test_the_own_process_counts_when_others_end_later_or_earlier(bench, runtime):
    script = "(sleep 0.2; exit 5) & /bin/true; kill -SEGV $$"
    state, text = await bench.shell(runtime, script)
    ended = state.containers[0].terminated
    assert (state.phase, ended.exit_code, ended.signal) == ("Failed", 139, 11)
    assert "proot" not in text


async def test_a_command_that_is_not_there_is_a_start_error(bench, runtime):
    item = bench.container(runtime, "/no/such/program")
    state = await bench.run(bench.plan(runtime, item))
    ended = state.containers[0].terminated
    assert state.phase == "Failed"
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "no/such/program" in ended.message


HOSTILE = (
    "$(id)",
    "`id`",
    "a\nb",
    "'",
    '"',
    "a b ",
    "--",
    "#SBATCH -p x",
    "\\",
    "é\t",
    "{args_fd}",
)


async def test_hostile_words_arrive_as_data_in_argv_and_environment(bench, runtime):
    spec = {"env": {"PATH": "/bin", "HOSTILE": "".join(HOSTILE), "LD_PRELOAD": "/tmp/evil.so"}}
    script = 'for word in "$@"; do printf "%s\\0" "$word"; done; printf "%s" "$HOSTILE$LD_PRELOAD"'
    item = bench.container(runtime, "sh", "-c", script, "sh", *HOSTILE, spec=spec)
    await bench.run(bench.plan(runtime, item))
    expected = "\0".join([*HOSTILE, "".join(HOSTILE) + "/tmp/evil.so"])
    # The log ends each line, so the missing last newline is there now.
    assert bench.logs() == expected + "\n"


async def test_the_image_stays_as_it_is_when_a_container_writes(bench, bubblewrap):
    state, text = await bench.shell(
        bubblewrap, "echo x > /etc/new || echo refused; echo y > /tmp/new && cat /tmp/new"
    )
    assert state.phase == "Succeeded"
    assert "refused" in text
    assert "y" in text.splitlines()
    assert not (bench.rootfs / "etc" / "new").exists()


async def test_mounts_are_there_where_the_image_has_no_place_for_them(bench, runtime, tmp_path):
    tmp_path.chmod(0o755)
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.mkdir()
    taken.mkdir()
    (given / "a").write_text("data\n")
    mounts = (
        Mount(given, "/data/climate/scenarios"),
        Mount(taken, "/outputs/climate/model", read_only=False),
        Mount(given / "a", "/etc/deep/er/file"),
    )
    script = (
        "cat /data/climate/scenarios/a /etc/deep/er/file;"
        "echo made > /outputs/climate/model/b; echo no > /data/climate/scenarios/c"
    )
    mounts = tuple(Mount(m.source, _pure(m.target), m.read_only) for m in mounts)
    _, text = await bench.shell(runtime, script, spec={"mounts": mounts})
    assert text.splitlines()[:2] == ["data", "data"]
    assert (taken / "b").read_text() == "made\n"
    if runtime.name == "bubblewrap":
        assert not (given / "c").exists()
        assert "Read-only" in text


def _pure(text):
    from pathlib import PurePosixPath

    return PurePosixPath(text)


async def test_user_directory_and_hostname_are_as_asked(bench, bubblewrap):
    _, text = await bench.shell(
        bubblewrap,
        "id -u; id -g; pwd; hostname; whoami; echo $HOME; cat /etc/hosts | head -1",
        spec={"uid": 1000, "gid": 100, "cwd": "/work/here", "hostname": "pod-a"},
        hostname="pod-a",
    )
    assert text.splitlines() == [
        "1000", "100", "/work/here", "pod-a", "user", "/tmp", "127.0.0.1 localhost pod-a"
    ]  # fmt: skip


async def test_a_container_is_alone_when_isolated(bench, bubblewrap):
    _, text = await bench.shell(
        bubblewrap,
        "ps | grep -c 'keeper' ; ls /proc/1/root/home; ls /sys;"
        "cat /proc/self/status | grep -E 'CapEff|NoNewPrivs'; mount -t tmpfs x /run; unshare -n id;"
        "echo 1 > /proc/sys/kernel/panic",
    )
    lines = text.splitlines()
    assert "CapEff:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "uid=" not in text
    assert any("panic" in line and ("Read-only" in line or "denied" in line) for line in lines)


async def test_the_pod_is_cut_when_it_exceeds_its_memory(bench, runtime):
    limits = Limits(memory_bytes=64 * 1024 * 1024)
    state, _ = await bench.shell(runtime, "tail /dev/zero", limits=limits)
    ended = state.containers[0].terminated
    assert (state.phase, state.reason) == ("Failed", "OOMKilled")
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_the_pod_ends_when_its_deadline_passes(bench, runtime):
    script = "trap 'echo told; exit 0' TERM; sleep 60 & wait"
    state, text = await bench.shell(runtime, script, active_deadline_s=0.5)
    assert (state.phase, state.reason) == ("Failed", "DeadlineExceeded")
    assert text == "told\n"


async def test_figures_are_real_when_a_container_has_worked(bench, runtime):
    burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    fill = 'awk \'BEGIN { s = sprintf("%80000000s", "x"); print length(s) }\''
    state, _ = await bench.shell(runtime, f"{burn}; {fill}")
    stats = await bench.handles[0].stats()
    assert state.phase == "Succeeded"
    assert 0.05 < stats.cpu_time_s < 20
    assert stats.cpu_time_s <= stats.wall_time_s * 2 + 0.1
    assert stats.memory_peak_bytes > 60 * 1024 * 1024


async def test_a_bad_plan_is_refused_before_anything_starts(bench, bubblewrap):
    with pytest.raises(InvalidRequest, match="restart policy"):
        await bench.start(
            bench.plan(bubblewrap, bench.container(bubblewrap, "true"), restart_policy="x")
        )
    assert not bench.jobdir.exists()


async def test_processes_left_behind_are_ended_with_the_container(bench, runtime):
    _, _ = await bench.shell(runtime, "setsid sleep 987 >/dev/null 2>&1 & sleep 0.3; exit 0")
    gone = await bench.handles[0].prove_gone()
    await wait_for(lambda: not bench.handles[0].alive(), what="the keeper has left")
    assert [pid for pid in gone.killed if pid != bench.handles[0].identity().pid] == []
