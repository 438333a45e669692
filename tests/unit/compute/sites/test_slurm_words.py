"""What a pod may ask of Slurm, what Slurm says, and how a job ended: all pure."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from twinfra.compute.containers.keeper.model import (
    ContainerPlan,
    ContainerStatus,
    Launch,
    PodPlan,
    PodState,
    Terminated,
)
from twinfra.compute.containers.machine import Machine
from twinfra.compute.sites.model import JobSpec, JobState
from twinfra.compute.sites.slurm import states
from twinfra.compute.sites.slurm.commands import TRANSIENT, SlurmCommands
from twinfra.compute.sites.slurm.machines import read_machines
from twinfra.compute.sites.slurm.options import FLAGS, KNOWN, mebibytes, read_options, seconds
from twinfra.compute.sites.slurm.script import batch_script, limited
from twinfra.compute.sites.slurm.settings import SlurmSettings
from twinfra.compute.sites.slurm.verdict import judge
from twinfra.core.errors import InvalidRequest, SiteRejected

ALL = frozenset(KNOWN)
MIB = 1024**2


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--time=1", {"time": "1"}),
        ("--time 1", {"time": "1"}),
        ("-t 1", {"time": "1"}),
        ("-t1", {"time": "1"}),
        ("-p gpu", {"partition": "gpu"}),
        ("--partition=gpu -t 1-02:03:04", {"partition": "gpu", "time": "1-02:03:04"}),
        ("-p one --partition=two", {"partition": "two"}),
        ("--exclusive -c 4", {"exclusive": "", "cpus-per-task": "4"}),
        ("--constraint='[a&b]|c'", {"constraint": "[a&b]|c"}),
        ("--gres=gpu:a100:2", {"gres": "gpu:a100:2"}),
        ("", {}),
    ],
)
@pytest.mark.story("Slurm: flags annotation forms `--time=1`, `--time 1`, `-p gpu`")
def test_options_are_read_in_all_forms(flags, expected):
    assert read_options({FLAGS: flags}, ALL) == expected


@pytest.mark.parametrize(
    "flags",
    [
        "--wrap=touch", "--wrap touch", "--uid=0", "--output=/etc/passwd", "-o x", "-J x",
        "--job-name=x", "--export=ALL,LD_PRELOAD=x", "--time=1;id", "--time=$(id)", "--time=`id`",
        "--time", "--partition=-x", "--partition=--uid=0", "#SBATCH --uid=0", "x", "-", "--",
        "--exclusive=user", "--time='1\n#SBATCH --uid=0'", "--comment=x", "--time='1",
        "--mem=1\0", "--nice=" + "9" * 8 + "x", "--array=1-9", "--dependency=afterok:1",
    ],
)  # fmt: skip
@pytest.mark.story("A pod with `$(...)`, newlines, `#SBATCH` in names, env, args, annotations")
def test_options_are_refused_when_they_are_not_for_pods(flags):
    with pytest.raises(SiteRejected, match="slurm-job"):
        read_options({FLAGS: flags}, ALL)


def test_options_are_refused_when_the_site_does_not_allow_them():
    with pytest.raises(SiteRejected, match="'account' is not allowed"):
        read_options({FLAGS: "-A other"}, SlurmSettings().options)


@pytest.mark.story("What cannot be honoured is refused with an event that names the field")
def test_another_annotation_of_slurms_is_refused_by_its_name():
    with pytest.raises(SiteRejected, match=r"slurm-job\.vk\.io/pre-exec"):
        read_options({"slurm-job.vk.io/pre-exec": "id"}, ALL)


@given(st.text())
def test_whatever_is_asked_for_stays_on_its_line(flags):
    try:
        found = read_options({FLAGS: flags}, ALL)
    except SiteRejected:
        return
    for value in found.values():
        assert not set(value) & set(" \t\r\n'\"\\$`;#")


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [("5", 300), ("5:30", 330), ("1:00:01", 3601), ("2-3", 183600), ("1-1:1", 90060)],
)
def test_times_are_read_as_sbatch_reads_them(spelled, expected):
    assert seconds(spelled) == expected


@pytest.mark.parametrize(
    ("spelled", "expected"), [("5", 5), ("2G", 2048), ("1025K", 2), ("1T", 1024**2), ("7M", 7)]
)
def test_memory_is_read_as_sbatch_reads_it(spelled, expected):
    assert mebibytes(spelled) == expected


def job(**fields):
    launch = Launch((), ("/bin/true",))
    plan = PodPlan("uid-1", (ContainerPlan("main", launch),), isolated=False, network="host")
    return JobSpec(plan, Path("/shared/jobs/uid-1"), **fields)


def lines(spec, **settings):
    return batch_script(spec, SlurmSettings(**settings)).splitlines()


def test_the_script_asks_for_what_the_pod_needs():
    spec = job(cpus=2.5, memory_bytes=1000 * MIB, gpus=2)
    made = lines(spec, partition="gpu", account="physics", qos="long", gres="gpu:a100")
    for name, value in (
        ("job-name", "uid-1"), ("cpus-per-task", "3"), ("mem", "1064M"), ("gres", "gpu:a100:2"),
        ("partition", "gpu"), ("account", "physics"), ("qos", "long"),
    ):  # fmt: skip
        assert f"#SBATCH --{name}={value}" in made
    assert "#SBATCH --no-requeue" in made
    assert made[-1].startswith("exec env -i ")


def test_a_pods_flags_win_over_the_sites_and_lose_to_its_resources():
    flags = {FLAGS: "-p short -c 1 --mem=1G"}
    made = lines(job(cpus=4, memory_bytes=10 * MIB, native_options=flags), partition="long")
    assert "#SBATCH --partition=short" in made
    assert "#SBATCH --cpus-per-task=4" in made
    assert "#SBATCH --mem=1024M" in made


def test_the_sooner_of_all_limits_is_the_keepers():
    spec = limited(job(native_options={FLAGS: "--time=10"}, wall_limit_s=90.0), SlurmSettings())
    assert spec.plan.active_deadline_s == 90
    assert "#SBATCH --time=3" in lines(spec)
    spec = limited(job(native_options={FLAGS: "--time=1"}, wall_limit_s=90.0), SlurmSettings())
    assert spec.plan.active_deadline_s == 60
    assert "#SBATCH --time=1" in lines(spec)


def test_a_name_or_folder_that_slurm_would_misread_is_refused():
    spec = job()
    with pytest.raises(SiteRejected, match="cannot have this name"):
        lines(replace(spec, job_dir=Path("/shared/a b\n#SBATCH --uid=0")))
    with pytest.raises(InvalidRequest):
        lines(replace(spec, plan=replace(spec.plan, uid="x\n#SBATCH --uid=0")))


def test_a_site_cannot_leave_dangerous_options_to_pods():
    with pytest.raises(ValidationError, match="not to be left to pods"):
        SlurmSettings(options=("time", "wrap"))


def test_words_are_quoted_when_a_shell_is_at_the_other_end():
    argv = SlurmCommands(SlurmSettings(command_prefix=("ssh", "login", "--"))).argv("squeue", "%i|")
    assert argv[:3] == ["ssh", "login", "--"]
    assert shlex.split(" ".join(argv[3:]))[-2:] == ["squeue", "%i|"]
    assert SlurmCommands(SlurmSettings()).argv("squeue", "%i|")[-1] == "%i|"


@pytest.mark.parametrize(
    ("said", "later"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Socket timed out on send/recv operation", True),
        ("sbatch: error: AssocMaxSubmitJobLimit", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
        ("sbatch: error: Invalid partition name specified", False),
        ("sbatch: error: Requested node configuration is not available", False),
        ("sbatch: error: Invalid account or account/partition combination specified", False),
    ],
)
def test_texts_are_known_for_what_may_pass(said, later):
    assert bool(TRANSIENT.search(said)) is later


def test_the_queue_is_read_and_an_unlisted_state_is_unknown():
    text = (
        "7|RUNNING|n1|2026-01-01T00:00:00|2026-01-01T00:01:00|N/A|9|debug|None\n"
        "8|PENDING||2026-01-01T00:00:00|N/A|N/A|5|debug|Reserved for | maintenance\n"
        "9|TRANSCENDED|(null)|N/A|N/A|N/A|0|debug|None\n"
        "broken\n10_1|RUNNING|n1|N/A|N/A|N/A|0|debug|None\n"
    )
    seen = states.read_queue(text)
    assert set(seen) == {"7", "8", "9"}
    assert seen["7"].state is JobState.RUNNING
    assert seen["7"].started_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert seen["8"].reason == "Reserved for | maintenance"
    assert seen["9"].state is JobState.UNKNOWN


def test_places_are_counted_within_a_partition():
    waiting = states.read_waiting("1|5|a|N/A\n2|9|a|N/A\n3|99|b|N/A\n4|7|b,a|N/A\n")
    assert [states.position(waiting, key) for key in ("2", "4", "1", "3")] == [1, 3, 3, 1]
    assert states.position(waiting, "77") is None


def test_the_nodes_that_serve_are_counted():
    text = """\
