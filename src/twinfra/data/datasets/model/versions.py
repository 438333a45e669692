"""Versions of a result: a container holds datasets ``<name>.v1``, ``.v2``, …; the highest counts.

Pure. The numbers have no gaps by construction, yet nothing here depends on it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twinfra.data.datasets.model.names import Did

_VERSION = re.compile(r"(?P<name>.+)\.v(?P<number>[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One version of a container: its number and the dataset that is it."""

    number: int
    did: Did


def version_of(container: Did, member: Did) -> Version | None:
    """Return which version of `container` the dataset `member` is, or none if it is none."""
    found = _VERSION.fullmatch(member.name)
    if found is None or member.scope != container.scope or found["name"] != container.name:
        return None
    return Version(int(found["number"]), member)


def versions(container: Did, members: Iterable[Did]) -> list[Version]:
    """Return the versions among `members`, lowest first."""
    return sorted(v for m in members if (v := version_of(container, m)) is not None)


def latest(container: Did, members: Iterable[Did]) -> Version | None:
    """Return the highest version among `members`, or none if there is none."""
    return max(versions(container, members), default=None)


def version_did(container: Did, number: int) -> Did:
    """Return what version `number` of `container` is called."""
    return Did(container.scope, f"{container.name}.v{number}")
