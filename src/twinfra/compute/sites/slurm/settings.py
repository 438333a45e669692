"""Settings of a site whose jobs run under Slurm."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, field_validator

from twinfra.compute.sites.slurm.options import KNOWN
from twinfra.core.settings import SettingsGroup

MIB = 1024**2


class SlurmSettings(SettingsGroup):
    """How jobs are handed to Slurm, and where."""

    section: ClassVar[str] = "sites.{name}.slurm"

    partition: str = Field(default="", pattern=r"^[\w.,-]*$")
    """Partition of the jobs; empty: Slurm's own default."""

    account: str = Field(default="", pattern=r"^[\w.-]*$")
    """Account that pays; empty: the user's own default."""

    qos: str = Field(default="", pattern=r"^[\w.-]*$")
    """Quality of service; empty: the user's own default."""

    command_prefix: tuple[str, ...] = ()
    """Words before each of Slurm's commands, such as ``["ssh", "login", "--"]``; what follows
    ``ssh`` is quoted for the shell at the other end. Default: the commands are on this machine."""

    environment: dict[str, str] = Field(default_factory=dict)
    """Added to the environment of Slurm's commands here, such as ``SLURM_CONF``; of ours they get
    ``HOME`` alone. They are looked for in the system's folders and ``/opt/slurm/bin``; a ``PATH``
    here names others."""

    python: Path = Path("/usr/bin/python3")
    """Interpreter of the keepers at the nodes, 3.9 or later."""

    gres: str = Field(default="gpu", pattern=r"^\w+(:[\w.-]+)?$")
    """Generic resource that a pod's devices are asked for as, with a type where it must have
    one: ``gpu:a100``."""

    gpu_resource: str = "nvidia.com/gpu"
    """What Kubernetes calls these devices."""

    options: tuple[str, ...] = (
        "time", "partition", "qos", "constraint", "gres", "cpus-per-task", "mem", "nice",
        "exclusive", "licenses", "reservation", "begin", "hint", "threads-per-core", "tmp",
    )  # fmt: skip
    """Options of sbatch that a pod may set by its annotation ``slurm-job.vk.io/flags``; others are
    refused. ``account`` may be added: then pods choose who pays."""

    overhead_bytes: NonNegativeInt = 64 * MIB
    """Memory asked for beside the pod's own: for its keeper and its sandbox."""

    poll_s: PositiveFloat = 2.0
    """Slurm is asked at least so often, for all jobs at once, while there are any."""

    look_s: PositiveFloat = 0.25
    """The shared folder is looked at so often for what keepers say."""

    lost_after_s: NonNegativeFloat = 5.0
    """Where Slurm says that a job has ended and its keeper says nothing, so long is waited: shared
    file systems show others' writes late."""

    command_timeout_s: PositiveFloat = 30.0
    """A command of Slurm's that takes longer is given up."""

    reach: Literal["auto", "srun"] = "auto"
    """How a keeper's socket is reached: ``auto``: directly on this machine, else through
    ``srun --overlap``."""

    accounting: bool = False
    """There is an accounting database: ``sacct`` is asked for what the controller has forgotten."""

    @field_validator("options")
    @classmethod
    def _only_known(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(options) - set(KNOWN)):
            raise ValueError(f"not to be left to pods: {', '.join(unknown)}")
        return options
