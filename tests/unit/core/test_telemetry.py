"""Logs: one formatter, trace ids, and no secret whatever way it comes."""

import contextlib
import io
import json
import logging
import sys

import pytest
from opentelemetry import trace

from twinfra.core import telemetry
from twinfra.core.telemetry import (
    configure_logging,
    current_trace_id,
    get_logger,
    inject_trace,
    span,
)

CANARY = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
OPAQUE = "canary-of-0123456789abcdef"
BASIC = "Y2FuYXJ5LW9mLTAxMjM0NTY3ODlhYmNkZWY="
PEM = "-----BEGIN PRIVATE KEY-----\nPEMCANARY\n-----END PRIVATE KEY-----"
NKEY = "SU" + "CANARY23" * 7
SECRETS = (CANARY, OPAQUE, BASIC, "PEMCANARY", NKEY)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Holder:
    def __repr__(self):
        return f"Holder({CANARY})"


def _message(log):
    log.info(f"got Bearer {CANARY}")  # noqa: G004 - what nobody should do


def _library(_log):
    logging.getLogger("theirs").warning("sent %s", CANARY)


LEAKS = {
    "message": _message,
    "library": _library,
    "key": lambda log: log.info("x", access_token=OPAQUE),
    "upper case key": lambda log: log.info("x", Authorization=OPAQUE),
    "value": lambda log: log.info("x", what=f"it was {CANARY}."),
    "header": lambda log: log.info("x", headers={"Authorization": OPAQUE, "Cookie": OPAQUE}),
    "nested": lambda log: log.info("x", data={"a": [{"secret": OPAQUE}, f"Bearer {OPAQUE}"]}),
    "object": lambda log: log.info("x", holder=Holder()),
    "deep object": lambda log: log.info("x", holders=[(Holder(),)]),
    "set": lambda log: log.info("x", seen={CANARY}),
    "error": lambda log: log.info("x", error=ValueError(CANARY)),
    "query": lambda log: log.info("x", url=f"https://a/b?access_token={OPAQUE}&c=1"),
    "url": lambda log: log.info("x", url=f"postgresql://me:{OPAQUE}@db/x"),
    "basic": lambda log: log.info("x", line=f"Authorization: Basic {BASIC}"),
    "key file": lambda log: log.info("x", pem=PEM),
    "nkey": lambda log: log.info("x", line=NKEY),
    "bytes": lambda log: log.info("x", body=CANARY.encode()),
}


@pytest.mark.story("Structured logs: a processor drops tokens and keys")
@pytest.mark.parametrize("way", LEAKS)
def test_a_secret_is_not_written_when_it_is_logged(log_lines, way):
    LEAKS[way](get_logger("test"))
    (line,) = log_lines()
    text = json.dumps(line)
    assert not any(
        each in text for each in (CANARY, OPAQUE, OPAQUE.replace("-", ""), "Y2FuYXJ5", "CANARY23")
    )
    assert "[redacted]" in text


@pytest.mark.parametrize("logger", ["ours", "theirs"])
def test_a_secret_is_not_written_when_it_is_in_an_exception(log_lines, logger):
    def fail():
        raise RuntimeError(f"sent {CANARY}")

    try:
        fail()
    except RuntimeError:
        if logger == "ours":
            get_logger("test").exception("it_broke")
        else:
            logging.getLogger("theirs").exception("it broke")
    (line,) = log_lines()
    assert "RuntimeError" in line["exception"]
    assert CANARY not in json.dumps(line)


def test_harmless_fields_are_kept_when_their_names_look_alike(log_lines):
    kept = {"token_id": "t1", "key_file": "/k", "token_endpoint": "https://i/token", "bytes": 3}
    get_logger("test").info("x", flag=True, none=None, **kept)
    (line,) = log_lines()
    assert kept.items() <= line.items()
    assert (line["flag"], line["none"], line["container"]) == (True, None, "test")


@pytest.mark.story("structured logs with a trace id that crosses services (W3C traceparent)")
def test_the_trace_id_is_written_when_a_span_is_open(log_lines):
    log = get_logger("test")
    with span("outer", PARENT):
        assert current_trace_id() == TRACE
        log.info("inside")
        logging.getLogger("theirs").warning("inside")
    log.info("outside")
    ours, theirs, outside = log_lines()
    assert ours["trace_id"] == theirs["trace_id"] == TRACE
    assert "trace_id" not in outside


def test_the_trace_goes_on_when_a_request_is_sent(log_lines):
    sent = {}
    with span("outer", {**PARENT, "tracestate": "vendor=1"}), span("inner"):
        inject_trace(sent)
    version, trace_id, parent_id, flags = sent["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "01")
    assert parent_id != "b7ad6b7169203331"
    assert sent["tracestate"] == "vendor=1"


def test_spans_go_to_the_processs_own_tracing_where_it_has_any(monkeypatch):
    opened = []

    class Tracer:
        @contextlib.contextmanager
        def start_as_current_span(self, name, context):
            opened.append((name, trace.get_current_span(context).get_span_context().trace_id))
            yield

    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    monkeypatch.setattr(telemetry, "tracer", Tracer())
    with span("outer", PARENT):
        pass
    assert opened == [("outer", int(TRACE, 16))]


def test_a_trace_that_begins_here_is_to_be_kept(log_lines):
    sent = {}
    with span("outer"):
        inject_trace(sent)
    assert sent["traceparent"].endswith("-01")


@pytest.mark.parametrize(
    "header", ["", "00-0-0-0", "nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01"]
)
def test_a_new_trace_begins_when_the_header_is_broken(log_lines, header):
    with span("outer", {"traceparent": header}):
        assert current_trace_id() not in {None, "0" * 32}


def test_debug_is_left_out_when_the_level_is_higher(log_lines, capsys):
    configure_logging("test", style="json", level="WARNING")
    for logger in (get_logger("other"), logging.getLogger("theirs")):
        logger.info("quiet")
        logger.warning("loud")
    written = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert written == ["loud", "loud"]


def test_events_are_lines_for_people_when_a_terminal_reads(monkeypatch, log_lines):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    configure_logging("test", style="console")
    get_logger("console").info("site_started", site="hpc-b", secret=OPAQUE)
    text = output.getvalue()
    assert "site_started" in text
    assert OPAQUE not in text
    assert not text.startswith("{")
