"""What text and names may be in messages to others. Pure."""

import hashlib
import re
from urllib.parse import quote

from twinfra.accounting.model import WITHHELD, UsageRecord
from twinfra.accounting.settings import AccountingSettings
from twinfra.core.errors import InvalidRequest

_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SEPARATOR = "%%"


class NotSpellable(InvalidRequest):
    """A value cannot be put into a message of the field without breaking it."""


def ascii_only(field: str, value: str, limit: int) -> str:
    """Return `value` in ASCII, other characters percent-encoded (messages travel as ASCII).

    Raises:
        NotSpellable: it holds the record separator ``%%`` or a control character, or is longer than
            `limit` characters.
    """
    text = value if value.isascii() else quote(value, safe=_PRINTABLE)
    if SEPARATOR in text or _CONTROL.search(text):
        raise NotSpellable(f"{field} holds '{SEPARATOR}' or a control character")
    if len(text) > limit:
        raise NotSpellable(f"{field} has more than {limit} characters")
    return text


def user_name(record: UsageRecord, settings: AccountingSettings) -> str | None:
    """Return how the person is named to others: ``sub@issuer``, hashed, or not at all."""
    if record.person is None:
        return None
    if WITHHELD in {settings.user_names, record.person.sub}:
        return WITHHELD
    name = f"{record.person.sub}@{record.person.iss}"
    if settings.user_names == "hashed":
        return hashlib.sha256(name.encode()).hexdigest()
    return name
