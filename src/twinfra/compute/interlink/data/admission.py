"""Asks about a pod's data before the pod is taken, so that nothing starts that cannot end well."""

from contextlib import suppress
from typing import Any

from twinfra.access.model import Principal
from twinfra.compute.interlink.data.doors import NO_PERMISSION, DataDoors
from twinfra.compute.interlink.pods.refused import refuse
from twinfra.compute.interlink.pods.request import PodRequest
from twinfra.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from twinfra.data.datasets.client import DatasetsClient, Did, DidType, NewCollection


class Admission:
    """Looks at inputs and outputs.

    Args:
        doors: of the site.
        datasets: asks as the plug-in.
    """

    def __init__(self, doors: DataDoors, datasets: DatasetsClient) -> None:
        self._doors, self._datasets = doors, datasets

    async def admit(self, caller: Principal, request: PodRequest) -> dict[str, Any] | None:
        """Return the caller's lasting permission, where the pod names data; see `DataDoor`."""
        for mount in request.inputs:
            try:
                await self._datasets.get_did(Did(mount.scope, mount.name))
            except NotFound as error:
                raise refuse("twinfra.io/inputs", f"there is no {mount.did}") from error
        if not (request.inputs or request.outputs):
            return None
        if caller.is_service:
            await self._make_containers(request, None)
            return None
        try:
            delegation = await self._doors.tokens.delegate(caller.token)
        except Unauthenticated as error:
            if not request.outputs:
                return NO_PERMISSION  # what is at the site already can be used all the same
            raise InvalidRequest(
                "twinfra.io/outputs: the token cannot be kept for the time when it is needed"
            ) from error
        if request.outputs:
            token = await self._doors.tokens.on_behalf(delegation, self._doors.datasets_url)
            await self._make_containers(request, token)
        return delegation.to_dict()

    async def _make_containers(self, request: PodRequest, token: str | None) -> None:
        """Have the outputs' containers be there: who may not make them may not publish either."""
        for mount in request.outputs:
            did = Did(mount.scope, mount.name)
            try:
                await self._datasets.dids_add(
                    [NewCollection(did, DidType.CONTAINER)], exist_ok=True, token=token
                )
            except Conflict as error:
                why = f"{mount.did} is no container, so it cannot have versions"
                raise refuse("twinfra.io/outputs", why) from error
            with suppress(NotFound):
                found = await self._datasets.get_did(did, token=token)
                if found.type is not DidType.CONTAINER:
                    why = f"{mount.did} is no container, so it cannot have versions"
                    raise refuse("twinfra.io/outputs", why)
