"""The demo where user namespaces are denied: nothing isolates, and it says so first of all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "climate-twin" / "demo.py"
SWITCH = "/proc/sys/user/max_user_namespaces"
PLAIN = "setpriv --inh-caps=-all --ambient-caps=-all"
DENY = (
    *("unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps"),
    *("sh", "-c", f'echo 0 >{SWITCH} && exec {PLAIN} "$@"', "sh"),
)
FIX = "what helps: sudo sysctl -w user.max_user_namespaces=15000"
pytestmark = pytest.mark.timeout(600)


def tell(place, *words, **environment):
    """Run the demo as an ordinary user in a user namespace that allows no further one.

    Returns:
        Its exit code and what it said.
    """
    outside = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [*DENY, sys.executable, DEMO, "--home", place / "home", "--out", place / "out", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
        env={**outside, **environment},
    )
    return done.returncode, done.stdout


@pytest.mark.story(
    "Where user namespaces are denied a site does not advertise `isolated`, `hpc-b` is no"
    " candidate, `why` says so, training goes to `cloud-a`"
)
def test_training_goes_to_the_cloud_by_tracing_when_user_namespaces_are_denied(tmp_path, told):
    del told  # it has built the image
    code, text = tell(tmp_path, "--until", "serve")
    assert code == 0, text
    first = next(line for line in text.splitlines() if "isolated" in line)
    assert first.startswith("jobs at cloud-a, edge-c are NOT isolated, hpc-b takes no jobs: ")
    assert "user namespaces are denied here" in first
    assert first.endswith(FIX)
    assert "training goes to cloud-a: " in text
    assert "job train at cloud-a: Succeeded" in text
    assert "the service answers: A1B in 2050" in text


def test_the_demo_fails_in_the_end_when_jobs_are_not_isolated_in_ci(tmp_path):
    code, text = tell(tmp_path, "--until", "ingest", CI="true")
    assert code == 1, text
    assert "2 scenarios registered" in text
    assert text.splitlines()[-1].startswith("demo: CI is set")
