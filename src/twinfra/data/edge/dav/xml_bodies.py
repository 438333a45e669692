"""Reads the XML bodies of PROPFIND and PROPPATCH; refuses all that XML can do besides naming.

No document type, so no entities and nothing from elsewhere; depth and counts are bounded.
Source: RFC 4918 §14.20, §14.19, §17.
"""

from dataclasses import dataclass, field
from typing import Literal
from xml.parsers.expat import ExpatError, ParserCreate

from twinfra.data.edge.wire.errors import HttpRefusal

DAV = "DAV:"
SEPARATOR = "\n"  # cannot stand in a namespace after attribute normalisation
MAX_DEPTH = 32
MAX_NAMES = 256
Name = tuple[str, str]


@dataclass
class Asked:
    """What a PROPFIND wants to know, or a PROPPATCH wants to change.

    Attributes:
        kind: ``prop`` for the names alone, ``allprop`` for the usual, ``propname`` for the names.
        names: of properties, each (namespace, name).
    """

    kind: Literal["prop", "allprop", "propname"] = "allprop"
    names: list[Name] = field(default_factory=list)


class _Reader:
    """Follows the elements of one body."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._stack: list[Name] = []
        self.found: set[str] = set()
        self.names: list[Name] = []

    def refuse(self, *_: object) -> None:
        raise HttpRefusal(400, "a document type has no place in this body")

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(SEPARATOR)
        if not self._stack and (namespace, local) != (DAV, self._root):
            raise HttpRefusal(400, f"the body is not a DAV: {self._root}")
        if self._stack and self._stack[-1] == (DAV, "prop") and len(self._stack) in {2, 3}:
            self.names.append((namespace, local))
        elif len(self._stack) == 1:
            self.found.add(local if namespace == DAV else "")
        self._stack.append((namespace, local))
        if len(self._stack) > MAX_DEPTH or len(self.names) > MAX_NAMES:
            raise HttpRefusal(413, "the body asks too much")

    def end(self, _name: str) -> None:
        self._stack.pop()


def parse_propfind(body: bytes) -> Asked:
    """Return what a PROPFIND body asks; an empty one asks for the usual.

    Raises:
        HttpRefusal: 400, it is not such a body.
    """
    if not body.strip():
        return Asked()
    reader = _read(body, "propfind")
    kinds = reader.found & {"prop", "allprop", "propname"}
    if len(kinds) != 1:
        raise HttpRefusal(400, "a propfind holds one of prop, allprop and propname")
    if "propname" in kinds:
        return Asked("propname")
    return Asked("prop" if "prop" in kinds else "allprop", _unique(reader.names))


def parse_proppatch(body: bytes) -> Asked:
    """Return the properties that a PROPPATCH body wants to change.

    Raises:
        HttpRefusal: 400, it is not such a body.
    """
    reader = _read(body, "propertyupdate")
    if not reader.names:
        raise HttpRefusal(400, "a propertyupdate names properties")
    return Asked("prop", _unique(reader.names))


def _read(body: bytes, root: str) -> _Reader:
    reader = _Reader(root)
    parser = ParserCreate(namespace_separator=SEPARATOR)
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(body, True)
    except ExpatError as error:
        raise HttpRefusal(400, "the body is not XML") from error
    return reader


def _unique(names: list[Name]) -> list[Name]:
    return list(dict.fromkeys(names))
