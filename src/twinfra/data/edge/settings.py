"""Settings of the storage edge: limits, time-outs, what it keeps and how fast it may copy.

Every limit of the data path is here; nothing else in the room holds a number that a facility
might want to change. Read once, in ``wiring.py``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup

MIB = 1024 * 1024


class EdgeSettings(SettingsGroup):
    """How a site's storage edge behaves."""

    section: ClassVar[str] = "edge"

    rse: str = ""
    """Name of the site's storage element in events; empty: the site's name in upper case."""

    storage: Path | None = None
    """Folder served under ``/dav/``; default: the site's own in the home."""

    listen: str = "127.0.0.1"
    """Address the door is opened at; loopback, so that nothing is offered by accident."""

    # ---------------------------------------------------------------- who may be talked to
    peers: tuple[str, ...] = ()
    """Storages (``host:port``) that third-party copies may reach besides the catalogue's edges."""

    peers_from_catalogue: bool = True
    """Also reach the storages of all providers that the catalogue knows."""

    peers_refresh_s: PositiveFloat = 30.0
    """Age after which the catalogue is asked again; an unknown peer asks at most each second."""

    plain_http_peers: bool = False
    """Allow third-party copies with peers over plain HTTP; off: tokens would travel readable."""

    # ---------------------------------------------------------------- third-party copies
    rate_limit_bytes_per_s: PositiveInt | None = None
    """Most bytes a second that each link (this site and one peer) carries; default: no limit."""

    rate_limit_bytes_per_s_by_link: Mapping[str, PositiveInt] = {}
    """The same for one peer, by site name or ``host:port``; wins over the general limit."""

    marker_interval_s: PositiveFloat = 5.0
    """Longest time between two performance markers; clients give up after about 30 s of silence."""

    peer_connect_timeout_s: PositiveFloat = 10.0
    """To reach a peer."""

    peer_idle_timeout_s: PositiveFloat = 60.0
    """A peer that sends or takes nothing for so long has failed."""

    peer_first_byte_timeout_s: PositiveFloat = 120.0
    """To answer a request; a storage may compute a checksum or recall a tape first."""

    require_checksum_verification: bool = True
    """Fail a copy whose peer tells no checksum, unless the request says otherwise."""

    max_copies: PositiveInt = 64
    """Third-party copies at once; more are refused with 503 and may be tried again."""

    # ---------------------------------------------------------------- the door
    max_connections: PositiveInt = 1024
    """Connections at once; more are shut at once."""

    max_head_bytes: PositiveInt = 32 * 1024
    """Request line and headers together; more is refused with 431."""

    max_xml_bytes: PositiveInt = 64 * 1024
    """Body of PROPFIND and PROPPATCH, and of the events API."""

    max_upload_bytes: PositiveInt | None = None
    """Size of one uploaded file; default: what fits on the disk."""

    max_ranges: PositiveInt = 1024
    """Byte ranges in one GET; XRootD's vector reads ask for many."""

    head_timeout_s: PositiveFloat = 20.0
    """To send a whole request head once it has begun, and to finish the TLS handshake."""

    keepalive_timeout_s: PositiveFloat = 75.0
    """An idle connection is shut after this."""

    body_idle_timeout_s: PositiveFloat = 60.0
    """An upload that brings nothing for so long, or a client that takes nothing, is cut."""

    shutdown_grace_s: PositiveFloat = 5.0
    """Requests in flight may finish for so long when the edge is stopped."""

    block_bytes: PositiveInt = MIB
    """Unit in which bodies are read, checksummed and written; two are held a transfer."""

    io_threads: PositiveInt = 8
    """Threads for file work of requests."""

    # ---------------------------------------------------------------- what is kept
    fsync: Literal["none", "file", "full"] = "file"
    """What is on the disk before an upload is confirmed: nothing, the file, or its folder too."""

    min_free_bytes: NonNegativeInt = 64 * MIB
    """An upload that would leave less than this is refused with 507."""

    # ---------------------------------------------------------------- inventory and events
    settle_s: PositiveFloat = 0.05
    """A file written behind the edge's back is looked at so long after it was closed."""

    growing_s: PositiveFloat = 1.0
    """A file whose writer cannot be seen counts as finished when it has not grown for so long."""

    checksum_threads: PositiveInt = 1
    """Threads that read files written behind the edge's back."""

    rescan_s: PositiveFloat = 3600.0
    """The whole tree is compared with the inventory so often, in case a notice was lost."""

    event_retention_s: PositiveInt = 7 * 86400
    """Events are kept so long."""

    event_retention_count: PositiveInt = 1_000_000
    """At most so many events are kept."""

    max_channels_per_user: PositiveInt = 128
    """Event channels of one user; dCache's number."""

    max_subscriptions_per_channel: PositiveInt = 250
    """Subscriptions of one channel."""

    max_streams_per_channel: PositiveInt = 8
    """Readers of one channel at once; one more shuts the oldest."""

    channel_timeout_s: PositiveInt = 300
    """A channel nobody reads is deleted after this, unless its owner set another time."""

    channel_timeout_max_s: PositiveInt = 86400
    """Longest such time that an owner may set."""

    event_keepalive_s: PositiveFloat = 15.0
    """A comment is sent on a silent event stream so often."""
