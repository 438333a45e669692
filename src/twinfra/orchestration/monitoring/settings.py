"""Settings of monitoring."""

from typing import ClassVar

from pydantic import PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup


class MonitoringSettings(SettingsGroup):
    """How sites are looked at."""

    section: ClassVar[str] = "monitoring"

    probe_interval_s: PositiveFloat = 2.0
    """Pause between two looks at a site; short, so that a dead site is soon known."""

    probe_timeout_s: PositiveFloat = 5.0
    """A site that answers slower has not answered; default: more than a busy machine needs."""

    down_after: PositiveInt = 2
    """Bad looks in a row after which a site is down; one alone may be a hiccup."""

    catalogue_interval_s: PositiveFloat = 2.0
    """Pause between two looks into the catalogue for new sites."""

    probe_half_life_s: PositiveFloat = 600.0
    """After so long a look counts half in a site's failure rate."""

    job_half_life_s: PositiveFloat = 3600.0
    """After so long a job counts half in a site's failure rate."""

    max_probes_at_once: PositiveInt = 64
    """Looks under way at once, over all sites."""
