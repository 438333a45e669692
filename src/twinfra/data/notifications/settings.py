"""Settings of the notification service."""

from typing import ClassVar

from pydantic import Field

from twinfra.core.settings import SettingsGroup


class NotificationSettings(SettingsGroup):
    """How events are gathered and delivered."""

    section: ClassVar[str] = "notifications"

    edges: dict[str, str] = Field(default_factory=dict)
    """Base URL of the edge of sites that are not in the catalogue, by site."""

    sites_refresh_s: float = 5.0
    """How often the catalogue is asked for sites that joined or left."""

    reader_pause_s: float = 0.2
    """Pause before an edge that went away is called again; it doubles each time."""

    reader_pause_max_s: float = 5.0
    """The longest such pause."""

    allowed_sinks: tuple[str, ...] = ()
    """``host:port`` of webhook sinks besides the federation's own services; https only."""

    sink_limit_s: float = 30.0
    """How long a sink may take to answer; its work may be a prediction."""

    sink_pause_s: float = 0.5
    """Pause before an event is sent again; it doubles with each failure, with jitter."""

    sink_pause_max_s: float = 30.0
    """The longest such pause."""

    give_up_after_s: float = 3 * 24 * 3600.0
    """An event older than this that fails once more is given up; the next one gets its turn."""

    answer_limit_bytes: int = 1024 * 1024
    """The largest event that a sink may answer with; a larger one is not read."""

    subscriptions_per_owner: int = 100
    """Subscriptions and triggers that one person may have, each."""

    streams: int = 200
    """Readers of ``GET /events`` at once; more are asked to come later."""

    stream_keepalive_s: float = 15.0
    """A silent stream says so in this time, so that proxies keep it open."""
