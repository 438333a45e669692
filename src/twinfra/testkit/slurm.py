"""A real Slurm on loopback for tests: munged, slurmctld and three slurmd, all on this machine.

Everything is in one folder, on free ports, and is stopped by pid. The nodes claim more than the
machine has; one has two GPUs that are none. There is no accounting database: what has aged out of
the controller is forgotten, as at many a small centre.

Source: slurm.conf(5), gres.conf(5), munged(8).
"""

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from twinfra.testkit.ports import LOOPBACK, free_port
from twinfra.testkit.processes import ServerDidNotStart, running, stop
from twinfra.testkit.servers import TRIES, find_program
from twinfra.testkit.waiting import wait_for_sync

NODES = ("n1", "n2", "n3")
CPUS_A_NODE = 4
MEMORY_MIB_A_NODE = 4000
GPUS = 2
PACKAGES = "slurm-wlm slurm-wlm-basic-plugins slurm-client munge"
READY_WITHIN_S = 60.0

CONF = """\
ClusterName=twinfra
SlurmctldHost={host}({loopback})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
KillWait=2
MinJobAge={remember_s}
OverTimeLimit=0
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n[1-3] MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=short Nodes=n[1-3] MaxTime=1 State=UP PriorityTier=1
"""


@dataclass
class Slurm:
    """A cluster that runs.

    Attributes:
        folder: holds everything of it.
        remember_s: how long the controller knows a job that has ended.
    """

    folder: Path
    remember_s: int = 300
    _controller: subprocess.Popen[bytes] | None = None
    _ports: list[int] = field(default_factory=list)

    @property
    def conf(self) -> Path:
        """What ``SLURM_CONF`` is to name."""
        return self.folder / "slurm.conf"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """For a command of Slurm's."""
        return {"SLURM_CONF": str(self.conf)}

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a command of Slurm's and return its output."""
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **self.environment},  # noqa: TID251 - a child inherits ours
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def job(self, native_id: str) -> dict[str, str]:
        """Return what the controller knows of a job; empty when it knows none."""
        text = self.run("scontrol", "show", "job", "--oneliner", native_id, check=False)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def stop_controller(self) -> None:
        """Stop slurmctld: its commands fail from now on, running jobs go on."""
        if self._controller is not None:
            stop(self._controller)
            self._controller = None

    def start_controller(self) -> None:
        """Start slurmctld with the state that it saved, and wait until it answers."""
        program = find_program("slurmctld", PACKAGES)
        log = self.folder / "log" / "slurmctld.out"
        with log.open("ab") as output:
            self._controller = subprocess.Popen(
                [program, "-D", "-f", str(self.conf)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                env={**os.environ, **self.environment},  # noqa: TID251 - a child inherits ours
            )
        controller = self._controller
        wait_for_sync(
            lambda: controller.poll() is not None or self.answers(),
            timeout_s=READY_WITHIN_S,
            what="slurmctld",
        )
        if controller.poll() is not None:
            raise ServerDidNotStart(log.read_text(errors="replace")[-2000:])

    def answers(self) -> bool:
        """Say whether the controller does."""
        return "is UP" in self.run("scontrol", "ping", check=False)

    def idle(self) -> int:
        """Return how many nodes have nothing to do."""
        told = self.run("sinfo", "-h", "-p", "debug", "-t", "idle", "-o", "%D", check=False)
        return sum(int(line) for line in told.split() if line.isdigit())

    def resume(self) -> None:
        """Bring every node back into service and wait until all are idle."""
        for node in NODES:
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        wait_for_sync(lambda: self.idle() == len(NODES), timeout_s=READY_WITHIN_S, what="nodes")

    def ports(self) -> tuple[int, ...]:
        """Return where its daemons listen, all on loopback."""
        return tuple(self._ports)

    def choose_ports(self) -> None:
        """Write the configuration with ports that are free now."""
        import pwd  # noqa: PLC0415 - only here

        self._ports = [free_port() for _ in range(1 + len(NODES))]
        host = socket.gethostname().split(".", maxsplit=1)[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr={LOOPBACK} Port={port} "
            f"CPUs={CPUS_A_NODE} RealMemory={MEMORY_MIB_A_NODE}"
            for name, port in zip(NODES, self._ports[1:], strict=True)
        ]
        nodes[-1] += f" Gres=gpu:fake:{GPUS}"
        text = CONF.format(
            host=host,
            loopback=LOOPBACK,
            port=self._ports[0],
            user=pwd.getpwuid(os.geteuid()).pw_name,
            folder=self.folder,
            remember_s=self.remember_s,
            nodes="\n".join(nodes),
        )
        self.conf.write_text(text)


@contextmanager
def slurm(folder: Path, *, remember_s: int = 300) -> Iterator[Slurm]:
    """Run a Slurm in `folder` until the block ends; gives it with all nodes idle.

    Raises:
        AssertionError: a program is missing (its Debian package is named) or a daemon ended.
    """
    for name in ("state", "log", "munge"):
        (folder / name).mkdir(mode=0o755)
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    # A GPU that is none needs a device file all the same; these two are everywhere.
    devices = ("/dev/null", "/dev/zero")
    lines = [f"NodeName={NODES[-1]} Name=gpu Type=fake File={device}\n" for device in devices]
    (folder / "gres.conf").write_text("".join(lines))
    cluster = Slurm(folder, remember_s)
    with ExitStack() as stack:
        stack.enter_context(_munged(folder))
        for attempt in range(1, TRIES + 1):
            cluster.choose_ports()
            try:
                cluster.start_controller()
                stack.callback(cluster.stop_controller)
                for node in NODES:
                    stack.enter_context(_slurmd(cluster, node))
                break
            except ServerDidNotStart:
                if attempt == TRIES:
                    raise
        wait_for_sync(
            lambda: cluster.idle() == len(NODES), timeout_s=READY_WITHIN_S, what="idle nodes"
        )
        yield cluster
        cluster.run("scancel", "--me", check=False)


@contextmanager
def _munged(folder: Path) -> Iterator[None]:
    own = folder / "munge"
    argv = [
        find_program("munged", PACKAGES), "--foreground", f"--key-file={own}/key",
        f"--socket={own}/socket", f"--pid-file={own}/pid", f"--log-file={own}/log",
        f"--seed-file={own}/seed",
    ]  # fmt: skip
    with running(argv, log=own / "out", ready=(own / "socket").exists):
        yield


@contextmanager
def _slurmd(cluster: Slurm, node: str) -> Iterator[None]:
    argv = [find_program("slurmd", PACKAGES), "-D", "-N", node, "-f", str(cluster.conf)]
    pid_file = cluster.folder / f"slurmd_{node}.pid"
    with running(
        argv,
        log=cluster.folder / "log" / f"slurmd_{node}.out",
        ready=pid_file.exists,
        environment=cluster.environment,
        stop_signal=signal.SIGTERM,
    ):
        yield
