"""What a benchmark writes down."""

import importlib.util
import json
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[3] / "benchmarks" / "harness.py"
_spec = importlib.util.spec_from_file_location("harness", _PATH)
harness = importlib.util.module_from_spec(_spec)


@pytest.fixture(autouse=True)
def results(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "harness", harness)
    _spec.loader.exec_module(harness)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")


@pytest.mark.story("each measures its peer in the same run and writes `benchmarks/results/...json`")
def test_the_file_has_the_fields_that_were_agreed():
    rows = [
        harness.Row("time", "s", ours=2.0, peer=3.0, peer_name="nginx"),
        harness.Row("rate", "1/s", 30.0, 10.0, "nginx", higher_is_better=True),
    ]
    path = harness.write("data/rules", harness.Result(rows, {"target_s": 1}, 5, {"nginx": "1"}))
    assert path.name == "data-rules.json"
    body = json.loads(path.read_text())
    assert set(body) == {"rows", "figures", "runs", "load", "versions"}
    fields = {"name", "unit", "ours", "peer", "peer_name", "ratio", "higher_is_better"}
    assert [set(row) for row in body["rows"]] == [fields, fields]
    assert [row["ratio"] for row in body["rows"]] == [1.5, 3.0]
    assert body["figures"] == {"target_s": 1}
    assert body["runs"] == 5
    assert body["versions"]["nginx"] == "1"


def test_medians_are_of_runs_in_turns_after_a_warm_up(tmp_path):
    log = tmp_path / "log"
    ours, peer = (["bash", "-c", f"echo {name} >>{log}"] for name in ("ours", "peer"))
    found = harness.in_turns(ours, peer, 3)
    assert log.read_text().split() == ["ours", "peer"] * 4
    assert all(seconds > 0 for seconds in found)
