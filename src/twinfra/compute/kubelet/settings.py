"""Settings of the virtual kubelet: which nodes, and how patient, how quick, how careful."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup


class TaintSettings(BaseModel):
    """A taint of a node."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """Its key."""

    value: str = ""
    """Its value."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """What it does to pods that do not tolerate it."""


class NodeSettings(BaseModel):
    """One virtual node: a site behind an interLink API."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    interlink: str = ""
    """Base URL of the site's interLink API; default: that of the site of the same name here."""

    token_file: Path | None = None
    """File with the bearer token for that API, read anew for each call; default: our own identity
    in the federation (service ``kubelet``); ``/dev/null`` sends none."""

    ca_file: Path | None = None
    """PEM file with the authority of that API; default: what this federation trusts."""

    certificate_file: Path | None = None
    """PEM file with our certificate for an API that asks for one."""

    key_file: Path | None = None
    """PEM file with its key."""

    labels: dict[str, str] = {}
    """Further labels of the node."""

    taints: tuple[TaintSettings, ...] = ()
    """Further taints; ``virtual-node.interlink/no-schedule`` is always there."""

    resources: dict[str, str] = Field(
        default_factory=lambda: {"cpu": "100", "memory": "3000G", "pods": "10000"}
    )
    """Capacity where the site's ping says none."""

    os: str = ""
    """Operating system of the site's machines, as images spell it; default: as the site's ping
    says, else ``linux``."""

    architecture: str = ""
    """Processor architecture of the site's machines, as images spell it; default: as the site's
    ping says, else ``amd64``."""

    cpu_level: str = ""
    """Such as ``x86-64-v3``, published as ``twinfra.io/cpu-level``; default: as the site's ping
    says, else none."""

    sole_user: bool = False
    """Nobody else sends pods to this API: jobs there that no pod of this node has are ended. Off,
    only those are that say that this node made them."""


class KubeletSettings(SettingsGroup):
    """The virtual kubelet."""

    section: ClassVar[str] = "kubelet"

    nodes: dict[str, NodeSettings] = Field(default_factory=dict)
    """The virtual nodes of this process, by name."""

    kubeconfig: Path | None = None
    """Which cluster, and as whom; default: the cluster whose pod this process is."""

    address: str = "127.0.0.1"
    """Address of the nodes, where the API server reaches the kubelet API; pods show it too."""

    identity: str = ""
    """Name of this replica in the nodes' leases; default: the host's name."""

    lease_s: PositiveInt = 40
    """A replica that did not renew a node's lease for so long has lost the node."""

    ping_s: PositiveFloat = 10.0
    """The site is asked so often whether it is there."""

    ping_failures: PositiveInt = 2
    """A node is not ready after so many pings in turn without an answer."""

    heartbeat_s: PositiveFloat = 300.0
    """A node's status is written so often though nothing changed."""

    poll_s: PositiveFloat = 1.0
    """All pods' states are asked for so often, in one call, where the site tells no events."""

    resync_s: PositiveFloat = 60.0
    """The same where it does: nothing stays missed for longer."""

    queued_patch_s: NonNegativeFloat = 1.0
    """A pod that merely waits is written to Kubernetes after so long: most start before."""

    patches: PositiveInt = 32
    """Statuses written at once."""

    creates: PositiveInt = 16
    """Pods handed to a site at once."""

    create_attempts: PositiveInt = 5
    """A pod whose creation stayed without an answer is handed over at most so often."""

    doubt_s: NonNegativeFloat = 15.0
    """Before that a site that may run a pod twice must twice not know it, so far apart."""

    lost_s: NonNegativeFloat = 15.0
    """A pod that its site does not know any more has failed after so long."""

    reconcile_s: PositiveFloat = 300.0
    """The site's jobs are compared with the node's pods so often."""

    missing_s: tuple[PositiveFloat, PositiveFloat] = (1.0, 15.0)
    """A missing ConfigMap or Secret is looked for again after the first, at most after the second.
    """

    tokens_renewed_at: float = Field(default=0.8, gt=0, lt=1)
    """A ServiceAccount's token in a running pod is renewed after this share of its life, as
    Kubernetes' own kubelet does."""

    pod_identity: bool = True
    """Send a token of the pod's ServiceAccount, for the site alone, with each pod."""

    service_variables: bool = True
    """Tell containers the addresses of the services in their namespace."""

    api_host: str = ""
    """Where sites reach the Kubernetes API: put in ``KUBERNETES_SERVICE_HOST`` of containers."""

    api_port: PositiveInt = 443
    """Port of that address."""

    api_ca_file: Path | None = None
    """PEM file with its authority, put in place of ``kube-root-ca.crt`` in pods."""

    events_per_s: PositiveFloat = 20.0
    """Events written to Kubernetes at most, in the long run; more are dropped."""
