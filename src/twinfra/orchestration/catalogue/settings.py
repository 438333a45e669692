"""Settings of the catalogue."""

from typing import ClassVar

from pydantic import PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup


class CatalogueSettings(SettingsGroup):
    """How providers are kept."""

    section: ClassVar[str] = "catalogue"

    default_ttl_s: PositiveFloat = 60.0
    """After so long without a heartbeat a provider that named no time is stale."""

    least_ttl_s: PositiveFloat = 1.0
    """A shorter time is refused: each heartbeat costs a write."""

    most_ttl_s: PositiveFloat = 24 * 3600.0
    """A longer time is refused: who is gone for so long must not look alive."""

    operator_groups: tuple[str, ...] = ("operators",)
    """Groups whose members may register, change and remove any provider."""

    history_lines: PositiveInt = 500
    """Lines of history kept for each provider."""

    max_providers: PositiveInt = 1000
    """A registration beyond this is refused; all lists are read whole."""
