"""Settings of placement: how patient, and when a pod is taken from its site."""

from pathlib import Path
from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup


class PlacementSettings(SettingsGroup):
    """Choosing sites for pods that wait at the gate, and taking pods from sites that fail."""

    section: ClassVar[str] = "placement"

    enabled: bool = True
    """Choose sites for pods that have our scheduling gate; off: another kubelet of the cluster
    does."""

    ranking: bool = False
    """Ask the federation's ranking service which site is best; off: choose by what nodes have."""

    group: str = ""
    """The federation's group of pods where neither they nor their namespace name one
    (``twinfra.io/group``)."""

    lease_namespace: str = "twinfra-system"
    """Namespace of the lease by which one replica chooses."""

    lease_s: PositiveInt = 15
    """A replica that did not renew that lease for so long has lost it."""

    again_s: tuple[PositiveFloat, PositiveFloat] = (1.0, 60.0)
    """A pod that fits nowhere is looked at again after the first, at most after the second; a node
    that changes wakes it at once."""

    at_once: PositiveInt = 16
    """Pods looked at at the same time."""

    ask_registries: bool = True
    """Ask an image's registry what it is made for, where the pod does not say so
    (``twinfra.io/architectures``); off, or without an answer: it may run anywhere."""

    registry_answer_s: PositiveFloat = 5.0
    """So long a pod waits for that answer."""

    plain_registries: tuple[str, ...] = ()
    """Registries (``host:port``) that speak HTTP without TLS."""

    registry_cafile: Path | None = None
    """Authorities of registries' certificates; default: the system's."""

    images_kept: PositiveInt = 1000
    """Images whose answers are kept; those not asked for the longest go first."""

    images_kept_s: PositiveFloat = 600.0
    """How long an answer is believed; a registry that gave none is asked again after a minute."""

    failed_s: NonNegativeFloat = 300.0
    """A pod that we placed is taken from a node that was not ready for so long."""

    wait_factor: NonNegativeFloat = 10.0
    """A pod that we placed is taken from a site where it waits so many times longer than ranking
    forecast; 0: never. Without ranking there is no forecast."""

    wait_least_s: NonNegativeFloat = 600.0
    """But only after it has waited in the queue for so long."""

    look_s: PositiveFloat = 5.0
    """Nodes and waiting pods are looked at so often."""
