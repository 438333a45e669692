"""Probes, restarts and sidecars of unchanged pods, as kubectl shows them, over real containers."""

import pytest

from twinfra.testkit.images import BUSYBOX

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
IDLE = "trap 'exit 9' TERM; while :; do sleep 0.2; done"


@pytest.fixture
def house(request):
    name = getattr(request, "param", "local")
    return request.getfixturevalue(f"{name}_house")


everywhere = pytest.mark.parametrize(
    "house", ["local", pytest.param("slurm", marks=pytest.mark.real("slurm"))], indirect=True
)


def shell(script, **more):
    limits = {"limits": {"cpu": "500m", "memory": "32Mi"}}
    return {"image": BUSYBOX, "command": ["sh", "-c", script], "resources": limits, **more}


def probe(*command, failures=1, **more):
    pace = {"periodSeconds": 1, "failureThreshold": failures, "timeoutSeconds": 5}
    done = {"exec": {"command": list(command)}} if command else {}
    return {**pace, **done, **more}


async def row(pods, name="train-0"):
    """Return what ``kubectl get pod`` prints of a pod: name, ready, status, restarts."""
    return (await pods.kubectl("get", "pod", name, "--no-headers")).stdout.split()[:4]


def state_of(pod):
    (main,) = (pod or {}).get("status", {}).get("containerStatuses") or [{}]
    return main


@pytest.mark.story("Ready follows the readiness probes (exec and http), on every site")
@everywhere
async def test_a_pod_is_ready_while_its_probes_succeed(pods, node, condition_of):
    serves = f"mkdir /tmp/www; httpd -p 8080 -h /tmp/www; {IDLE}"
    get = {"httpGet": {"path": "/ok", "port": 8080}}
    web = {"name": "web", **shell(serves, readinessProbe=probe(**get))}
    main = {"name": "main", **shell(IDLE, readinessProbe=probe("test", "-e", "/tmp/ok"))}
    await pods.create(containers=[main, web])
    files = {"main": "/tmp/ok", "web": "/tmp/www/ok"}

    async def until_ready(*names):
        def so(pod):
            found = pod["status"].get("containerStatuses") or []
            running = pod["status"]["phase"] == "Running"
            return running and {each["name"] for each in found if each["ready"]} == set(names)

        pod = await pods.until("train-0", so, f"ready: {names}")
        expected = "True" if set(names) == set(files) else "False"
        assert condition_of(pod, "Ready")["status"] == expected
        assert (await row(pods))[:3] == ["train-0", f"{len(names)}/2", "Running"]

    async def change(name, *command):
        await pods.kubectl("exec", "train-0", "-c", name, "--", *command, files[name])

    await until_ready()
    await change("main", "touch")
    await until_ready("main")
    await change("web", "touch")
    await until_ready("main", "web")
    await change("main", "rm")
    await until_ready("web")


@pytest.mark.story("a liveness probe that fails starts the container again, restartCount grows")
async def test_a_container_is_started_again_when_its_liveness_fails(pods, node):
    script = f"echo alive; touch /tmp/alive; {IDLE}"
    alive = probe("test", "-e", "/tmp/alive", initialDelaySeconds=1)
    await pods.create(container=shell(script, livenessProbe=alive), restartPolicy="Always")
    await pods.until("train-0", lambda pod: state_of(pod).get("ready"))
    await pods.kubectl("exec", "train-0", "--", "rm", "/tmp/alive")
    again = await pods.until(
        "train-0",
        lambda pod: state_of(pod).get("restartCount", 0) >= 1 and state_of(pod).get("ready"),
        "the second run",
    )
    assert "liveness" in state_of(again)["lastState"]["terminated"]["message"]
    assert (await row(pods))[:3] == ["train-0", "1/1", "Running"]
    assert (await pods.kubectl("logs", "--previous", "train-0")).stdout == "alive\n"


@pytest.mark.story("a startup probe that fails ends the container; liveness waits for it")
async def test_a_container_ends_when_its_startup_fails(pods, node):
    never = {"startupProbe": probe("false", failures=2), "livenessProbe": probe("false")}
    await pods.create(container=shell(IDLE, **never))
    failed = await pods.until_phase("train-0", "Failed", "Succeeded")
    end = state_of(failed)["state"]["terminated"]
    assert "startup" in end["message"]


@pytest.mark.story("CrashLoopBackOff is shown, with a growing restartCount")
async def test_kubectl_shows_the_back_off_when_a_container_keeps_failing(pods, node):
    await pods.create(container=shell("exit 3"), restartPolicy="Always")

    async def until_waiting(count):
        def so(pod):
            main = state_of(pod)
            waiting = main.get("state", {}).get("waiting", {})
            return waiting.get("reason") == "CrashLoopBackOff" and main["restartCount"] >= count

        return await pods.until("train-0", so, f"back-off {count}")

    await until_waiting(1)
    pod = await until_waiting(2)
    assert state_of(pod)["lastState"]["terminated"]["exitCode"] == 3
    assert pod["status"]["phase"] == "Running"
    name, ready, status, restarts = await row(pods)
    assert (name, ready, status) == ("train-0", "0/1", "CrashLoopBackOff")
    assert int(restarts) >= 2


@pytest.mark.story("a sidecar runs beside the main container and ends after it")
async def test_a_sidecar_serves_the_main_container_and_ends_after_it(pods, node):
    serves = "mkdir /tmp/www; echo beside > /tmp/www/f; httpd -p 8080 -h /tmp/www; "
    serves += "trap 'echo asked; exit 0' TERM; while :; do sleep 0.1; done"
    get = {"httpGet": {"path": "/f", "port": 8080}}
    sidecar = {"name": "proxy", "restartPolicy": "Always", **shell(serves)}
    sidecar["startupProbe"] = probe(failures=30, **get)
    waits = "wget -qO- http://127.0.0.1:8080/f; until [ -e /tmp/go ]; do sleep 0.1; done"
    await pods.create(container=shell(waits), initContainers=[sidecar])
    await pods.until_phase("train-0", "Running")
    await pods.until("train-0", lambda pod: state_of(pod).get("ready"))
    assert (await row(pods))[:3] == ["train-0", "2/2", "Running"]
    await pods.kubectl("exec", "train-0", "-c", "main", "--", "touch", "/tmp/go")
    ended = await pods.until_phase("train-0", "Succeeded", "Failed")
    assert ended["status"]["phase"] == "Succeeded", ended["status"]
    assert (await pods.kubectl("logs", "train-0", "-c", "main")).stdout == "beside\n"
    assert (await pods.kubectl("logs", "train-0", "-c", "proxy")).stdout == "asked\n"
    (beside,) = ended["status"]["initContainerStatuses"]
    first = state_of(ended)["state"]["terminated"]["finishedAt"]
    assert beside["state"]["terminated"]["finishedAt"] >= first
