"""Init containers, sidecars, restarts, probes and the end on request."""

from twinfra.compute.containers.keeper.model import HttpGet, Probe
from twinfra.testkit.waiting import wait_for

READY = ("test", "-e", "/tmp/www/ok")
SERVE = "mkdir -p /tmp/www; httpd -f -p 127.0.0.1:8080 -h /tmp/www"


async def test_init_containers_run_one_after_another_before_the_main_ones(bench, runtime, tmp_path):
    shared = bench.folder / f"{bench.uid}-shared"
    shared.mkdir()
    spec = {"mounts": (_writable(shared, "/shared"),)}
    first = bench.container(
        runtime, "sh", "-c", "sleep 0.2; echo one >> /shared/order", name="first", spec=spec
    )
    second = bench.container(
        runtime, "sh", "-c", "echo two >> /shared/order", name="second", spec=spec
    )
    main = bench.container(runtime, "sh", "-c", "echo main >> /shared/order", spec=spec)
    state = await bench.run(bench.plan(runtime, main, init_containers=(first, second)))
    assert state.phase == "Succeeded"
    assert (shared / "order").read_text().split() == ["one", "two", "main"]
    assert [item.ready for item in state.init_containers] == [True, True]


def _writable(source, target):
    from pathlib import PurePosixPath

    from twinfra.compute.containers.model import Mount

    return Mount(source, PurePosixPath(target), read_only=False)


async def test_main_containers_never_start_when_an_init_container_fails(bench, bubblewrap):
    init = bench.container(bubblewrap, "sh", "-c", "exit 4", name="setup")
    main = bench.container(bubblewrap, "echo", "started")
    state = await bench.run(bench.plan(bubblewrap, main, init_containers=(init,)))
    assert (state.phase, state.reason) == ("Failed", "Error")
    assert "setup exited with code 4" in state.message
    assert state.containers[0].waiting.reason == "PodInitializing"


async def test_a_failing_container_is_started_again_when_the_policy_says_on_failure(
    bench, bubblewrap
):
    marks = bench.folder / f"{bench.uid}-marks"
    marks.mkdir()
    spec = {"mounts": (_writable(marks, "/marks"),)}
    script = "echo x >> /marks/n; echo run $(wc -l < /marks/n); [ $(wc -l < /marks/n) -ge 3 ]"
    item = bench.container(bubblewrap, "sh", "-c", script, spec=spec)
    plan = bench.plan(bubblewrap, item, restart_policy="OnFailure", backoff_initial_s=0.3)
    state = await bench.run(plan)
    status = state.containers[0]
    assert (state.phase, status.restart_count, status.terminated.exit_code) == ("Succeeded", 2, 0)
    assert status.last_terminated.exit_code == 1
    assert bench.logs() == "run 3\n"
    assert bench.logs(previous=True) == "run 2\n"


async def test_back_off_shows_and_grows_when_a_container_keeps_failing(bench, bubblewrap):
    item = bench.container(bubblewrap, "false")
    plan = bench.plan(bubblewrap, item, restart_policy="Always", backoff_initial_s=30)
    handle = await bench.start(plan)
    state = await wait_for(
        lambda: (
            (s := handle.state()).containers[0].restart_count == 1 and s.containers[0].waiting and s
        )
    )
    waiting = state.containers[0].waiting
    assert waiting.reason == "CrashLoopBackOff"
    assert "30s" in waiting.message
    await handle.cancel()
    state = await handle.wait_finished(timeout_s=5)
    assert (state.reason, state.containers[0].terminated.exit_code) == ("Cancelled", 1)


