"""Links between storages: their names, and how many copies at once one bears.

The window is the thin form of FTS3's optimizer: one more while all goes well and more is waiting,
one less when too much fails; a better policy takes the same figures.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from twinfra.data.transfers.model.submission import SCHEMES

DECIDE_AFTER = 5
GOOD_SHARE = 0.97


def storage_of(url: str) -> str:
    """Return the storage element that FTS shows: ``scheme://host``, with the port if one is named.

    FTS leaves the port out; on one machine many storages share a host, so it stays here.
    """
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def address_of(url: str) -> str:
    """Return ``host:port`` of a URL, the port by its scheme where none is named."""
    parts = urlsplit(url)
    default = 443 if SCHEMES.get(parts.scheme) == "https" else 80
    return f"{parts.hostname}:{parts.port or default}"


def http_url(url: str) -> str:
    """Return the URL with the scheme that goes over the wire (``davs`` is ``https``)."""
    scheme, separator, rest = url.partition("://")
    return f"{SCHEMES.get(scheme, scheme)}{separator}{rest}"


@dataclass(frozen=True)
class Window:
    """How many copies a link bears at once, and what has been seen since that was decided."""

    size: int
    done: int = 0
    failed: int = 0

    def after(self, *, success: bool, waiting: int, least: int, most: int) -> "Window":
        """Return the window after one more copy ended.

        Args:
            success: it came about.
            waiting: copies that wait for this link.
            least: lower bound.
            most: upper bound.
        """
        done, failed = self.done + success, self.failed + (not success)
        if done + failed < DECIDE_AFTER:
            return Window(self.size, done, failed)
        if done / (done + failed) < GOOD_SHARE:
            size = self.size - 1
        else:
            size = self.size + 1 if waiting else self.size
        return Window(max(least, min(most, size)))


def time_limit_s(size_bytes: int, *, base_s: float, least_rate_bytes_per_s: float) -> float:
    """Return how long a copy may take in all: more for a larger file."""
    return base_s + size_bytes / max(1.0, least_rate_bytes_per_s)
