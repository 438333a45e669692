"""What the nodes of a Slurm cluster are: asked once, as the answer stays.

Source: scontrol(1), ``show nodes``, ``--oneliner``: ``Arch=`` and ``OS=`` of nodes that are up.
"""

import re

from twinfra.compute.containers.machine import Machine, architecture
from twinfra.compute.sites.slurm.commands import SlurmCommands
from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

_FIELD = re.compile(r"(?:^|\s)(Arch|OS|Partitions)=(\S+)")


class Machines:
    """The nodes' kind.

    Args:
        commands: of the cluster.
        partition: only these nodes count; empty: all.
    """

    def __init__(self, commands: SlurmCommands, partition: str) -> None:
        self._commands, self._partition = commands, partition
        self._known = Machine()

    async def kind(self) -> Machine:
        """Return what all nodes are; empty where they differ or Slurm does not say."""
        if not self._known.architecture:
            try:
                text = await self._commands.run("scontrol", "show", "nodes", "--oneliner")
            except (SiteRejected, Unavailable) as error:
                log.info("slurm_machines_not_told", why=error.detail)
                return self._known
            self._known = read_machines(text, self._partition)
        return self._known


def read_machines(text: str, partition: str) -> Machine:
    """Return what the nodes of ``scontrol show nodes --oneliner`` are, if they are all the same."""
    found = set()
    for line in text.splitlines():
        fields = dict(_FIELD.findall(line))
        if partition and partition not in fields.get("Partitions", "").split(","):
            continue
        if "Arch" in fields:
            made_for = architecture(fields["Arch"])
            found.add(Machine(fields.get("OS", "linux").lower(), made_for))
    return found.pop() if len(found) == 1 else Machine()
