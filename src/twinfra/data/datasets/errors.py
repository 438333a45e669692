"""Leaves of the one error tree, named and numbered as a Rucio server does.

``rucio_class`` is the ``ExceptionClass`` that its clients turn back into an exception; the status
is the one that a Rucio server answers. Knows no HTTP: ``api/wire.py`` spells them.

Source: Rucio 41 REST interface, response codes by route.
"""

from typing import ClassVar

from twinfra.core import errors as core


class RucioProblem:
    """What every leaf here adds: the class name that Rucio's clients know."""

    rucio_class: ClassVar[str] = "RucioException"


class InvalidObject(RucioProblem, core.InvalidRequest):
    """A value breaks the schema."""

    rucio_class = "InvalidObject"


class InvalidPath(RucioProblem, core.InvalidRequest):
    """A physical file name is outside of what its RSE offers."""

    rucio_class = "InvalidPath"


class InvalidType(RucioProblem, core.InvalidRequest):
    """A type or state that does not exist or cannot be used here."""

    rucio_class = "InvalidType"


class InvalidRseExpression(RucioProblem, core.InvalidRequest):
    """The RSE expression does not parse, or no RSE matches it."""

    rucio_class = "InvalidRSEExpression"


class InvalidMetadata(RucioProblem, core.InvalidRequest):
    """A metadata key or its value cannot be set."""

    rucio_class = "InvalidMetadata"


class InvalidRule(RucioProblem, core.InvalidRequest):
    """The wanted rule makes no sense."""

    rucio_class, status = "InvalidReplicationRule", 409


class FilterSyntax(RucioProblem, core.InvalidRequest):
    """A metadata filter does not parse."""

    rucio_class = "DIDFilterSyntaxError"


class CannotAuthenticate(RucioProblem, core.Unauthenticated):
    """The token does not prove who calls, or not the account that was asked for."""

    rucio_class = "CannotAuthenticate"


class AccessDenied(RucioProblem, core.InsufficientScope):
    """The caller may not do this.

    Rucio answers 401 here; we answer 403, since its clients would ask for a new token on a 401 and
    then hide the reason.
    """

    rucio_class = "AccessDenied"


class DidNotFound(RucioProblem, core.NotFound):
    """No such file, dataset or container."""

    rucio_class = "DataIdentifierNotFound"


class ScopeNotFound(RucioProblem, core.NotFound):
    """No such scope."""

    rucio_class = "ScopeNotFound"


class AccountNotFound(RucioProblem, core.NotFound):
    """No such account."""

    rucio_class = "AccountNotFound"


class RseNotFound(RucioProblem, core.NotFound):
    """No such RSE."""

    rucio_class = "RSENotFound"


class RseAttributeNotFound(RucioProblem, core.NotFound):
    """The RSE has no such attribute."""

    rucio_class = "RSEAttributeNotFound"


class ProtocolNotSupported(RucioProblem, core.NotFound):
    """The RSE has no such protocol."""

    rucio_class = "RSEProtocolNotSupported"


class ReplicaNotFound(RucioProblem, core.NotFound):
    """The RSE holds no such replica."""

    rucio_class = "ReplicaNotFound"


class RuleNotFound(RucioProblem, core.NotFound):
    """No such rule."""

    rucio_class = "RuleNotFound"


class KeyNotFound(RucioProblem, core.NotFound):
    """The DID has no such metadata key."""

    rucio_class = "KeyNotFound"


class Duplicate(RucioProblem, core.Conflict):
    """This exists already."""

    rucio_class = "Duplicate"


class DidExists(RucioProblem, core.Conflict):
    """The name is taken, for ever."""

    rucio_class = "DataIdentifierAlreadyExists"


class FileMismatch(RucioProblem, core.Conflict):
    """A file of this name is known with another size or checksum."""

    rucio_class = "FileReplicaAlreadyExists"


class DuplicateContent(RucioProblem, core.Conflict):
    """The collection has this already."""

    rucio_class = "DuplicateContent"


class DuplicateRule(RucioProblem, core.Conflict):
    """The account has the same rule already."""

    rucio_class = "DuplicateRule"


class RuleLocked(RucioProblem, core.Conflict):
    """The rule is locked: it neither expires nor can it be removed."""

    rucio_class = "UnsupportedOperation"


class UnsupportedOperation(RucioProblem, core.Conflict):
    """The thing's type or state forbids this."""

    rucio_class = "UnsupportedOperation"


class UnsupportedStatus(RucioProblem, core.Conflict):
    """A collection's status cannot be changed so."""

    rucio_class = "UnsupportedStatus"


class InsufficientTargets(RucioProblem, core.Conflict):
    """Fewer RSEs fit the expression than copies are wanted."""

    rucio_class = "InsufficientTargetRSEs"


class ReplicaLocked(RucioProblem, core.Conflict):
    """A rule protects the replica."""

    rucio_class, status = "ReplicaIsLocked", 423


class NotOffered(RucioProblem, core.TwinfraError):
    """Rucio has this route; this server does not offer it."""

    rucio_class = "UnsupportedOperation"
    code, title, status = "not-offered", "This server does not offer it", 501
