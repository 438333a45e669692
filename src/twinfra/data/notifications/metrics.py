"""What Prometheus sees of notifications."""

from prometheus_client import Counter, Gauge

READ = Counter("twinfra_notifications_read_events", "Events read from an edge", ["site"])
LOST = Counter("twinfra_notifications_losses", "Times an edge said that events were lost", ["site"])
DELIVERED = Counter("twinfra_notifications_deliveries", "Deliveries to sinks", ["outcome"])
REGISTERED = Counter("twinfra_notifications_registrations", "Files of triggers", ["outcome"])
STREAMS = Gauge("twinfra_notifications_streams", "Readers of the event stream")
