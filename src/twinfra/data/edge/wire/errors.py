"""An answer that ends the work on a request early; raised anywhere below the router."""

from collections.abc import Sequence
from http import HTTPStatus

Headers = Sequence[tuple[str, str]]


class HttpRefusal(Exception):
    """Answer `status` with a short plain text; it is not always an error (304, 412).

    Args:
        status: of the answer.
        text: for the caller; default: the status' own phrase.
        headers: besides the usual ones.
        close: shut the connection after it, since what follows on it cannot be trusted.
    """

    def __init__(
        self, status: int, text: str = "", headers: Headers = (), *, close: bool = False
    ) -> None:
        super().__init__(text or HTTPStatus(status).phrase)
        self.status = status
        self.text = text or HTTPStatus(status).phrase
        self.headers = tuple(headers)
        self.close = close


class ClientGone(ConnectionError):
    """The client went away, or was too slow, before its request or our answer was whole."""
