"""Settings of the web page."""

from typing import ClassVar

from pydantic import PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup


class DashboardSettings(SettingsGroup):
    """The web page: how long a visit lasts, and how many there may be."""

    section: ClassVar[str] = "dashboard"

    visit_s: PositiveFloat = 8 * 3600.0
    """A visit ends after so long without a request; default: a working day."""

    max_visits: PositiveInt = 1000
    """Visits at once; one more ends the one that was idle longest."""

    max_streams: PositiveInt = 64
    """Live event streams at once."""
