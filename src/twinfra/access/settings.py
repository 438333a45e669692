"""Settings of access: whose tokens are believed."""

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, field_validator

from twinfra.access.model import ALGORITHMS
from twinfra.core.settings import SettingsGroup

_KNOWN = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512))


class IssuerSettings(BaseModel):
    """One OpenID Connect issuer that is trusted; its address alone is enough."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    issuer: str
    """Exactly as the tokens' ``iss`` says, such as ``https://aai.example.org/auth``."""

    keys_file: Path | None = None
    """JWKS document with the issuer's keys, where the issuer itself cannot be asked from here, as
    many a cluster: ``kubectl get --raw /openid/v1/jwks``. Read anew when it is replaced."""

    audience: tuple[str, ...] = ()
    """Accepted besides each service's own base URL; for issuers that fix the audience."""

    groups_claim: str = ""
    """The one claim to read groups from, such as ``realm_access.roles``; empty: all known ones."""

    groups_prefix: str = ""
    """Put before each group of this issuer, to keep its names apart from those of others."""

    algorithms: tuple[str, ...] = ALGORITHMS
    """Accepted signature algorithms; only asymmetric ones can be named."""

    accept_any_audience: bool = False
    """Accept the WLCG profile's audience for everyone; off: a stolen token would be good here."""

    @field_validator("issuer")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError("an issuer is an https:// address (http:// only on loopback)")
        return value

    @field_validator("audience", mode="before")
    @classmethod
    def _one_is_enough(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("algorithms")
    @classmethod
    def _is_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - _KNOWN:
            raise ValueError(f"not an asymmetric signature algorithm: {', '.join(sorted(unknown))}")
        return value


class AccessSettings(SettingsGroup):
    """Whose tokens every service believes."""

    section: ClassVar[str] = "access"

    issuers: tuple[IssuerSettings, ...] = ()
    """Trusted issuers besides the federation's own; adding one is two lines."""

    own_issuer: bool = True
    """Trust the issuer that this federation names ``issuer``; services authenticate through it."""

    leeway_s: float = 60.0
    """Tolerated difference of clocks for ``nbf`` and ``iat``; past ``exp`` there is no grace."""

    keys_refresh_s: float = 6 * 3600.0
    """Kept keys of an issuer are asked for again after this; a withdrawn key lives that long."""

    keys_expiry_s: float = 2 * 86400.0
    """Kept keys are not used when older than this, even while the issuer is away."""

    keys_min_interval_s: float = 10.0
    """At most one question to an issuer in this time, on average; three may follow at once."""

    remembered_tokens: int = 4096
    """How many verified tokens are remembered, to check a signature once and not at each call."""

    remembered_s: float = 60.0
    """How long a verified token is remembered."""

    client_secret_file: Path | None = None
    """File with this service's secret at the issuer; default: kept in the home's ``secrets``."""
