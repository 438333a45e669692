"""The keeper's life: detach, lock, isolate, run the pod, leave.

`keeper.pyz JOBDIR` returns once the detached keeper is up, with one of the exit codes below;
`--foreground` stays (for batch systems that follow the process); `--gone` proves a job gone;
`--relay` is a connection to a keeper's socket from elsewhere; `--probe [COMMAND...]` isolates
itself and becomes the command.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from . import checks, gone, journal, kernel, model, places, procfs
from .cgroups import Groups
from .door import Door
from .loop import Loop
from .pipe import relay
from .pod import Pod
from .reaper import Reaper
from .surroundings import Surroundings
from .uplink import Uplink, UplinkError

UP = 0
BROKEN = 1
BAD_PLAN = 2
LOCKED = 3
"""A keeper runs in this directory: adopt it."""
USED = 4
"""This attempt was started before; it is never run twice."""
UNSETTLED = 5
"""An earlier attempt has neither ended nor been proved gone."""


class RefusedError(Exception):
    """The keeper does not start; `code` says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def main(argv: list[str]) -> int:
    """Do what the command line asks and return the exit code."""
    if argv[:1] == ["--probe"]:
        return _probe(argv[1:])
    if argv[:1] == ["--gone"] and len(argv) == 2:
        return _gone(Path(argv[1]))
    if argv[:1] == ["--relay"] and len(argv) == 2:
        return relay(Path(argv[1]))
    foreground = argv[:1] == ["--foreground"]
    rest = argv[1:] if foreground else argv
    if len(rest) != 1:
        sys.stderr.write("usage: keeper.pyz [--foreground | --gone | --relay] JOBDIR\n")
        return BAD_PLAN
    jobdir = Path(rest[0]).resolve()
    try:
        plan = read_plan(jobdir)
    except RefusedError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return refusal.code
    if foreground:
        return _keep_reporting(jobdir, plan, _report_to_stderr)
    return _detach(jobdir, plan)


def read_plan(jobdir: Path) -> model.PodPlan:
    """Read and check the plan.

    Raises:
        RefusedError: there is none, or it cannot be run.
    """
    try:
        plan = journal.read(model.PodPlan, jobdir / journal.PLAN)
    except (journal.MalformedError, OSError) as error:
        raise RefusedError(BAD_PLAN, str(error)) from error
    if plan is None:
        raise RefusedError(BAD_PLAN, f"{jobdir}: no plan")
    faults = checks.plan_faults(plan)
    if faults:
        raise RefusedError(BAD_PLAN, "; ".join(faults))
    return plan


def _detach(jobdir: Path, plan: model.PodPlan) -> int:
    """Fork twice with a session in between; return what the grandchild reports."""
    reads, writes = os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        with open(reads, encoding="utf-8") as report:
            text = report.read()
        os.waitpid(child, 0)
        code, _, message = text.partition(" ")
        if message:
            sys.stderr.write(f"{message}\n")
        return int(code) if code.isdigit() else BROKEN
    os.close(reads)
    os.setsid()
    if os.fork():
        os._exit(0)

    def report_up(code: int, message: str) -> None:
        os.write(writes, f"{code} {message[:2000]}".encode())
        os.close(writes)

    _redirect(jobdir)
    os._exit(_keep_reporting(jobdir, plan, report_up))


