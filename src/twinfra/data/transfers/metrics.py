"""What Prometheus sees of transfers."""

from prometheus_client import Counter, Gauge

FILES = Counter("twinfra_transfers_files", "Files that a try settled", ["outcome"])
BYTES = Counter("twinfra_transfers_moved_bytes", "Bytes that arrived")
ACTIVE = Gauge("twinfra_transfers_active", "Copies under way in this process")
