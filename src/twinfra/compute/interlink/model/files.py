"""The body of ``PUT /ext/files``: objects that changed while their pod runs."""

from dataclasses import dataclass
from typing import Any

from twinfra.compute.interlink.model.reading import UID, Json, as_object, objects, text
from twinfra.core.errors import InvalidRequest


@dataclass(frozen=True)
class FilesRequest:
    """New versions of the objects that a pod's volumes show."""

    uid: str
    config_maps: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()
    projected_maps: tuple[Json, ...] = ()

    @classmethod
    def from_wire(cls, value: Any) -> "FilesRequest":
        """Read the body; lists may be ``null`` or absent.

        Raises:
            InvalidRequest: a field is missing or of the wrong type; the text names it.
        """
        body = as_object(value, "body")
        uid = text(body.get("uid"), "uid")
        if not UID.fullmatch(uid):
            raise InvalidRequest("uid must be a pod's UID")
        return cls(
            uid=uid,
            config_maps=objects(body.get("configmaps"), "configmaps"),
            secrets=objects(body.get("secrets"), "secrets"),
            projected_maps=objects(body.get("projectedvolumesmaps"), "projectedvolumesmaps"),
        )

    def to_wire(self) -> Json:
        """Return the JSON object."""
        return {
            "uid": self.uid,
            "configmaps": list(self.config_maps),
            "secrets": list(self.secrets),
            "projectedvolumesmaps": list(self.projected_maps),
        }
