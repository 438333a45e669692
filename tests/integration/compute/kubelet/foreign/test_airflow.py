"""Airflow's KubernetesPodOperator, unmodified, with the pods of its own guide at our sites."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from twinfra.testkit.strangers import python_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("kubernetes"),
    pytest.mark.real("airflow"),
    pytest.mark.timeout(1200),
]
AIRFLOW = Path(__file__).parents[4] / "servers" / "airflow"
PROGRAM = Path(__file__).parent / "programs" / "pod_operator.py"
WITHIN_S = 200.0


def environment(folder, **more):
    """Return what Airflow gets: a home of its own and nothing of ours."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROGRAM.parent),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "*",
        **more,
    }


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory):
    """The command's folder, and a home with an empty database, to be copied."""
    programs, folder = python_environment(AIRFLOW), tmp_path_factory.mktemp("airflow")
    subprocess.run(
        [programs / "airflow", "db", "migrate"],
        check=True, stdin=subprocess.DEVNULL, capture_output=True, env=environment(folder),
        timeout=WITHIN_S,
    )  # fmt: skip
    return programs, folder


@pytest.fixture
def airflow(airflow_home, tmp_path, control_plane, kube_namespace):
    """Run DAGs to their end; gives the state of each task, and the log."""
    programs, prepared = airflow_home
    folder = tmp_path / "airflow"
    shutil.copytree(prepared, folder)
    extra = {"kube_config_path": str(control_plane.kubeconfig), "namespace": kube_namespace}
    connection = json.dumps({"conn_type": "kubernetes", "extra": extra})

    async def run(*dags):
        written = folder / "run.log"
        with written.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                programs / "python", PROGRAM, *dags, stdin=asyncio.subprocess.DEVNULL,
                stdout=output, stderr=output, cwd=folder,
                env=environment(folder, AIRFLOW_CONN_KUBERNETES_DEFAULT=connection),
            )  # fmt: skip
        try:
            await asyncio.wait_for(process.wait(), WITHIN_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        log = written.read_text()
        assert process.returncode == 0, log[-5000:]
        return json.loads(log.splitlines()[-1]), log

    return run


async def names(pods):
    return [pod["metadata"]["name"] for pod in (await pods.json("get", "pods"))["items"]]


@pytest.mark.story("the site maps their image names to images built here")
@pytest.mark.story("A third party's manifest or chart needs nothing")
async def test_the_pods_of_the_guide_have_what_they_name_and_give_their_result(pods, node, airflow):
    for secret in ("airflow-secrets", "airflow-secrets-2"):
        literal = f"--from-literal=sql_alchemy_conn=conn-of-{secret}"
        await pods.kubectl("create", "secret", "generic", secret, literal)
    for number in (1, 2):
        literal = f"--from-literal=map{number}=of-map-{number}"
        await pods.kubectl("create", "configmap", f"test-configmap-{number}", literal)
    states, log = await airflow("resources", "xcom")
    assert set(states) == {"task", "write-xcom", "pod_task_xcom_result"}, log
    assert set(states.values()) == {"success"}, log
    for said in (
        "[base] 10", "[base] conn-of-airflow-secrets", "SQL_CONN=conn-of-airflow-secrets",
        "sql_alchemy_conn=conn-of-airflow-secrets-2", "map1=of-map-1", "map2=of-map-2",
    ):  # fmt: skip
        assert said in log
    assert "'echo \"1\"'" in log  # what the next task made of the pod's result
    assert await names(pods) == []


@pytest.mark.parametrize("house", ["local"], indirect=True)
async def test_a_task_fails_with_the_log_of_its_pod_when_the_pod_does(pods, node, airflow):
    states, log = await airflow("failing")
    assert states == {"fails": "failed"}, log
    assert "[base] before the end" in log
    (pod,) = await names(pods)
    ended = (await pods.get(pod))["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 3
