"""Calls about storages: register a site's own, list them, read and set attributes and usage."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from twinfra.core.errors import Conflict
from twinfra.data.datasets.client.base import Calls

DAV = "/dav"
OPERATIONS = ("read", "write", "delete", "third_party_copy_read", "third_party_copy_write")


class RseCalls(Calls):
    """Storages and who may be asked for what there."""

    async def register_rse(
        self,
        rse: str,
        *,
        base_url: str,
        prefix: str = "/dav/datasets/",
        attributes: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        """Register a storage edge as an RSE, or bring what is known of it up to date.

        Needs a service's token; repeating it is harmless.

        Args:
            rse: its name, upper case.
            base_url: ``https://host:port`` of the edge; also the audience of its tokens.
            prefix: below which files get their places, ``<prefix><scope>/<name>``.
            attributes: such as ``{"site": "edge-c"}``; token paths are below ``/dav`` unless
                ``oidc_base_path`` says otherwise.
            token: instead of the client's own.
        """
        made = {"rse_type": "DISK", "deterministic": True}
        with suppress(Conflict):
            await self._http.request("POST", f"/rses/{rse}", json=made, token=token)
        wanted = {"lfn2pfn_algorithm": "identity", "oidc_base_path": DAV, **(attributes or {})}
        known = await self.rse_attributes(rse, token=token)
        for key, value in wanted.items():
            if known.get(key) != value:
                await self.set_rse_attribute(rse, key, value, token=token)
        await self._replace_protocol(rse, base_url, prefix, token)

    async def list_rses(
        self, expression: str | None = None, *, token: str | None = None
    ) -> list[str]:
        """Return the names of all RSEs, or of those that an expression means.

        Raises:
            InvalidRequest: the expression is wrong or fits none.
        """
        found = await self._list("/rses/", params={"expression": expression}, token=token)
        return [entry["rse"] for entry in found]

    async def get_rse(self, rse: str, *, token: str | None = None) -> dict[str, Any]:
        """Return an RSE with its protocols, as Rucio spells it."""
        found: dict[str, Any] = (await self._read(f"/rses/{rse}", token=token)).json()
        return found

    async def rse_attributes(self, rse: str, *, token: str | None = None) -> dict[str, Any]:
        """Return the attributes of an RSE."""
        found: dict[str, Any] = (await self._read(f"/rses/{rse}/attr/", token=token)).json()
        return found

    async def set_rse_attribute(
        self, rse: str, key: str, value: Any, *, token: str | None = None
    ) -> None:
        """Set one attribute; a former value goes."""
        path = f"/rses/{rse}/attr/{key}"
        try:
            await self._http.request("POST", path, json={"value": value}, token=token)
        except Conflict:
            await self._http.request("DELETE", path, token=token)
            await self._http.request("POST", path, json={"value": value}, token=token)

    async def set_distance(
        self, source: str, destination: str, distance: int, *, token: str | None = None
    ) -> None:
        """Say how far `destination` is from `source`; nearer sources are tried first."""
        path = f"/rses/{source}/distances/{destination}"
        try:
            await self._http.request("POST", path, json={"distance": distance}, token=token)
        except Conflict:
            await self._http.request("PUT", path, json={"distance": distance}, token=token)

    async def _replace_protocol(
        self, rse: str, base_url: str, prefix: str, token: str | None
    ) -> None:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port or 443
        known = (await self._read(f"/rses/{rse}/protocols", token=token)).json()["protocols"]
        there = False
        for one in known:
            same = (one["scheme"], one["hostname"], one["port"]) == ("https", host, port)
            if same and one["prefix"] == prefix:
                there = True
                continue
            path = f"/rses/{rse}/protocols/{one['scheme']}/{one['hostname']}/{one['port']}"
            await self._http.request("DELETE", path, token=token)
        if there:
            return
        body = {
            "scheme": "https",
            "hostname": host,
            "port": port,
            "prefix": prefix,
            "impl": "rucio.rse.protocols.webdav.Default",
            "domains": {
                "lan": {"read": 1, "write": 1, "delete": 1},
                "wan": dict.fromkeys(OPERATIONS, 1),
            },
        }
        await self._http.request("POST", f"/rses/{rse}/protocols/https", json=body, token=token)
