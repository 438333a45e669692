"""Keeps the certificate of an open door good: what is due is made anew and taken into use.

A door does not wait for its certificate, since a cluster signs one only when somebody approves it.
"""

import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime

from twinfra.compute.kubelet.door.certificates import Shown
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

LOOKS_S = 3600.0
"""A clock may be set meanwhile: it is looked at so often."""
AGAIN_S = 60.0
AGAIN_MOST_S = 3600.0


class Renewal:
    """Shows a new certificate whenever one is due; connections that are open keep the old one.

    Args:
        node: whose door it is.
        tls: the door's context.
        make: makes a certificate; may wait for people as long as it takes.
        due_at: when the first is due.
        clock: tells the moment, and waits.
    """

    def __init__(
        self,
        node: str,
        tls: ssl.SSLContext,
        make: Callable[[], Awaitable[Shown]],
        due_at: datetime,
        clock: Clock,
    ) -> None:
        self._node, self._tls, self._make = node, tls, make
        self._due_at, self._clock = due_at, clock

    async def run(self) -> None:
        """Renew until cancelled."""
        pause_s = AGAIN_S
        while True:
            await self._until_due()
            try:
                shown = await self._make()
                self._tls.load_cert_chain(shown.certfile, shown.keyfile)
            except (TwinfraError, OSError, ValueError) as error:
                log.warning("serving_certificate_not_renewed", node=self._node, why=str(error))
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MOST_S)
                continue
            self._due_at, pause_s = shown.renew_at, AGAIN_S
            log.info(
                "serving_certificate_shown", node=self._node, ends_at=shown.ends_at.isoformat()
            )

    async def _until_due(self) -> None:
        while (left_s := (self._due_at - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(min(left_s, LOOKS_S))
