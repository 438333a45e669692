"""When a sink wants to be asked again."""

from datetime import UTC, datetime

import pytest

from twinfra.data.notifications.webhook import WebhookSink
from twinfra.testkit.clock import VirtualClock


@pytest.mark.parametrize(
    ("said", "after_s"),
    [
        ("", None),
        ("120", 120.0),
        ("\u00b2", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
        ("Thu, 01 Jan 2015 00:01:00 GMT", 0.0),
    ],
)
def test_whatever_it_says_is_read_or_passed_over(said, after_s):
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    sink = WebhookSink(None, (), None, clock, limit_s=1, answer_limit_bytes=1)
    assert sink._retry_after_s({"Retry-After": said}) == after_s
