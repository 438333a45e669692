"""The limits of a connection, as the door is told them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Sizes and times of a connection; the settings say what each is for."""

    max_head_bytes: int = 32 * 1024
    max_connections: int = 1024
    block_bytes: int = 1024 * 1024
    head_timeout_s: float = 20.0
    keepalive_timeout_s: float = 75.0
    body_idle_timeout_s: float = 60.0
    shutdown_grace_s: float = 5.0
