"""Settings of a site: its back end, how big it is, and how it presents itself in the catalogue."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from twinfra.core.settings import SettingsGroup

GIB = 1024**3


class ComputeSettings(SettingsGroup):
    """What runs jobs at a site, and how much of it there is."""

    section: ClassVar[str] = "sites.{name}.compute"

    backend: str = "local"
    """Entry point in the group ``twinfra.sites``; default: keepers on this machine."""

    cpus: PositiveFloat = 2.0
    """Cores that the site offers; default: those of a small machine."""

    reserved_cpus: NonNegativeFloat = 0.0
    """Cores of these that twinfra leaves alone, used by others beside it."""

    memory_bytes: PositiveInt = 4 * GIB
    """Memory that the site offers; default: that of a small machine."""

    slots: PositiveInt = 4
    """Jobs at once, whatever their size."""

    queue: bool = True
    """A job without room waits its turn; off: it is refused at once."""

    queue_limit: PositiveInt = 10_000
    """Jobs that may wait; more are refused."""

    gpus: dict[str, PositiveInt] = Field(default_factory=dict)
    """Devices advertised, by resource type, such as ``"nvidia.com/gpu" = 1``."""

    network: Literal["none", "private", "host"] = "none"
    """What a job reaches: only itself; from a network of its own (slirp4netns) the outside, but
    nothing on this machine's loopback; or all that this machine reaches, on whose ports it listens.
    """

    runtime: Literal["auto", "bubblewrap", "proot"] = "auto"
    """How containers are run; ``auto``: bubblewrap where it works, else proot."""

    writable_root: bool = True
    """Containers of a ``local`` site write where they like, to a layer of their own over the image
    (overlayfs), anew at each start. Off, or where kernel, file system or bubblewrap cannot do that,
    or jobs run on other machines: to /tmp, /var/tmp, /run and their home only."""

    images: tuple[Path, ...] = ()
    """OCI layouts to take images from; default: the home's ``images``."""

    image_names: dict[str, str] = Field(default_factory=dict)
    """Beginnings of image names and what takes their place, the longest wins, such as
    ``"docker.io/" = "registry.example.org/mirror/"``; ``python`` is whole as
    ``docker.io/library/python``."""

    registries: tuple[str, ...] = ()
    """Registries (``host`` or ``host:port``) that images may be pulled from; default: none."""

    plain_registries: tuple[str, ...] = ()
    """Those of them that speak HTTP without TLS."""

    registry_cafile: Path | None = None
    """Authorities of registries' certificates; default: the system's."""

    registry_accounts_file: Path | None = None
    """Accounts of the site at registries, as ``docker login`` writes them; a pod's own
    ``imagePullSecrets`` come first."""

    shared_folder: Path | None = None
    """Folder that this machine and the nodes of its batch system see under the same path: the
    site's jobs, images and storage are kept there, notes and secrets stay in the home. Default:
    the home, which does where the nodes are this machine."""

    wall_limit_s: PositiveFloat | None = None
    """Longest that a job may run, whatever it asks for; default: no limit."""

    history_s: PositiveFloat = 7 * 86400.0
    """How long the back end remembers jobs that ended."""


class Location(BaseModel):
    """Where a site stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    country: str = "ZZ"
    """ISO 3166-1 code; ``ZZ`` is nowhere in particular."""

    lat: float = 0.0
    """Degrees north."""

    lon: float = 0.0
    """Degrees east."""


class ProviderSettings(SettingsGroup):
    """How a site presents itself in the catalogue."""

    section: ClassVar[str] = "sites.{name}.provider"

    rse: str = ""
    """Name of the site's storage element; empty: the site's name in upper case."""

    kind: Literal["cloud", "hpc", "edge"] = "cloud"
    """What sort of place it is."""

    services: bool = False
    """Whether pods that run for ever are welcome: capability ``services``."""

    location: Location = Location()
    """Where it stands."""

    groups: tuple[str, ...] = ("*",)
    """Groups whose pods are run here; ``*``: everybody's."""

    link_bandwidth_bytes_per_s: dict[str, PositiveInt] = Field(default_factory=dict)
    """What a link carries, by the other site's name; default: not known."""

    cpu_hour_cost: NonNegativeFloat = 0.0
    """Price of a core hour, in the federation's own unit."""

    benchmark_hepscore23: PositiveFloat = 10.0
    """HEPScore23 of one core; default: an ordinary core of these years."""

    heartbeat_s: PositiveFloat = 10.0
    """How often the site says that it is there."""

    ttl_s: NonNegativeInt = 60
    """After so long without a word the catalogue takes it for gone."""
