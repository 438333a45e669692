"""The benchmarks of pods run, and write down what was agreed; no timing is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WITHIN_S = 550
ROW = {"name", "unit", "ours", "peer", "peer_name", "ratio", "higher_is_better"}
FIGURES = {
    "create_to_plugin_p99_s", "pods_per_s", "api_requests_per_pod", "kubelet_cpu_s",
    "kubelet_rss_peak_mib", "running_staleness_p99_s", "succeeded_staleness_p99_s",
}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(600)]


@pytest.mark.story("Report it p50/p99 with create-to-plug-in, pods/s, API requests per pod, RSS")
def test_the_result_has_its_shape_when_twenty_pods_are_run(tmp_path):
    command = [sys.executable, "-m", "benchmarks.compute.pods", "--pods", "20", "--rate", "10"]
    done = subprocess.run(
        [*command, "--run-s", "2", "--results", str(tmp_path)], cwd=ROOT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    body = json.loads((tmp_path / "compute-pods.json").read_text())
    assert set(body) == {"rows", "figures", "runs", "load", "versions"}
    assert [set(row) for row in body["rows"]] == [ROW, ROW]
    assert set(body["figures"]) > FIGURES
    assert body["figures"]["pods"] == 20
