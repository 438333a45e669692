"""Refusals of the kubelet's API: plain text, as its callers expect."""

from twinfra.core.errors import TwinfraError


class Refused(Exception):
    """An answer other than 200.

    Args:
        status: of the answer.
        text: of the answer; the kubelet's own words where kubectl shows them.
        headers: of the answer.
    """

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


def refused(error: TwinfraError) -> Refused:
    """Return the answer for what a site or an API server refused.

    401 and 403 of a site concern us and not our caller, so they become 502.
    """
    status = 502 if error.status in {401, 403} else error.status
    return Refused(status, error.detail)
