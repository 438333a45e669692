"""The climate twin, told by the demo: figures, records, lineage, and what is left behind."""

import json
import subprocess
from pathlib import Path

import iris_sample_data
import netCDF4
import numpy as np
import psutil
import pytest

DATA = Path(iris_sample_data.path)
pytestmark = pytest.mark.timeout(1200)


def yearly_mean_k(name):
    """Compute the area mean of each year with nothing of the twin's own code."""
    with netCDF4.Dataset(DATA / f"{name}_north_america.nc") as file:
        field = file.variables["air_temperature"][:].astype(float)
        times = file.variables["time"]
        years = np.array([d.year for d in netCDF4.num2date(times[:], times.units, times.calendar)])
        weights = np.cos(np.radians(file.variables["latitude"][:]))
    means = np.average(field.mean(axis=2), axis=1, weights=weights)
    return {year: means[years == year].mean() for year in np.unique(years)}


def figures(told, version):
    return json.loads((told.out / f"model.v{version}" / "figures.json").read_text())


@pytest.mark.story("computes the warming of the two scenarios; figures are checked independently")
def test_the_figures_agree_with_an_independent_computation(told):
    a1b, e1 = yearly_mean_k("A1B"), yearly_mean_k("E1")
    found = figures(told, 1)
    assert found["gap_k"] == pytest.approx(a1b[2099] - e1[2099], abs=0.02)
    for name, means in (("A1B", a1b), ("E1", e1)):
        last = np.mean([means[year] for year in sorted(means)[-10:]])
        before = np.mean([means[year] for year in range(1961, 1991)])
        assert found["warming_k"][name] == pytest.approx(last - before, abs=0.02)
    assert 0 < found["held_out_rmse_k"] < 1.5


@pytest.mark.story(
    "closing the dataset triggers an update job whose new model version replaces the old"
)
def test_the_closed_ensemble_made_a_new_model_version(told):
    found = figures(told, 2)
    assert found["version"] == 2
    assert found["ensemble"]["members"] == 13
    assert found["ensemble"]["spread_k"] > 0


@pytest.mark.story("a client at 50 requests/s through the switch sees no error")
def test_no_request_failed_while_the_model_was_replaced(told):
    answers = told.found(r"answers: (\{[^}]*\})")
    assert set(json.loads(answers.replace("'", '"').replace("200:", '"200":'))) == {"200"}


@pytest.mark.story("One usage record for each job, one for storage, one for the transferred bytes")
def test_usage_names_person_group_and_deployment(told):
    rows = json.loads((told.out / "usage.json").read_text())
    assert {row["kind"] for row in rows} == {"job", "storage", "transfer"}
    for row in rows:
        assert row["person"]["sub"] == "alice"
        assert row["group"] == "climate"
    jobs = [row for row in rows if row["kind"] == "job"]
    assert len({row["id"] for row in jobs}) == len(jobs)


@pytest.mark.story("the APEL job message of a job can be printed")
def test_an_apel_message_is_read_by_the_published_rules(told, command):
    rows = json.loads((told.out / "usage.json").read_text())
    job = next(row["id"] for row in rows if row["kind"] == "job")
    message = command("usage", "apel", job, home=told.home.root)
    header, *lines = message.strip().splitlines()
    assert header == "APEL-individual-job-message: v0.3"
    fields = dict(line.split(": ", 1) for line in lines if line != "%%")
    assert int(fields["EndTime"]) >= int(fields["StartTime"])
    assert {"Site", "LocalJobId", "WallDuration", "CpuDuration", "ServiceLevelType"} <= set(fields)


@pytest.mark.story("the lineage (file > dataset > job > model > prediction)")
def test_the_lineage_leads_from_files_to_the_model(told):
    text = (told.out / "lineage.json").read_text()
    for name in ("A1B_north_america.nc", "climate:scenarios", "model.v1", "model.v2"):
        assert name in text


@pytest.mark.story("all sites isolate, the summary's first line says whether they do")
def test_the_summary_says_whether_jobs_were_isolated(told):
    assert "all sites isolate their jobs" in told.text


@pytest.mark.story("each job's own output shows one start")
def test_each_jobs_own_output_shows_one_start(told):
    logs = [log for log in told.home.root.glob("sites/*/jobs/**/logs/**/*") if log.is_file()]
    starts = [log.read_text(errors="replace").count("training started") for log in logs]
    assert [count for count in starts if count] == [1]


@pytest.mark.story("make demo ends with exit 0 and leaves nothing running")
def test_listeners_are_on_loopback_only(told):
    mine = {
        p.pid
        for p in psutil.process_iter(["cmdline"])
        if str(told.home.root) in " ".join(p.info["cmdline"] or [])
    }
    seen = 0
    for line in subprocess.run(
        ["ss", "-ltnp"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if any(f"pid={pid}," in line for pid in mine):
            seen += 1
            assert line.split()[3].startswith(("127.0.0.1:", "[::1]:")), line
    assert seen >= 10
