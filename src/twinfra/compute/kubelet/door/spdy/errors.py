"""Errors of a SPDY connection; they never leave the door."""


class SpdyError(Exception):
    """The other side broke the protocol or a limit; its connection must end."""


class StreamResetError(Exception):
    """A stream, or its whole connection, is gone before its end."""
