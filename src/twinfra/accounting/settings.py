"""Settings of accounting."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from twinfra.core.settings import SettingsGroup


class SiteFacts(BaseModel):
    """How a site is called and measured in messages to others."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = ""
    """Name in GOCDB; default: as in our catalogue."""

    benchmark_hepscore23: Annotated[float, Field(gt=0)] | None = None
    """Score of one processor there, for records that bring none; default: `default_hepscore23`."""

    infrastructure_type: str = "grid"
    """``grid`` or ``local``, as APEL has it."""


class AccountingSettings(SettingsGroup):
    """The accounting service."""

    section: ClassVar[str] = "accounting"

    sites: dict[str, SiteFacts] = Field(default={})
    """Facts by site name in our catalogue; a site that is not named has the defaults."""

    default_hepscore23: Annotated[float, Field(gt=0)] = 1.0
    """Benchmark of a processor nobody measured; APEL wants one in every message."""

    operators: tuple[str, ...] = ("operators",)
    """Groups whose members see all records."""

    user_names: Literal["identity", "hashed", "withheld"] = "identity"
    """``GlobalUserName`` of messages: ``identity`` (sub@issuer), ``hashed`` or ``withheld``."""

    batch_limit: int = 1000
    """Most records of one request; APEL's producers send as many in a message."""

    page_limit: int = 1000
    """Most records of one answer."""