async def test_a_sidecar_runs_beside_and_ends_after_the_main_container(bench, bubblewrap):
    sidecar = bench.container(
        bubblewrap, "sh", "-c", SERVE, name="proxy", sidecar=True,
        startup=Probe(tcp_port=8080, period_s=0.05),
    )  # fmt: skip
    main = bench.container(bubblewrap, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/none")
    plan = bench.plan(bubblewrap, main, init_containers=(sidecar,), restart_policy="Never")
    state = await bench.run(plan)
    assert state.containers[0].terminated.exit_code == 1  # 404: it answered
    assert "404" in bench.logs()
    assert state.init_containers[0].terminated is not None


async def test_readiness_follows_the_service_by_http_and_by_command(bench, runtime):
    script = f"sleep 0.3; mkdir -p /tmp/www; echo hi > /tmp/www/ok; {SERVE}"
    port = 8080 if runtime.name == "bubblewrap" else 18437
    script = script.replace("8080", str(port))
    item = bench.container(
        runtime, "sh", "-c", script,
        readiness=Probe(http=HttpGet(port, "/ok"), period_s=0.05),
        startup=Probe(exec_command=READY, period_s=0.05, failure_threshold=99),
    )  # fmt: skip
    handle = await bench.start(bench.plan(runtime, item))
    state = await wait_for(lambda: (s := handle.state()).ready and s, what="the pod is ready")
    assert state.containers[0].started
    assert state.phase == "Running"


async def test_readiness_is_lost_when_the_service_answers_badly(bench, bubblewrap):
    script = f"mkdir -p /tmp/www; echo hi > /tmp/www/ok; (sleep 0.5; rm /tmp/www/ok) & {SERVE}"
    probe = Probe(http=HttpGet(8080, "/ok"), period_s=0.05, failure_threshold=2)
    item = bench.container(bubblewrap, "sh", "-c", script, readiness=probe)
    handle = await bench.start(bench.plan(bubblewrap, item))
    await wait_for(lambda: handle.state().ready)
    await wait_for(lambda: not handle.state().ready)
    assert handle.state().phase == "Running"


async def test_a_container_is_ended_when_its_liveness_probe_fails(bench, runtime):
    probe = Probe(exec_command=("test", "-e", "/tmp/alive"), period_s=0.1, failure_threshold=2)
    item = bench.container(
        runtime, "sh", "-c", "touch /tmp/alive; sleep 0.5; rm /tmp/alive; sleep 60", liveness=probe
    )
    state = await bench.run(bench.plan(runtime, item, termination_grace_s=1))
    ended = state.containers[0].terminated
    assert ended.message == "the liveness probe failed"
    assert ended.exit_code in {137, 143}


async def test_cancel_asks_first_when_there_is_grace(bench, runtime):
    script = "trap 'echo told; exit 9' TERM; echo up; while :; do sleep 0.1; done"
    handle = await bench.start(bench.plan(runtime, bench.container(runtime, "sh", "-c", script)))
    await wait_for(lambda: bench.logs() == "up\n" if handle.state().phase == "Running" else False)
    await handle.cancel(grace_s=10)
    state = await handle.wait_finished(timeout_s=8)
    ended = state.containers[0].terminated
    assert (state.phase, state.reason, state.cancelled) == ("Failed", "Cancelled", True)
    assert (ended.exit_code, ended.reason) == (9, "Cancelled")
    assert bench.logs() == "up\ntold\n"


async def test_cancel_kills_when_the_grace_is_over(bench, runtime):
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    handle = await bench.start(bench.plan(runtime, bench.container(runtime, "sh", "-c", script)))
    await wait_for(lambda: handle.state().phase == "Running" and bench.logs())
    await handle.cancel(grace_s=0.5)
    state = await handle.wait_finished(timeout_s=8)
    assert state.containers[0].terminated.exit_code == 137


async def test_sigterm_to_the_keeper_is_a_cancel(bench, bubblewrap):
    import os
    import signal

    handle = await bench.start(bench.plan(bubblewrap, bench.container(bubblewrap, "sleep", "60")))
    await wait_for(lambda: handle.state().phase == "Running")
    os.kill(handle.identity().pid, signal.SIGTERM)
    state = await handle.wait_finished(timeout_s=8)
    assert (state.reason, state.cancelled) == ("Cancelled", True)


async def test_a_finished_job_stays_as_it_is_when_cancelled(bench, bubblewrap):
    before, _ = await bench.shell(bubblewrap, "exit 0")
    await bench.handles[0].cancel()
    assert bench.handles[0].state() == before
