"""Settings of the development issuer: its people, their rights, and who may act for them."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from twinfra.core.settings import SettingsGroup

STORAGE_SCOPES = (
    "storage.read:/",
    "storage.create:/",
    "storage.modify:/",
    "storage.stage:/",
)
COMPUTE_SCOPES = ("compute.read", "compute.create", "compute.modify", "compute.cancel")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PersonSettings(_Entry):
    """One person of the development issuer."""

    groups: tuple[str, ...] = ()
    """Groups, the primary one first, such as ``climate`` or ``climate/ocean``."""

    name: str = ""
    """For people; default: the subject."""


class ScopeRule(_Entry):
    """Members of one of `groups` may have `scopes`."""

    groups: tuple[str, ...] = ("*",)
    """Group names; ``*`` is everyone who is in any group."""

    scopes: tuple[str, ...] = ()
    """Capability scopes; a storage scope includes all below its path."""


class ExchangeRule(_Entry):
    """What the service `client` may ask for: on behalf of people, and for itself."""

    client: str
    """Name of a service; ``edge@*`` is that of every site."""

    audiences: tuple[str, ...] = ()
    """Services that it may call on behalf of a person."""

    scopes: tuple[str, ...] = ()
    """Families of scopes that it may then ask for, such as ``storage.*``."""

    delegate: bool = False
    """Whether it may hold a lasting permission (a refresh token) for durable work."""

    own_scopes: tuple[str, ...] = ()
    """Capability scopes that it may have for itself."""


ALL_SCOPES = ("storage.*", "compute.*")
DATA = ("datasets", "transfers", "edge@*", "notifications")
DEFAULT_EXCHANGE = (
    ExchangeRule(
        client="deployments",
        audiences=(*DATA, "interlink@*", "plugin@*", "ranking", "catalogue", "accounting"),
        scopes=ALL_SCOPES,
        delegate=True,
    ),
    ExchangeRule(
        client="datasets",
        audiences=("transfers", "edge@*", "accounting"),
        scopes=("storage.*",),
        delegate=True,
        own_scopes=("storage.read:/", "storage.modify:/"),
    ),
    ExchangeRule(client="transfers", audiences=("edge@*",), scopes=("storage.*",), delegate=True),
    ExchangeRule(
        client="notifications",
        audiences=("datasets", "edge@*", "deployments"),
        scopes=ALL_SCOPES,
        delegate=True,
        own_scopes=("storage.read:/",),
    ),
    ExchangeRule(client="ranking", audiences=("datasets", "catalogue", "monitoring")),
    ExchangeRule(
        client="interlink@*",
        audiences=("plugin@*", "datasets", "edge@*"),
        scopes=ALL_SCOPES,
        delegate=True,
    ),
    ExchangeRule(
        client="plugin@*",
        audiences=("datasets", "edge@*", "accounting"),
        scopes=("storage.*",),
        delegate=True,
        own_scopes=("storage.read:/", "storage.modify:/"),
    ),
    ExchangeRule(
        client="dashboard",
        audiences=(*DATA, "deployments", "ranking", "catalogue", "monitoring", "accounting"),
        scopes=ALL_SCOPES,
    ),
)


class IssuerServiceSettings(SettingsGroup):
    """The development issuer."""

    section: ClassVar[str] = "issuer"

    people: dict[str, PersonSettings] = Field(
        default={
            "alice": PersonSettings(groups=("climate",), name="Alice"),
            "bob": PersonSettings(groups=("hydrology",), name="Bob"),
        }
    )
    """People by subject; each has a file ``people/<subject>.code`` in the home's secrets."""

    scopes: tuple[ScopeRule, ...] = (ScopeRule(scopes=(*STORAGE_SCOPES, *COMPUTE_SCOPES)),)
    """Which groups may have which capabilities; default: members of any group, all of them."""

    exchange: tuple[ExchangeRule, ...] = DEFAULT_EXCHANGE
    """Which service may act for people, towards whom, and how far; others may not."""

    entitlement_namespace: str = "urn:example:twinfra"
    """Namespace of the entitlements in tokens (AARC-G069)."""

    algorithm: str = "RS256"
    """Signature algorithm of new keys: ``RS256`` or ``ES256``."""

    access_token_s: int = 3600
    """Life of an access token; the WLCG profile's default."""

    refresh_token_s: int = 30 * 86400
    """Life of a refresh token or a delegation; the WLCG profile's default."""

    authorization_code_s: int = 60
    """Life of an authorization code."""

    device_code_s: int = 600
    """How long a person has to approve a device."""

    device_interval_s: int = 1
    """Least time between two questions of a device; short, for it never leaves this machine."""

    ticket_s: int = 600
    """Life of a one-time sign-in link."""

    session_s: int = 12 * 3600
    """Life of a browser's session with the issuer."""

    purge_interval_s: float = 3600.0
    """How often what has ended is deleted."""
