"""Logs, traces and metrics, set up once a process.

Events have constant names and identifiers as fields; context (``trace_id``, ``container``,
``site``, ``job_id``) is bound at the edge. Tokens and keys are dropped before anything is written.
Trace context travels as W3C ``traceparent``.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from secrets import randbits
from typing import Any, Literal

import structlog
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_SECRET_KEYS = re.compile(
    r"(authorization|token|secret|password|passwd|cookie|api_?key|nkey|seed)", re.IGNORECASE
)
_SECRET_VALUES = re.compile(
    r"(Bearer\s+\S+|Basic\s+[\w+/=-]{8,}|(?i:bearer\s+[\w.~+/=-]{16,})"
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|(?i:(?<=token=)|(?<=secret=)|(?<=password=))[^\s&'\"]+"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*-----END [A-Z ]*PRIVATE KEY-----"
    r"|\bS[UANCXO][A-Z2-7]{56}\b)"
)
_NOT_SECRET = ("_id", "_file", "_endpoint", "_url", "_count", "_type", "_s", "_at")
_REDACTED = "[redacted]"
_DEEPEST = 8

tracer = trace.get_tracer("twinfra")


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what is secret by its name, and tokens, keys and passwords wherever they stand.

    Guarantees: it looks into mappings and lists too, and at how any other object is written.
    """
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own, taken away before anything is written
            event[key] = _redacted(key, value)
    return event


def _redacted(key: str, value: Any, depth: int = 0) -> Any:
    if _SECRET_KEYS.search(key) and not key.lower().endswith(_NOT_SECRET):
        return _REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {k: _redacted(str(k), v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redacted("", each, depth + 1) for each in value]
    return _SECRET_VALUES.sub(_REDACTED, value if isinstance(value, str) else repr(value))


def _add_trace(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if trace_id := current_trace_id():
        event.setdefault("trace_id", trace_id)
    return event


def configure_logging(
    container: str, *, level: str = "INFO", style: Literal["auto", "console", "json"] = "auto"
) -> None:
    """Send our events and the libraries' through one formatter to standard error.

    Args:
        container: bound to every event, the name of the process.
        level: the least level that is written.
        style: ``auto`` is console on a terminal and JSON otherwise.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "uvicorn.error", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_no_denial)
    structlog.contextvars.bind_contextvars(container=container)


def _is_no_denial(record: logging.LogRecord) -> bool:
    """Drop what uvicorn 0.5x says when an application refuses a WebSocket as ASGI allows."""
    return "returned without completing handshake" not in record.getMessage()


def current_trace_id() -> str | None:
    """Return the trace id in force, 32 hexadecimal digits, or none."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def inject_trace(headers: MutableMapping[str, str]) -> None:
    """Put the trace context in force into outgoing `headers` (W3C Trace Context §3.2)."""
    _PROPAGATOR.inject(headers)


@contextmanager
def span(name: str, headers: Mapping[str, str] | None = None) -> Iterator[None]:
    """Open a span: a child of what `headers` carry, else of the span in force.

    Where the process collects no spans, it has its place in the trace and nothing else.
    """
    parent = _PROPAGATOR.extract(dict(headers)) if headers is not None else None
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        with tracer.start_as_current_span(name, context=parent):
            yield
        return
    above = trace.get_current_span(parent).get_span_context()
    known = above.is_valid
    place = trace.SpanContext(
        above.trace_id if known else randbits(128) or 1,
        randbits(64) or 1,
        is_remote=False,
        trace_flags=above.trace_flags if known else trace.TraceFlags(trace.TraceFlags.SAMPLED),
        trace_state=above.trace_state if known else None,
    )
    token = attach(trace.set_span_in_context(trace.NonRecordingSpan(place), parent))
    try:
        yield
    finally:
        detach(token)


def get_logger(name: str) -> Any:
    """Return the logger of a module; events are constant names, data are fields."""
    return structlog.get_logger(name)
