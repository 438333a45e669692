"""Settings of the kubelet's HTTPS API: its certificates and its bounds."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup

KIB, MIB = 1024, 1024**2


class DoorSettings(SettingsGroup):
    """The kubelet's HTTPS API."""

    section: ClassVar[str] = "kubelet-api"

    enabled: bool = True
    """Offer it; without it a cluster has no logs of pods, no exec, attach and port-forward."""

    listen: str = ""
    """Address to listen on; default: the node's, ``[kubelet] address``."""

    port: NonNegativeInt = 0
    """Port of a process with one node; 0: any free one, published by the node."""

    client_ca_file: Path | None = None
    """PEM file with the authority of clients' certificates; default: the cluster's own, as its
    ConfigMap ``kube-system/extension-apiserver-authentication`` says."""

    certificate: Literal["files", "cluster", "own"] = "own"
    """Where the serving certificate comes from: ``files`` named here, signed by the ``cluster``
    (``kubernetes.io/kubelet-serving``; somebody approves it), or by this home's ``own``
    authority."""

    certificate_file: Path | None = None
    """PEM file with the serving certificate and its chain."""

    key_file: Path | None = None
    """PEM file with its key."""

    names: tuple[str, ...] = ()
    """Further names and addresses in a certificate that is made, besides the node's address."""

    allowed_for_s: PositiveFloat = 300.0
    """An answer of the cluster that somebody may do something holds for so long (kubelet's own)."""

    denied_for_s: PositiveFloat = 30.0
    """The same for an answer that they may not."""

    token_for_s: PositiveFloat = 120.0
    """An answer of the cluster whom a token proves holds for so long."""

    reviews_kept: PositiveInt = 4096
    """Answers of the cluster kept at most; the oldest go first."""

    max_connections: PositiveInt = 1024
    """Connections at once; more are closed at once."""

    max_sessions: PositiveInt = 512
    """Commands, attachments and forwardings at once; more get 429."""

    max_body_bytes: PositiveInt = MIB
    """Body of a request; none of the calls needs one."""

    max_line_bytes: PositiveInt = 256 * KIB
    """Request line: it holds the words of a command."""

    max_header_bytes: PositiveInt = 32 * KIB
    """One header."""

    max_message_bytes: PositiveInt = 32 * MIB
    """One WebSocket message; upstream's number."""

    max_command_words: PositiveInt = 4096
    """Words of a command."""

    max_streams: PositiveInt = 256
    """Streams of one SPDY connection at once; a forwarded connection has two."""

    stream_buffer_bytes: PositiveInt = 256 * KIB
    """Unread bytes of one stream; then its connection waits. At least 64 KiB."""

    streams_within_s: PositiveFloat = 30.0
    """All streams of a command are there in so long; upstream's number."""

    idle_s: PositiveFloat = 4 * 3600.0
    """A session in which nothing moves for so long ends; upstream's number."""

    heartbeat_s: PositiveFloat = 10.0
    """A sign of life is sent so often: a client that is gone without a word is found out by it."""

    linger_s: PositiveFloat = 5.0
    """A client has so long to read the end of a session before its connection is closed."""

    handshake_s: PositiveFloat = 15.0
    """A TLS handshake takes at most so long."""

    keepalive_s: PositiveFloat = 75.0
    """A connection without a request is closed after so long."""

    stats_for_s: PositiveFloat = 5.0
    """Figures of pods are asked for at most so often."""

    stats_at_once: PositiveInt = 32
    """Pods asked for their figures at once."""

    stats_within_s: PositiveFloat = 8.0
    """A pod that does not answer in so long is left out of the figures; collectors wait for 10."""
