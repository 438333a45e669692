"""How big and how full the nodes of a Slurm cluster are, and the log's word when nothing comes.

Source: sinfo(1), ``--Node`` and ``--Format``.
"""

from twinfra.compute.sites.slurm import states
from twinfra.compute.sites.slurm.commands import SlurmCommands
from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)


class Nodes:
    """The nodes that jobs may get; an operator reads in the log why there are none.

    Args:
        commands: of the cluster.
        partition: only its nodes count; empty: all.
    """

    def __init__(self, commands: SlurmCommands, partition: str) -> None:
        self._commands, self._partition = commands, partition
        self._trouble = ""

    async def read(self) -> str:
        """Return what sinfo says, for `states.read_nodes`.

        Raises:
            Unavailable: nothing; ask again.
        """
        words = ["sinfo", "--noheader", "--Node", "--Format", states.NODE_FORMAT]
        if self._partition:
            words.append(f"--partition={self._partition}")
        try:
            text = await self._commands.run(*words)
        except (Unavailable, SiteRejected) as error:
            if self._is_new(error.detail):
                log.warning("slurm_not_available", detail=error.detail)
            if isinstance(error, Unavailable):
                raise
            raise Unavailable(f"Slurm does not tell its nodes: {error.detail}") from error
        where = f"partition {self._partition}" if self._partition else "any partition"
        trouble = "" if text.strip() else f"sinfo shows no node of {where}"
        if self._is_new(trouble):
            log.warning("slurm_without_nodes", detail=trouble)
        return text

    def _is_new(self, trouble: str) -> bool:
        """Say whether this trouble, if it is one, is another than that of the last time."""
        before, self._trouble = self._trouble, trouble
        return bool(trouble) and trouble != before