n1 1/3/0/4 4000 1000 (null) gpu:0 mixed
n1 1/3/0/4 4000 1000 (null) gpu:0 mixed
n2 0/4/0/4 4000 0 gpu:a100:4(S:0-1),shard:8 gpu:0 idle*
n3 0/0/4/4 4000 0 gpu:2 gpu:0 down*
n4 0/0/4/4 4000 0 (null) gpu:0 drained
"""
    figures = states.read_nodes(text, [], datetime.now(UTC), gpu_resource="nvidia.com/gpu")
    assert (figures.cpus, figures.free_cpus) == (8, 7)
    assert figures.gpus == {"nvidia.com/gpu": 4}
    assert figures.free_memory_bytes == 7000 * MIB
    assert figures.wait_s == 0


def node_line(name, kind="x86_64", partitions="cpu,debug"):
    return (
        f"NodeName={name} Arch={kind} CoresPerSocket=1 CPUAlloc=0 "
        f"OS=Linux 6.1.0 #1 SMP Debian Partitions={partitions} BootTime=2026-11-01T00:00:00"
    )


@pytest.mark.story("Nodes publish real os, architecture and CPU level")
@pytest.mark.parametrize(
    ("lines", "partition", "kind"),
    [
        ([node_line("n1"), node_line("n2")], "", Machine("linux", "amd64")),
        ([node_line("n1"), node_line("n2", "aarch64", "arm")], "", Machine()),
        ([node_line("n1"), node_line("n2", "aarch64", "arm")], "arm", Machine("linux", "arm64")),
        (["NodeName=n3 CoresPerSocket=1 State=DOWN Partitions=cpu"], "cpu", Machine()),
        (["No nodes in the system"], "", Machine()),
    ],
)
def test_the_nodes_are_of_one_kind_or_none(lines, partition, kind):
    assert read_machines("\n".join(lines), partition) == kind


def ended(code, reason="Error", *, cancelled=False, phase="Failed"):
    end = Terminated(code, reason, "", "")
    return PodState(
        "uid-1", 1, 3, phase, (ContainerStatus("main", terminated=end),),
        reason=reason if reason != "Error" else "", cancelled=cancelled,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "native", "asked", "state", "reason"),
    [
        (ended(0, "Completed", phase="Succeeded"), "NODE_FAIL", False, "COMPLETED", "Completed"),
        (ended(3), "COMPLETED", False, "FAILED", "Error"),
        (ended(3), "TIMEOUT", False, "FAILED", "Error"),
        (ended(143, cancelled=True), "TIMEOUT", False, "FAILED", "DeadlineExceeded"),
        (ended(137), "OUT_OF_MEMORY", False, "FAILED", "OOMKilled"),
        (ended(137, "KeeperLost"), "OUT_OF_MEMORY", False, "FAILED", "OOMKilled"),
        (ended(137, "KeeperLost"), "NODE_FAIL", False, "FAILED", "NodeFail"),
        (ended(137, "KeeperLost"), "PREEMPTED", False, "FAILED", "Preempted"),
        (ended(137, "KeeperLost"), "FAILED", False, "FAILED", "KeeperLost"),
        (ended(137, "KeeperLost"), "CANCELLED", False, "CANCELLED", "Cancelled"),
        (ended(143, "Cancelled", cancelled=True), "COMPLETED", True, "CANCELLED", "Cancelled"),
        (None, "CANCELLED", False, "CANCELLED", "Cancelled"),
        (None, "FAILED", False, "FAILED", "StartError"),
        (None, "BOOT_FAIL", False, "FAILED", "NodeFail"),
        (None, None, False, "FAILED", "Vanished"),
        (None, None, True, "CANCELLED", "Cancelled"),
    ],
)
@pytest.mark.story("reasons kept (OOMKilled, Preempted, DeadlineExceeded, queue reason")
def test_the_end_is_judged_from_both_sides(pod, native, asked, state, reason):
    seen = states.Seen("7", native) if native else None
    verdict = judge(pod, seen, asked=asked, last_words="")
    assert (verdict.state, verdict.reason) == (JobState[state], reason)
    if verdict.pod is not None and verdict.state is not JobState.COMPLETED:
        assert verdict.exit_code


def test_accounting_tells_what_the_controller_has_forgotten():
    text = (
        "7|CANCELLED by 1000|n1|2026-01-01T00:00:00|2026-01-01T00:01:00|2026-01-01T00:02:00\n"
        "8|OUT_OF_MEMORY|n2|2026-01-01T00:00:00|Unknown|Unknown\nbroken\n"
    )
    seen = states.read_accounting(text)
    assert seen["7"].state is JobState.CANCELLED
    assert (seen["8"].native, seen["8"].started_at, seen["8"].over) == ("OUT_OF_MEMORY", None, True)
