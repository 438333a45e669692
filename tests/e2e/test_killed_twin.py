"""The climate twin goes on by itself: its demo killed, everything killed at every step."""

import json
from pathlib import Path

import iris_sample_data
import pytest

MEMBERS = sorted((Path(iris_sample_data.path) / "GloSea4").glob("ensemble_*.pp"))
SLOW_LINK = "\n[edge]\nrate_limit_bytes_per_s = 524288\n"
pytestmark = pytest.mark.timeout(1500)

JOB, TRANSFER = "org.twinfra.job.state", "org.twinfra.transfer.*"
VERSION, SERVICE = "org.twinfra.dataset.version-added", "org.twinfra.deployment.*"


def job(node, phase):
    return lambda data: data.get("node") == node and data["phase"] == phase


def demo_until_accepted(running):
    """Let the demo post the deployment, then kill it: from now on nobody types a command."""
    demo = running.start_demo()
    said = []
    for line in demo.stdout:
        said.append(line)
        if "accepted" in line:
            break
    demo.kill()
    demo.communicate()
    assert "accepted" in said[-1], said


def starts(running, words):
    """Count how often each log of a job says `words`."""
    logs = running.home.root.glob("sites/*/jobs/**/logs/**/*")
    counts = [log.read_text(errors="replace").count(words) for log in logs if log.is_file()]
    return [count for count in counts if count]


@pytest.mark.story("`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6")
@pytest.mark.story("a test kills the demo script after step 5, puts the members with `curl -T`")
@pytest.mark.story("keepers are adopted, nothing is lost, each job's own output shows one start")
@pytest.mark.story("Keeper killed too: a second, numbered, visible attempt, never two at once")
@pytest.mark.story("in the middle of a copy: at the first progress marker")
def test_the_twin_finishes_when_all_is_killed_at_every_step(tmp_path, federation):
    with federation(tmp_path, SLOW_LINK) as running:
        demo_until_accepted(running)
        running.wait_event(TRANSFER, lambda data: data.get("bytes"))
        running.kill_everything()  # step 3, in the middle of a copy
        running.wait_event(JOB, job("train", "Running"))
        running.kill_everything()  # step 4, while it trains
        running.wait_event(JOB, job("inference", "Running"))
        running.kill_everything()  # step 5, while the service starts
        running.wait_event(SERVICE, lambda data: data.get("phase") == "SERVING")
        for number, member in enumerate(MEMBERS, 1):
            path = f"/dav/incoming/ensemble/{member.name}"
            running.curl("edge@edge-c", path, "-T", str(member))
            if number == 3:
                running.wait_event("org.climate.prediction")
                running.kill_everything()  # step 6, while members land
        seen = running.wait_event("org.climate.prediction", count=len(MEMBERS))
        assert len({event["data"]["member"] for event in seen}) == len(MEMBERS)
        running.wait_event(
            "org.twinfra.dataset.file-added",
            lambda data: data["dataset"] == "climate:ensemble",
            count=len(MEMBERS),
        )
        close = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", '{"open": false}']
        running.curl("datasets", "/dids/climate/ensemble/status", *close)
        running.wait_event(JOB, job("update", "Running"))
        running.kill_everything()  # step 6, while it learns anew
        running.wait_event(VERSION, lambda data: data["name"] == "model", count=2)
        running.wait_event(SERVICE, lambda data: data.get("phase") == "SERVING", count=2)
        shown = running.command("dataset", "list", "climate")
        assert "climate:model.v2" in shown
        assert "climate:model.v3" not in shown
        assert starts(running, "training started") == [1]
        assert starts(running, "update started") == [1]
        its_keeper_is_killed_too(running)


def its_keeper_is_killed_too(running):
    """A second, numbered, visible attempt; the first one ended before it began."""
    for keeper in running.keepers():
        keeper.kill()

    def second(data):
        found = (data.get("node"), data["phase"], data["attempt"])
        return found == ("inference", "Running", 2)

    uid = running.wait_event(JOB, second)[0]["data"]["uid"]
    told = running.wait_event(JOB, lambda data: data["uid"] == uid, count=3)
    attempts = [event["data"]["attempt"] for event in told]
    assert attempts == sorted(attempts)
    (deployment,) = json.loads(running.curl("deployments", "/deployments"))["content"]
    document = json.loads(running.curl("deployments", f"/deployments/{deployment['uuid']}"))
    path = document["outputs"]["url"].removeprefix(running.url("deployments")) + "model"
    patience = ("--retry", "30", "--retry-delay", "1")
    assert json.loads(running.curl("deployments", path, *patience))["version"] == 2
