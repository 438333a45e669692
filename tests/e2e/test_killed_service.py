"""The prediction service is killed while members land: it comes back, and no event is lost."""

from pathlib import Path

import iris_sample_data
import psutil
import pytest
import yaml

from twinfra.testkit.waiting import wait_for_sync

MEMBERS = sorted((Path(iris_sample_data.path) / "GloSea4").glob("ensemble_*.pp"))
TWIN = Path(__file__).parents[2] / "examples" / "climate-twin" / "twin.yaml"
LATE = "/data/climate/late"
PREDICTION = "org.climate.prediction"
pytestmark = pytest.mark.timeout(1200)


def service_alone():
    """Return the twin's template with its service only, which predicts for another ensemble."""
    twin = yaml.safe_load(TWIN.read_text())
    topology = twin["topology_template"]
    service = topology["node_templates"]["inference"]
    del service["requirements"], topology["outputs"]["site"]
    service["properties"]["command"][-1] = LATE
    topology["node_templates"] = {"inference": service}
    topology["policies"] = [each for each in topology["policies"] if "predict" in each]
    return yaml.safe_dump(twin)


@pytest.fixture
def running(told, tmp_path):
    """The demo's federation with the service alone deployed to it, until the test is over."""
    running = told.running
    running.command("login", "--as", "alice")
    running.command("dataset", "make", "climate:late")
    trigger = (
        '{"name": "late", "site": "edge-c", "path_prefix": "/incoming/late",'
        ' "dataset": "climate:late"}'
    )
    running.curl(
        "notifications", "/triggers", "-H", "Content-Type: application/json", "-d", trigger
    )
    template = tmp_path / "service.yaml"
    template.write_text(service_alone())
    image = "climate-twin:1@" + told.found(r"image: done climate-twin:1\s+(\S+)")
    words = ("-p", f"image={image}", "-p", "ensemble=climate:late", "--group", "climate")
    made = running.command("deploy", "create", str(template), *words).strip()
    try:
        running.command("deploy", "wait", made, "--timeout", "120")
        yield running
    finally:
        running.command("deploy", "delete", made, "--wait", "--timeout", "120")


def put(running, members):
    for member in members:
        running.curl("edge@edge-c", f"/dav/incoming/late/{member.name}", "-T", str(member))


def service():
    """Return the process of the service, if it runs."""
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if LATE in words and process.info["name"].startswith("python"):
            return process
    return None


def came_back(killed):
    """Return the service's new process, once it is another one than `killed`."""

    def other():
        found = service()
        return found if found and found != killed else None

    return wait_for_sync(other, timeout_s=60, what="the service came back")


@pytest.mark.story("Prediction service killed: it comes back, no event is lost")
def test_every_member_is_predicted_when_the_service_is_killed_as_they_land(running):
    put(running, MEMBERS[:3])
    first = service()
    first.kill()  # the service alone: its keeper starts it again
    put(running, MEMBERS[3:6])
    second = came_back(first)
    put(running, MEMBERS[6:9])
    (keeper,) = (each for each in second.parents() if each in running.keepers())
    keeper.kill()  # and its keeper: another attempt begins
    put(running, MEMBERS[9:])
    came_back(second)
    predicted = set()

    def is_first(data):  # the demo's own were of the first model; one may come twice after a kill
        if data["model_version"] != 2 or data["member"] in predicted:
            return False
        predicted.add(data["member"])
        return True

    running.wait_event(PREDICTION, is_first, count=len(MEMBERS), within_s=180)
    assert predicted == set(range(14)) - {6}