def _redirect(jobdir: Path) -> None:
    """Let go of whoever started us: standard streams and working directory."""
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(jobdir / journal.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for descriptor in (null, log):
        if descriptor > 2:
            os.close(descriptor)


def _report_to_stderr(_: int, message: str) -> None:
    if message:
        sys.stderr.write(f"{message}\n")


def _keep_reporting(jobdir: Path, plan: model.PodPlan, report: Callable[[int, str], None]) -> int:
    """Run the pod; report once, when the keeper is up or refuses."""
    try:
        keep(jobdir, plan, lambda: report(UP, ""))
    except RefusedError as refusal:
        report(refusal.code, str(refusal))
        return refusal.code
    except Exception as error:  # noqa: BLE001 - the process's edge: the log has the trace
        traceback.print_exc()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            report(BROKEN, str(error))
        return BROKEN
    return 0


def keep(jobdir: Path, plan: model.PodPlan, up: Callable[[], None]) -> None:
    """Run one attempt from lock to final state; `up` is called once it can be asked.

    Raises:
        RefusedError: another keeper is here, or this attempt has been before.
    """
    os.chdir(jobdir)
    lock = os.open(journal.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    folder = _claim(lock, jobdir, plan)
    journal.write(folder / journal.PLAN, plan)
    loop = Loop()
    trouble, uplink = _isolate(plan, folder)
    around = Surroundings(loop, Reaper(loop), Groups.here(), folder, plan)
    earlier = journal.read(model.PodState, jobdir / journal.STATE)
    pod = Pod(around, earlier.sequence if earlier else 0)
    if uplink is not None:
        around.reaper.wait(uplink.pid, _uplink_ended)
    kernel.become_subreaper()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(number, pod.cancel)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    me = procfs.process(os.getpid())
    identity = model.Identity(
        pid=os.getpid(),
        start_ticks=me.start_ticks if me else 0,
        boot_id=procfs.boot_id(),
        uid=plan.uid,
        attempt=plan.attempt,
        cgroups=pod.groups,
    )
    journal.write(jobdir / journal.IDENTITY, identity)
    pod.publish()
    door = Door(loop, pod)
    up()
    loop.after(0, pod.begin if not trouble else lambda: pod.fail(model.START_ERROR, trouble))
    loop.run()
    door.close()


def _claim(lock: int, jobdir: Path, plan: model.PodPlan) -> Path:
    """Take the lock and the attempt's number; the lock lasts as long as this process."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RefusedError(LOCKED, "a keeper runs here already") from None
    state = journal.read(model.PodState, jobdir / journal.STATE)
    folder = journal.attempt_dir(jobdir, plan.attempt)
    if folder.exists() or (state is not None and state.attempt >= plan.attempt):
        raise RefusedError(USED, f"attempt {plan.attempt} was started before")
    last = journal.last_attempt(jobdir)
    if last and (state is None or state.attempt < last or not state.final):
        raise RefusedError(UNSETTLED, f"attempt {last} has not been proved gone")
    folder.mkdir(parents=True, mode=0o700)
    journal.sync_directory(folder.parent)
    return folder


def _isolate(plan: model.PodPlan, folder: Path) -> tuple[str, Optional[Uplink]]:
    """Enter the pod's own namespaces; return why not (empty if all is well) and the uplink."""
    if not plan.isolated:
        return "", None
    uplink = None
    try:
        if plan.network == "private":
            mark = model.job_mark(plan.uid, plan.attempt)
            uplink = Uplink(plan.uplink, mark, folder / "uplink.log")
        kernel.isolate(network=plan.network != "host", mounts=places.wanted(plan))
        places.mount_memory(plan)
        if plan.hostname:
            socket.sethostname(plan.hostname)
        if uplink is not None:
            uplink.connect()
    except OSError as error:
        return f"namespaces are denied here: {error}", uplink
    except UplinkError as error:
        return str(error), uplink
    return "", uplink


def _uplink_ended(code: int, _: object) -> None:
    sys.stderr.write(f"{journal.now_text()} the uplink ended with code {code}\n")
    sys.stderr.flush()


def _gone(jobdir: Path) -> int:
    try:
        killed, state = gone.prove_gone(jobdir, 10.0)
    except (gone.StillThereError, gone.LockedError) as error:
        sys.stderr.write(f"{error}\n")
        return BROKEN
    phase = state.phase if state else ""
    sys.stdout.write(json.dumps({"killed": killed, "phase": phase}) + "\n")
    return 0


def _probe(command: list[str]) -> int:
    """Isolate as for a pod without network, then become the command."""
    try:
        kernel.isolate(network=True)
        if command:
            os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return BROKEN
    return 0
