"""What all groups of calls share: the HTTP client and how lists are read."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from twinfra.core.http.client import HttpClient, Reply, error_of
from twinfra.data.datasets.client.wire import lines_of

JSON_STREAM = "application/x-json-stream"


class Calls:
    """Base of the groups of calls.

    Args:
        http: a client on the service's base URL. Every call takes a ``token`` of its own, with
            which a service acts for a person; without it the client's token is used.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def _read(
        self, path: str, *, params: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Reply:
        return await self._http.request("GET", path, params=params, token=token, retry=True)

    async def _list(
        self, path: str, *, params: Mapping[str, Any] | None = None, token: str | None = None
    ) -> list[Any]:
        return lines_of((await self._read(path, params=params, token=token)).body)

    async def _lines(
        self, method: str, path: str, *, json: Any = None, token: str | None = None
    ) -> AsyncIterator[bytes]:
        """Give the lines of a JSON stream as they come; memory does not grow with the list."""
        async with self._http.stream(
            method, path, json=json, headers={"Accept": JSON_STREAM}, token=token
        ) as answer:
            if answer.status != 200:
                reply = Reply(answer.status, answer.headers, await answer.read())
                raise error_of(reply, f"{method} {path}")
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield line
            if rest.strip():
                yield rest

    async def aclose(self) -> None:
        """Close the connections (``close`` closes a collection)."""
        await self._http.close()
