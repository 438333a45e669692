"""Leaves of the error tree that only the catalogue raises."""

from twinfra.core.errors import Conflict


class VersionMismatch(Conflict):
    """The provider is not as the caller last saw it; read it again, then decide.

    Source: RFC 9110 §13.1.1 (If-Match) and §13.1.2 (If-None-Match).
    """

    code, title, status = "version-mismatch", "It has changed meanwhile", 412
