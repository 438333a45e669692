"""Settings of the transfer service."""

from typing import ClassVar

from pydantic import Field

from twinfra.core.settings import SettingsGroup


class TransferSettings(SettingsGroup):
    """How transfers are run."""

    section: ClassVar[str] = "transfers"

    max_active: int = 64
    """Copies under way at once, over all links; default: what one process watches with ease."""

    link_min_active: int = 2
    """Copies at once that a link always gets."""

    link_max_active: int = 16
    """Copies at once that a link gets at most; by link in `link_max_active_by`."""

    link_max_active_by: dict[str, int] = Field(default_factory=dict)
    """The bound for one link, by ``source>destination``, each ``scheme://host:port``."""

    peers: tuple[str, ...] = ()
    """``host:port`` of storages that may be called besides those in the catalogue; ``*``: any."""

    peers_refresh_s: float = 30.0
    """How long what the catalogue said of storages is believed."""

    default_retries: int = 2
    """Tries after the first for each source when the job says ``retry: 0``."""

    retry_pause_s: float = 1.0
    """Pause before the second try when the job names none; it doubles from try to try."""

    retry_pause_max_s: float = 60.0
    """The longest pause between two tries."""

    stall_s: float = 60.0
    """A copy without any marker for so long has failed; storages send one each 5 to 30 s."""

    stat_limit_s: float = 300.0
    """How long a storage may take to answer for a file; it may have to compute a checksum."""

    base_limit_s: float = 600.0
    """How long any copy may take, to which the time of its size is added."""

    least_rate_bytes_per_s: float = 65536.0
    """The slowest copy that is not given up, for the limit that grows with the size."""

    max_in_queue_s: float = 7 * 24 * 3600.0
    """A file that waited longer has failed, when the job names no time."""

    progress_every_s: float = 2.0
    """At most one progress event a copy in this time; the first marker always gives one."""

    keep_s: float = 7 * 24 * 3600.0
    """Finished jobs are forgotten after this."""

    max_files_per_job: int = 2000
    """A larger submission is refused."""
