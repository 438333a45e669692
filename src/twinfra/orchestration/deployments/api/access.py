"""What routes take from the request: who calls, and what this application works with."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from twinfra.access.model import Principal
from twinfra.orchestration.deployments.model.records import Deployment
from twinfra.orchestration.deployments.news import News
from twinfra.orchestration.deployments.service.deployments import Deployments
from twinfra.orchestration.deployments.service.kit import Kit


@dataclass(frozen=True)
class Ask:
    """A request: its caller, the ports, the use cases, and what wakes event streams."""

    principal: Principal
    kit: Kit
    deployments: Deployments
    news: News

    async def look(self, deployment_id: str) -> Deployment:
        """Return a deployment that the caller may see.

        Raises:
            NotFound: there is none for them.
        """
        return await self.deployments.get(self.principal, deployment_id)


def ask_of(request: Request) -> Ask:
    """Return the request; the router's own dependency has authenticated its caller."""
    state = request.app.state
    return Ask(request.state.principal, state.kit, state.deployments, state.news)


Asked = Annotated[Ask, Depends(ask_of)]
