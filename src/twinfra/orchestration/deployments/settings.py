"""Settings of the deployments service, section ``[deployments]``."""

from pathlib import Path
from typing import ClassVar

from twinfra.core.settings import SettingsGroup


class DeploymentsSettings(SettingsGroup):
    """How long things may take, how much may be asked, whom we call."""

    section: ClassVar[str] = "deployments"

    rule_lifetime_s: int = 86_400
    """Seconds that inputs are kept at a chosen site; a service's are renewed; default: a day."""

    patience_s: float = 600.0
    """Seconds that ranking or the datasets service may be away before a run fails."""

    placement_patience_s: float = 120.0
    """Seconds that a run waits for a site that would do and is only away for now."""

    submit_patience_s: float = 30.0
    """Seconds that a site may not answer a job's creation before the next one is tried."""

    site_lost_after_s: float = 60.0
    """Seconds that the site of a service may not answer before the service is placed elsewhere."""

    ready_within_s: float = 300.0
    """Seconds that a new version of a service has to become ready."""

    probe_every_s: float = 0.25
    """Seconds between two looks at a service that is not ready yet."""

    status_every_s: float = 15.0
    """Seconds after which a site is asked about a job although it sent no event."""

    drain_within_s: float = 30.0
    """Seconds that requests to an old version may take before it is ended."""

    kept_runs: int = 20
    """Finished runs by event whose pods stay at their site, for their logs, per node."""

    log_lines: int = 200
    """Lines of a job's log that are kept when it ends."""

    reason_lines: int = 8
    """Last lines of a failed job's log that stand in the reason."""

    page_size: int = 10
    """Deployments a page when the caller does not say; INDIGO's own default."""

    page_size_most: int = 200
    """Most deployments a page."""

    deleted_for_s: int = 86_400
    """Seconds that a deleted deployment can still be looked at."""

    callback_private_addresses: bool = False
    """Whether callbacks may go to loopback, private and link-local addresses; default: refused."""

    callback_timeout_s: float = 10.0
    """Seconds that a callback's receiver has to answer."""

    callback_within_s: float = 86_400.0
    """Seconds after which a callback that nobody takes is dropped."""

    callback_key_file: Path | None = None
    """PEM file of the EC key that signs callbacks; default: one made in the home's secrets."""

    proxy_body_limit_bytes: int = 1024 * 1024 * 1024
    """Most bytes of one request to a service of a deployment."""

    proxy_timeout_s: float = 60.0
    """Seconds that a service may be silent before its answer, or between two pieces of it."""

    proxy_requests: int = 256
    """Requests to one service at once; more are answered 429."""

    stream_clients: int = 256
    """Readers of event streams at once."""
