"""The batch script of a job, and what lies beside it in the job's folder.

All that varies is written by us as a directive of plain characters, or quoted for the shell; a
pod's own words are in the keeper's plan, which no shell reads.

Source: sbatch(1).
"""

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

from twinfra.compute.containers.keeper import checks, journal
from twinfra.compute.containers.keeper.model import PodPlan
from twinfra.compute.sites.model import JobSpec
from twinfra.compute.sites.slurm.options import mebibytes, read_options, seconds
from twinfra.compute.sites.slurm.settings import MIB, SlurmSettings
from twinfra.core.errors import InvalidRequest, SiteRejected

KEEPER = "keeper.pyz"
OUTPUT = "slurm.log"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOTICE_S = 60.0
"""Slurm's own limit is so much later than the keeper's, which can say more of the end."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FOLDER = re.compile(r"/[\w.@+,=/-]*", re.ASCII)


def limited(spec: JobSpec, settings: SlurmSettings) -> JobSpec:
    """Return the job with one limit of time: the keeper's, Slurm's follows.

    Raises:
        SiteRejected: as `read_options`.
    """
    options = read_options(spec.native_options, settings.options)
    limits = [
        limit
        for limit in (
            spec.wall_limit_s,
            spec.plan.active_deadline_s,
            seconds(options["time"]) if "time" in options else None,
        )
        if limit
    ]
    limit_s = min(limits, default=None)
    plan = replace(spec.plan, active_deadline_s=limit_s)
    return replace(spec, plan=plan, wall_limit_s=limit_s)


def is_name(name: str) -> bool:
    """Say whether a job of ours can be called so."""
    return _NAME.fullmatch(name) is not None


def directives(spec: JobSpec, settings: SlurmSettings) -> dict[str, str]:
    """Return the options of sbatch by name; an empty value is an option without one.

    The site's settings are the least, the pod's flags are over them, what its resources mean is
    over both: a pod gets no less than it asked for.

    Raises:
        SiteRejected: as `read_options`, or the folder has a name that Slurm would misread.
        InvalidRequest: the name is not one of ours.
    """
    if not is_name(spec.name):
        raise InvalidRequest("a job's name is made of letters, digits, dots and dashes")
    if not _FOLDER.fullmatch(str(spec.job_dir)):
        raise SiteRejected(f"a folder of jobs cannot have this name here: {spec.job_dir}")
    flags = read_options(spec.native_options, settings.options)
    own = {"partition": settings.partition, "account": settings.account, "qos": settings.qos}
    found = {name: value for name, value in own.items() if value} | flags
    cpus = max(1, math.ceil(spec.cpus - 0.01))
    memory_mib = math.ceil((spec.memory_bytes + settings.overhead_bytes) / MIB)
    found["cpus-per-task"] = str(max(cpus, int(flags.get("cpus-per-task", 0))))
    found["mem"] = f"{max(memory_mib, mebibytes(flags.get('mem', '0')))}M"
    if spec.gpus and not _asks(flags.get("gres", ""), settings.gres):
        others = [flags["gres"]] if "gres" in flags else []
        found["gres"] = ",".join([*others, f"{settings.gres}:{spec.gpus}"])
    if spec.wall_limit_s and not 0 < seconds(flags.get("time", "0")) <= spec.wall_limit_s:
        found["time"] = str(math.ceil((spec.wall_limit_s + NOTICE_S) / 60))
    return {
        "job-name": spec.name,
        **found,
        "nodes": "1",
        "ntasks": "1",
        "no-requeue": "",
        "chdir": str(spec.job_dir),
        "output": "/dev/null",
        "error": "/dev/null",
    }


def _asks(gres: str, device: str) -> bool:
    """Say whether the pod's own flags ask for such devices already, of a kind that it wants."""
    kind = device.partition(":")[0]
    return any(entry.partition(":")[0] == kind for entry in gres.split(","))


def batch_script(spec: JobSpec, settings: SlurmSettings) -> str:
    """Return the script that becomes the keeper; raises as `directives`."""
    lines = [
        f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}"
        for name, value in directives(spec, settings).items()
    ]
    folder = str(spec.job_dir)
    note = shlex.quote(str(note_of(spec.job_dir, spec.plan.attempt)))
    keeper = [str(settings.python), "-I", "-S", "-B", f"{folder}/{KEEPER}", "--foreground", folder]
    log = shlex.quote(f"{folder}/{OUTPUT}")
    return "\n".join(
        [
            "#!/bin/sh",
            *lines,
            "umask 077",
            f'echo "$SLURM_JOB_ID" > {note}.new && mv {note}.new {note}',
            f"exec env -i {shlex.join([f'PATH={PATH}', *keeper])} < /dev/null >> {log} 2>&1",
            "",
        ]
    )


def note_of(job_dir: Path, attempt: int) -> Path:
    """Return the file in which a job leaves its own native id as it begins."""
    return job_dir / f"slurm.{attempt}"


def begun(job_dir: Path, attempt: int) -> str | None:
    """Return the native id that a job left as it began, if it did."""
    try:
        text = note_of(job_dir, attempt).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if text.isdigit() else None


def lay_plan(spec: JobSpec) -> None:
    """Put the plan into the job's folder, for the keeper to find; blocks.

    Raises:
        InvalidRequest: the plan is not one that a keeper accepts.
    """
    if faults := checks.plan_faults(spec.plan):
        raise InvalidRequest("; ".join(faults))
    spec.job_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal.write(spec.job_dir / journal.PLAN, spec.plan)


def plan_in(job_dir: Path) -> PodPlan | None:
    """Return the plan in a job's folder; none where there is none that can be read."""
    try:
        return journal.read(PodPlan, job_dir / journal.PLAN)
    except (OSError, journal.MalformedError):
        return None


def last_words(job_dir: Path) -> str:
    """Return the end of what the script and the keeper wrote, for people."""
    try:
        text = (job_dir / OUTPUT).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
