"""Names that the Rucio schema allows, and the pair that names all data: scope and name.

Pure. Source: Rucio's generic schema (scope, name, account, RSE and attribute patterns); a name may
hold slashes, so that a file of a dataset can be called ``scenarios/first.nc``.
"""

import re
from dataclasses import dataclass
from typing import Self

from twinfra.data.datasets.errors import InvalidObject

SCOPE = re.compile(r"[a-zA-Z_\-.0-9]{1,25}")
NAME = re.compile(r"[A-Za-z0-9][/A-Za-z0-9._\-]{0,249}")
ACCOUNT = re.compile(r"[a-z0-9_-]{1,25}")
RSE = re.compile(r"[A-Z0-9]+(?:[_-][A-Z0-9]+)*")
ATTRIBUTE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Did:
    """A data identifier: what a file, dataset or container is called for ever."""

    scope: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``scope:name``.

        Raises:
            InvalidObject: there is no colon, or a part breaks the schema.
        """
        scope, colon, name = text.partition(":")
        if not colon:
            raise InvalidObject(f"{text!r} is not a data identifier such as climate:scenarios")
        return cls(scope, name).checked()

    def checked(self) -> Self:
        """Return this identifier if the schema allows it.

        Raises:
            InvalidObject: scope or name breaks the schema.
        """
        if not SCOPE.fullmatch(self.scope):
            raise InvalidObject(f"scope {self.scope!r} does not match {SCOPE.pattern}")
        parts = self.name.split("/")
        if not NAME.fullmatch(self.name) or any(part in {"", ".", ".."} for part in parts):
            raise InvalidObject(f"name {self.name!r} does not match {NAME.pattern}")
        return self

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


def check_rse_name(name: str) -> str:
    """Return `name` if an RSE may be called so.

    Raises:
        InvalidObject: it may not; RSE names are upper case.
    """
    if len(name) > 30 or not RSE.fullmatch(name):
        raise InvalidObject(f"RSE name {name!r} does not match {RSE.pattern}")
    return name


def check_attribute_name(name: str) -> str:
    """Return `name` if an RSE attribute may be called so.

    Raises:
        InvalidObject: it may not.
    """
    if not ATTRIBUTE.fullmatch(name):
        raise InvalidObject(f"attribute name {name!r} does not match {ATTRIBUTE.pattern}")
    return name


def check_account_name(name: str) -> str:
    """Return `name` if an account may be called so.

    Raises:
        InvalidObject: it may not; account names are lower case.
    """
    if not ACCOUNT.fullmatch(name):
        raise InvalidObject(f"account name {name!r} does not match {ACCOUNT.pattern}")
    return name
