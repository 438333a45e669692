"""Settings of a site's interLink API server and of its plug-in: limits and times."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from twinfra.core.settings import SettingsGroup

MIB = 1024**2


class StorageClass(BaseModel):
    """What claims of one storage class are at this site; one of the first two."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path | None = None
    """Folder below which each owner and namespace has folders of its own, one a claim."""

    scope: str = ""
    """Scope of datasets: a claim is the dataset that has its name, read-only."""

    read_only: bool = False
    """Nobody writes."""


class WorkloadSettings(BaseModel):
    """Which pods of a Kubernetes cluster belong to which group."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    issuer: str
    """Of the cluster's ServiceAccount tokens; it must be among ``[[access.issuers]]`` too."""

    namespace: str = "*"
    """Of the pods; ``*`` and ``?`` stand for any characters."""

    account: str = "*"
    """ServiceAccount of the pods, as above."""

    creator: str = ""
    """``ISSUER#sub`` of the person whose stamp the cluster's admission gave the pods, the issuer
    spelled out, the subject as above; they are this person's then. Default: the account's."""

    @field_validator("creator")
    @classmethod
    def _names_an_issuer(cls, value: str) -> str:
        issuer, mark, sub = value.partition("#")
        if value and not (issuer.startswith("https://") and mark and sub and "*" not in issuer):
            raise ValueError("creator: wanted is https://ISSUER#SUBJECT, wildcards after the #")
        return value

    group: str
    """Whose the pods are: they run and are accounted for under it."""

    data: tuple[str, ...] = ()
    """Scopes of datasets that the pods may name as inputs and outputs, with wildcards as above;
    default: the one that has the group's name. Robot accounts have none."""


class PluginSettings(SettingsGroup):
    """The plug-in: pods of one site."""

    section: ClassVar[str] = "sites.{name}.plugin"

    client_ca_file: Path | None = None
    """PEM file with the authority of clients' certificates; with it the door asks for one, beside
    the token. Default: none is asked for."""

    client_certificates: Literal["required", "optional"] = "required"
    """With `client_ca_file`: a client without a certificate is turned away, or let in."""

    max_body_bytes: PositiveInt = 16 * MIB
    """Body of a request; a pod with its secrets and maps is far below."""

    max_pods: PositiveInt = 10_000
    """Pods that are not over; more are refused."""

    intake: PositiveInt = 2
    """Pods taken in at once; others wait for a moment, so that those that are here go on."""

    workloads: tuple[WorkloadSettings, ...] = ()
    """Which pods that came through a virtual kubelet belong to which group; the first that fits."""

    unmapped: Literal["robot", "refuse"] = "robot"
    """Such a pod that none fits belongs to the robot account of its namespace, or is refused."""

    pod_audience: str = ""
    """Audience of the tokens that say whose a pod is; default: the site's interLink API."""

    max_attempts: PositiveInt = 5
    """Attempts at one pod whose keeper was lost, where its restart policy allows any."""

    status_fallback_s: PositiveFloat = 30.0
    """A live pod is looked at so often, whatever its site tells by itself."""

    poll_s: PositiveFloat = 2.0
    """The same for a back end that cannot tell changes."""

    data_fallback_s: PositiveFloat = 15.0
    """Missing inputs are looked for so often, whatever the bus tells."""

    input_lifetime_s: PositiveFloat = 7 * 86400.0
    """A copy that a pod's inputs made necessary is kept at the site for so long, for the next."""

    keep_finished_s: PositiveFloat = 7 * 86400.0
    """A pod that is over and was not deleted is forgotten after this, with its folder."""

    drain_s: PositiveFloat = 45.0
    """When the whole site goes, its jobs have so long to end; above the usual grace of a pod."""

    events_kept: PositiveInt = 10_000
    """Changes of pods that a reader can go back to."""

    event_keepalive_s: PositiveFloat = 10.0
    """A comment is sent on a silent event stream so often."""

    max_streams: PositiveInt = 64
    """Readers of events at once."""

    max_tunnels: PositiveInt = 512
    """Connections into pods at once."""

    socket: Path | None = None
    """Unix socket (mode 0600, peers checked) for an API server on this machine that knows neither
    tokens nor TLS, such as upstream's; whoever is this user may do everything there. Default: none.
    """

    storage: Path | None = None
    """Folder that the site's edge serves under ``/dav/``; default: the site's own in the home."""

    host_paths: dict[str, Literal["ro", "rw"]] = Field(default_factory=dict)
    """Folders of the site that pods may mount by ``hostPath``, such as ``"/cvmfs" = "ro"``."""

    storage_classes: dict[str, StorageClass] = Field(default_factory=dict)
    """What persistent volume claims are here, by their storage class; "" is the class of none."""

    users: Literal["mapped", "any"] = "mapped"
    """A ``runAsUser``, ``runAsGroup`` or ``fsGroup`` must be the local account's; ``any``: it is
    shown within the container's own user namespace, whatever the account."""

    default_cpus: PositiveFloat = 1.0
    """Cores of a container that names none."""

    default_memory_bytes: PositiveInt = 512 * MIB
    """Memory of a container that names none."""


class ApiSettings(SettingsGroup):
    """The API server before a plug-in."""

    section: ClassVar[str] = "sites.{name}.interlink"

    plugin: str = ""
    """Base URL of the plug-in: ``https://``, ``http://``, ``unix:///path``; default: our own."""

    plugin_token: bool = True
    """Send the plug-in a token; off for foreign plug-ins, which know none."""

    client_ca_file: Path | None = None
    """PEM file with the authority of clients' certificates; with it the door asks for one, beside
    the token. Default: none is asked for."""

    client_certificates: Literal["required", "optional"] = "required"
    """With `client_ca_file`: a client without a certificate is turned away, or let in."""

    certificate_file: Path | None = None
    """PEM file with our certificate for a plug-in that asks for one."""

    key_file: Path | None = None
    """PEM file with its key."""

    max_body_bytes: PositiveInt = 16 * MIB
    """Body of a request."""

    legacy_list: bool = False
    """Send the plug-in a list of one at ``/create``, as plug-ins before 0.5 want it."""

    plugin_timeout_s: PositiveFloat = 120.0
    """A plug-in that did not answer whole after so long has failed, logs and events only if they
    were silent for so long; upstream's number."""

    cache_kept_s: PositiveFloat = 7 * 86400.0
    """A status that nobody asked for in so long leaves the cache."""
