"""A site whose jobs run under Slurm, through the commands that every user of it has.

``site`` is the back end; ``script`` makes the batch script, ``options`` reads what a pod asks of
Slurm, ``states`` reads what Slurm says, ``verdict`` decides how a job ended, ``commands`` runs
Slurm's commands, ``relay`` reaches keepers on other machines, ``store`` keeps what was submitted.
"""

from twinfra.compute.sites.slurm.site import SlurmSite

__all__ = ["SlurmSite"]
