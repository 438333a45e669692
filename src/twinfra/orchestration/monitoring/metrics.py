"""Prometheus gauges of sites; one time series a site and check, gone when the site is."""

from collections.abc import Callable

from prometheus_client import Gauge

from twinfra.orchestration.monitoring.model import EDGE, INTERLINK, SiteStatus

UP = Gauge("twinfra_site_up", "Whether the site counts as up", ["site"])
CHECK_OK = Gauge("twinfra_site_probe_success", "Whether the last check was good", ["site", "check"])
CHECK_SECONDS = Gauge(
    "twinfra_site_probe_duration_seconds", "Time the last check took", ["site", "check"]
)
FAILURES = Gauge("twinfra_site_failure_ratio", "Share of probes and jobs failed of late", ["site"])
FREE_CPUS = Gauge("twinfra_site_free_cpus", "Cores that nobody uses", ["site"])
FREE_BYTES = Gauge("twinfra_site_free_memory_bytes", "Memory that nobody uses", ["site"])
FREE_SLOTS = Gauge("twinfra_site_free_slots", "Job slots that nobody uses", ["site"])
QUEUE_LENGTH = Gauge("twinfra_site_queue_length", "Jobs that wait", ["site"])
QUEUE_SECONDS = Gauge("twinfra_site_queue_wait_seconds", "Time that a new job would wait", ["site"])

_MEASURES: tuple[tuple[Gauge, Callable[[SiteStatus], float | None]], ...] = (
    (FREE_CPUS, lambda status: status.free.cpu),
    (FREE_BYTES, lambda status: status.free.memory_bytes),
    (FREE_SLOTS, lambda status: status.free.slots),
    (QUEUE_LENGTH, lambda status: status.queue.length),
    (QUEUE_SECONDS, lambda status: status.queue.wait_s),
)


def show(status: SiteStatus) -> None:
    """Set the gauges of a site; one that the site does not say anything of is absent."""
    UP.labels(status.site).set(status.up)
    FAILURES.labels(status.site).set(status.failure_rate)
    for check in status.checks:
        CHECK_OK.labels(status.site, check.name).set(check.ok)
        CHECK_SECONDS.labels(status.site, check.name).set(check.duration_s)
    for gauge, value_of in _MEASURES:
        value = value_of(status)
        if value is None:
            _remove(gauge, status.site)
        else:
            gauge.labels(status.site).set(value)


def hide(site: str) -> None:
    """Remove all gauges of a site."""
    for gauge in (UP, FAILURES, *(gauge for gauge, _ in _MEASURES)):
        _remove(gauge, site)
    for gauge in (CHECK_OK, CHECK_SECONDS):
        for check in (INTERLINK, EDGE):
            _remove(gauge, site, check)


def _remove(gauge: Gauge, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        return
