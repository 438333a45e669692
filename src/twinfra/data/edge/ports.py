"""What the edge needs of others: who calls and what they may, and which storages it may talk to."""

from dataclasses import dataclass
from typing import Literal, Protocol

from twinfra.access.model import Principal

Action = Literal["stat", "list", "read", "make_folder", "create", "modify"]


class Authorizer(Protocol):
    """Says who calls and what their token allows; paths are below ``/dav``."""

    async def identify(self, bearer: str) -> Principal:
        """Return who `bearer` proves to call.

        Raises:
            Unauthenticated: it proves nobody; the detail says why.
            Unavailable: it cannot be checked now.
        """
        ...

    def permits(self, principal: Principal, action: Action, path: str) -> bool:
        """Say whether the token of `principal` allows `action` on `path`.

        ``stat`` is to know that it is there, ``list`` to see what is in it, ``make_folder`` to make
        a directory, ``create`` to make a file where none is, ``modify`` everything else.
        """
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Another storage that this one may talk to.

    Attributes:
        host: as registered, lower case.
        port: of its door.
        site: its site's name, if it is one of the federation.
    """

    host: str
    port: int
    site: str | None = None

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"


class Peers(Protocol):
    """The registered storages; every other address is never connected to."""

    async def find(self, host: str, port: int) -> Peer | None:
        """Return the peer at `host` and `port`, or none if it is not registered.

        Raises:
            Unavailable: that cannot be known now (retryable).
        """
        ...
