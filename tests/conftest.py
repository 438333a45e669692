"""Fixtures for all tests: a home, real servers, a database on both engines."""

import io
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from twinfra.core import home as home_module
from twinfra.core.bus import Bus
from twinfra.core.database import Database
from twinfra.core.home import Home
from twinfra.core.service import Context
from twinfra.core.telemetry import configure_logging
from twinfra.testkit import kubernetes, servers
from twinfra.testkit.slurm import slurm

# a busy machine is slow, which is no finding
hypothesis_settings.register_profile(
    "twinfra", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("twinfra")

_count = itertools.count()


def pytest_collection_modifyitems(items):
    """Give the first test of a session time for the start of a control plane on a busy machine."""
    for item in items:
        needs_one = {"control_plane", "own_control_plane"} & set(getattr(item, "fixturenames", ()))
        if needs_one and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session", autouse=True)
def ports_of_our_own():
    """Two workers must not choose the same port before either of them listens there."""
    worker, count = (
        os.environ.get(f"PYTEST_XDIST_{name}", "") for name in ("WORKER", "WORKER_COUNT")
    )
    if worker:
        home_module.PORTS = home_module.PORTS[int(worker.removeprefix("gw")) :: int(count)]


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def context(home) -> Context:
    return Context(home)


@pytest.fixture(scope="session")
def postgres_url():
    """One PostgreSQL a session; each test has a schema of its own in it."""
    folder = Path(tempfile.mkdtemp(prefix="twinfra-postgres-"))
    with servers.postgres(folder) as url:
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_cluster():
    """One Slurm a session, all of it in one folder on loopback; tests leave its nodes idle."""
    folder = Path(tempfile.mkdtemp(prefix="twinfra-slurm-"))
    with slurm(folder) as cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request, tmp_path):
    """An empty database on each engine."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path}/test.sqlite")
    else:
        url = request.getfixturevalue("postgres_url")
        made = Database(url, schema=f"test{next(_count)}", pool_size=5)
    yield made
    await made.close()


@pytest.fixture
async def sqlite(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/test.sqlite")
    yield made
    await made.close()


@pytest.fixture(scope="session")
def own_control_plane():
    """One Kubernetes control plane a session, for tests that stop or set up its servers."""
    folder = Path(tempfile.mkdtemp(prefix="twinfra-kubernetes-"))
    with kubernetes.control_plane(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def control_plane(request, tmp_path_factory):
    """The cluster that ``TWINFRA_TEST_KUBECONFIG`` names, else a control plane of our own."""
    if named := os.environ.get("TWINFRA_TEST_KUBECONFIG"):
        return kubernetes.Cluster(Path(named), tmp_path_factory.mktemp("cluster"))
    return request.getfixturevalue("own_control_plane")


@pytest.fixture
def kube_namespace(control_plane):
    """An empty namespace of the control plane, which answers; deleted afterwards."""
    control_plane.wait_ready()
    name = control_plane.namespace()
    yield name
    control_plane.wait_ready()
    control_plane.delete_namespace(name)


@pytest.fixture
def nats_url(tmp_path):
    folder = tmp_path / "nats"
    folder.mkdir()
    with servers.nats(folder) as url:
        yield url


@pytest.fixture
async def bus(nats_url):
    made = Bus(nats_url)
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
def log_lines(monkeypatch):
    """What our logging writes from now on, as a function that gives the lines so far."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    configure_logging("test", style="json", level="DEBUG")
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
