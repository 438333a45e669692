"""The typed client of ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinfra.core.errors import UpstreamFault
from twinfra.core.http.client import HttpClient

__all__ = ["RankingAnswer", "RankingClient"]


@dataclass(frozen=True, slots=True)
class RankingAnswer:
    """An answer: the candidates' names best first, and the whole of it as it is shown."""

    id: str
    sites: tuple[str, ...]
    body: Mapping[str, Any]

    @property
    def excluded(self) -> Mapping[str, str]:
        """Return the sentence for each site that is no candidate."""
        return {each["site"]: each["detail"] for each in self.body["excluded"]}


class RankingClient:
    """Speaks to ranking.

    Args:
        http: a client on its base URL; every call may bring a token of its own instead.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def rank(
        self,
        requirements: Mapping[str, Any],
        inputs: Sequence[str] = (),
        *,
        group: str,
        target: str | None = None,
        exclude: Sequence[str] = (),
        deployment: str | None = None,
        token: str | None = None,
    ) -> RankingAnswer:
        """Return all candidates, best first, and why the others are none.

        Args:
            requirements: ``cpu memory_bytes gpus capabilities architecture``.
            inputs: data identifiers, the latest version where one has versions.
            group: whose work it is.
            target: the only site that will do.
            exclude: sites that will not do.
            deployment: what it belongs to, for finding the answer again.
            token: instead of the client's own.

        Raises:
            InvalidRequest: an input does not exist; all of them are named.
            InsufficientScope: a person asks for a group that is not theirs.
            Unavailable: a neighbour of ranking does not answer; ask again.
        """
        body = {
            "requirements": dict(requirements),
            "inputs": list(inputs),
            "group": group,
            "target": target,
            "exclude": list(exclude),
            "deployment": deployment,
        }
        reply = await self._http.request("POST", "/rank", json=body, token=token, retry=True)
        return _answer(reply.json())

    async def answer(self, ranking_id: str, *, token: str | None = None) -> RankingAnswer:
        """Return an answer of the past.

        Raises:
            NotFound: there is none any more, or it is for another group.
        """
        reply = await self._http.request("GET", f"/rankings/{ranking_id}", token=token, retry=True)
        return _answer(reply.json())

    async def of_deployment(
        self, deployment: str, *, token: str | None = None
    ) -> list[RankingAnswer]:
        """Return the answers for a deployment, the newest first."""
        reply = await self._http.request(
            "GET", "/rankings", params={"deployment": deployment}, token=token, retry=True
        )
        return [_answer(body) for body in reply.json()]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _answer(body: Any) -> RankingAnswer:
    try:
        sites = tuple(each["site"] for each in body["candidates"])
        return RankingAnswer(body["id"], sites, body)
    except (KeyError, TypeError) as error:
        raise UpstreamFault("ranking answered with something else than a ranking") from error
