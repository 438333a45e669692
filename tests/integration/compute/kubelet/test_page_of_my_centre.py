"""`docs/howto/put-my-clusters-pods-on-my-hpc-centre.md`, typed from its top to its bottom."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from twinfra.testkit.images import BUSYBOX, busybox_image

from .page import Page, said

ROOT = Path(__file__).parents[4]
PAGE = Page(ROOT / "docs" / "howto" / "put-my-clusters-pods-on-my-hpc-centre.md")
TYPED_WITHIN_S = 420
CONF = "/etc/slurm/slurm.conf"
KEPT = ("LANG", "TMPDIR")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("kubernetes"),
    pytest.mark.real("slurm"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def folder():
    """A place of short paths, as Unix sockets want them."""
    made = Path(tempfile.mkdtemp(prefix="twinfra-page-"))
    yield made
    subprocess.run(["chmod", "-R", "u+rwX", made], check=False, stdin=subprocess.DEVNULL)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def own(folder, slurm_cluster):
    """What this reader writes in place of the page's words."""
    (folder / "work").mkdir()
    busybox_image(folder / "pulled", folder / "work")
    return {
        "docker://docker.io/library/busybox:1": f"oci:{folder}/pulled:{BUSYBOX}",
        "/scratch/me/twinfra": f"{folder}/scratch/me/twinfra",
        "batch": "debug",
        "my-project": "their-project",
        "10.1.2.3": "127.0.0.1",
    }


@pytest.fixture
def reader(folder, control_plane):
    """An environment with a fresh home folder, with the cluster's kubeconfig in its place."""
    home = folder / "home"
    (home / ".kube").mkdir(parents=True)
    shutil.copy(control_plane.kubeconfig, home / ".kube" / "config")
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    yield {**kept, "HOME": str(home), "USER": "me", "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    control_plane.kubectl("delete", "pod", "first", "--ignore-not-found", "--now", check=False)
    control_plane.kubectl("delete", "node", "my-centre", "--ignore-not-found", check=False)


def shell(script, environment):
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment, cwd=environment["HOME"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TYPED_WITHIN_S,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture
def typed(own, reader, slurm_cluster):
    """What the page's commands said, each block by its first command."""
    (variable,) = re.findall(r"`(environment = \{ SLURM_CONF = [^`]+)`", PAGE.text)
    account = f'account = "{own["my-project"]}"\n'
    script, blocks = PAGE.script(own)
    assert script.count(account) == 1
    # this reader's Slurm needs the variable, so the line of the page goes where the page says
    script = script.replace(
        account, f"{account}{variable.replace(CONF, str(slurm_cluster.conf))}\n"
    )
    environment = {**reader, **slurm_cluster.environment}
    try:
        code, output = shell(script, environment)
        logs = Path(reader["HOME"], "fed", "logs").glob("[!n]*.log")
        ends = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs) if code else ""
        assert code == 0, f"{output}\n{ends}"
        yield said(output, blocks)
    finally:
        # what a failure left; after the whole page both find nothing to end
        end = "kill $(cat ~/fed/kubelet.pid); twinfra down --home ~/fed"
        shell(end, environment)


@pytest.mark.story("A page leads from an account at a Slurm centre to pods there; it is typed")
def test_the_pages_commands_do_what_the_page_says_when_typed(typed, own, slurm_cluster):
    assert PAGE.placeholders == set(own)
    tried, listed, node, sent, ended, _ = (
        typed[next(each for each in typed if each.startswith(start))]
        for start in (
            "mkdir -p /", "twinfra up", "nohup twinfra kubelet", "kubectl apply",
            "kubectl certificate", "kubectl delete pod",
        )
    )  # fmt: skip
    assert re.fullmatch(r"Python 3\.\d+\.\d+\nlocks work\nbwrap works", tried)
    (row,) = [line.split() for line in listed.splitlines() if line.startswith("my-centre ")]
    assert row[:5] == ["my-centre", "hpc", "active", "True", "12"]
    assert re.search(r"^my-centre +Ready +agent ", node, re.MULTILINE)
    uid, _, job = sent.splitlines()[-3:]
    assert job.split()[1:] == [uid, "RUNNING"]
    told = slurm_cluster.job(job.split()[0])
    assert (told["Partition"], told["Account"]) == ("debug", "their-project")
    assert told["TimeLimit"] == "00:10:00"
    assert ended.splitlines()[-1] == "done"
    assert slurm_cluster.run("squeue", "--me", "--noheader") == ""
