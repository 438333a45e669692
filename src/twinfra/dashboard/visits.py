"""Who is visiting: each browser's login, kept in memory, found by a cookie that says nothing.

A visit ends with the process; the browser then signs in again, which costs it one redirect.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from twinfra.access.login import new_verifier
from twinfra.access.person_tokens import PersonTokens
from twinfra.core.errors import InvalidRequest
from twinfra.core.time import Clock

COOKIE = "__Host-twinfra-visit"


@dataclass
class Visit:
    """One browser: before its login a state and a verifier, after it the person's tokens."""

    state: str
    verifier: str
    onward: str
    seen_s: float
    tokens: PersonTokens | None = None
    person: str = ""


class Visits:
    """All visits, bounded in number and idle time.

    Anybody may begin one, so those that are signed in are counted apart: nobody is put out by them.

    Args:
        clock: tells how long a visit was idle.
        visit_s: idle time after which a visit has ended.
        most: visits kept of each kind.
    """

    def __init__(self, clock: Clock, *, visit_s: float, most: int) -> None:
        self._clock, self._visit_s, self._most = clock, visit_s, most
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._begun: OrderedDict[str, Visit] = OrderedDict()

    def begin(self, onward: str) -> tuple[str, Visit]:
        """Begin a visit that will go `onward` after its login; return its key."""
        while len(self._begun) >= self._most:
            self._begun.popitem(last=False)
        key = secrets.token_urlsafe(32)
        visit = Visit(secrets.token_urlsafe(16), new_verifier(), onward, self._clock.monotonic())
        self._begun[key] = visit
        return key, visit

    def find(self, key: str | None) -> Visit | None:
        """Return the visit of a cookie, if it has not ended."""
        kept = self._visits if key in self._visits else self._begun
        visit = kept.get(key or "")
        if visit is None:
            return None
        now = self._clock.monotonic()
        if now - visit.seen_s > self._visit_s:
            kept.pop(key or "", None)
            return None
        visit.seen_s = now
        kept.move_to_end(key or "")
        return visit

    def admit(self, key: str, make: Callable[[], PersonTokens]) -> tuple[str, PersonTokens]:
        """Turn a visit into a signed-in one under a new key (no key survives a login).

        Raises:
            InvalidRequest: it has ended meanwhile, or was turned into one by another request.
        """
        visit = self._begun.pop(key, None)
        if visit is None:
            raise InvalidRequest("this sign-in has ended; open the page again")
        visit.tokens = make()
        while len(self._visits) >= self._most:
            self._visits.popitem(last=False)
        fresh = secrets.token_urlsafe(32)
        self._visits[fresh] = visit
        return fresh, visit.tokens

    def end(self, key: str | None) -> None:
        """End a visit; ending it twice does nothing."""
        for kept in (self._visits, self._begun):
            kept.pop(key or "", None)
