"""What may be posted, checked strictly: an unknown field or a wrong type is 400 with its name.

Source: INDIGO PaaS Orchestrator REST API (create and update requests).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from twinfra.core.errors import InvalidRequest
from twinfra.orchestration.deployments.callbacks import check_url
from twinfra.orchestration.deployments.model.records import Wishes
from twinfra.orchestration.deployments.service.deployments import Request

TEMPLATE_CHARS = 1024 * 1024
MINUTES_MOST = 60 * 24 * 366
Minutes = Annotated[int, Field(ge=1, le=MINUTES_MOST)]


class DeploymentBody(BaseModel):
    """A deployment to be made, or its update."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    template: str = Field(min_length=1, max_length=TEMPLATE_CHARS)
    """TOSCA Simple Profile YAML."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    """Values of the template's inputs."""

    callback: str | None = None
    """http(s) URL that is told each change of status."""

    timeoutMins: Minutes | None = None  # noqa: N815 - the field's name on the wire
    """Minutes for the whole deployment."""

    providerTimeoutMins: Minutes | None = None  # noqa: N815 - as above
    """Minutes for one attempt at one provider."""

    maxProvidersRetry: Annotated[int, Field(ge=1, le=1000)] | None = None  # noqa: N815 - as above
    """How many of the ranked providers are tried."""

    keepLastAttempt: bool = False  # noqa: N815 - as above
    """Whether what the last attempt left behind stays, to be looked at."""

    userGroup: str | None = None  # noqa: N815 - as above
    """The group that the deployment belongs to."""

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        whole, part = self.timeoutMins, self.providerTimeoutMins
        if whole is not None and part is not None and part > whole:
            raise ValueError("providerTimeoutMins must be at most timeoutMins")
        if self.callback is not None:
            try:
                check_url(self.callback)
            except InvalidRequest as error:
                raise ValueError(error.detail) from error
        return self

    def request(self) -> Request:
        """Return the request that this body makes."""
        return Request(
            template=self.template,
            parameters=self.parameters,
            group=self.userGroup,
            wishes=Wishes(
                callback=self.callback,
                timeout_mins=self.timeoutMins,
                provider_timeout_mins=self.providerTimeoutMins,
                max_providers_retry=self.maxProvidersRetry,
                keep_last_attempt=self.keepLastAttempt,
            ),
        )


class StatusBody(BaseModel):
    """The one change of status that a person may make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Literal["DELETE_FAILED"]
