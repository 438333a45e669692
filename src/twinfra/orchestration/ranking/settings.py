"""Settings of ranking: the weights of its factors, and what it assumes where nobody says."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from twinfra.core.settings import SettingsGroup


class Weights(BaseModel):
    """How much each factor counts; only their relations matter."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    data_locality: NonNegativeFloat = 0.30
    """Time to bring the missing inputs; the largest, since data is what a twin waits for."""

    free_cpu: NonNegativeFloat = 0.20
    """Cores that nobody uses; a job that starts at once needs no guess about a queue."""

    queue_wait: NonNegativeFloat = 0.15
    """Time before a job starts; less than free cores, for it is an estimate."""

    health: NonNegativeFloat = 0.15
    """How seldom the site failed of late."""

    sla: NonNegativeFloat = 0.10
    """What the site promised to the group, or what the operators prefer."""

    speed: NonNegativeFloat = 0.05
    """HEPScore23 of a core; small, since most jobs are short beside their data."""

    cost: NonNegativeFloat = 0.05
    """Price; small, since most sites of a federation have none."""


class RankingSettings(SettingsGroup):
    """How sites are ranked."""

    section: ClassVar[str] = "ranking"

    weights: Weights = Weights()
    """How much each factor counts."""

    preferences: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Preference of the operators by site, 0 to 1; counts as a share promised to every group."""

    default_bandwidth_bytes_per_s: PositiveFloat = 10.0 * 2**20
    """What a link carries that nobody described."""

    busy_wait_s: NonNegativeFloat = 600.0
    """What a job waits at a site that has no core free and does not say for how long."""

    longest_s: PositiveFloat = 24 * 3600.0
    """A transfer or a wait of this length, or longer, is worth nothing."""

    reference_hepscore23: PositiveFloat = 20.0
    """A core of this speed is worth half; default: a good core of these years."""

    reference_cost: PositiveFloat = 0.1
    """An hour of this price is worth half."""

    keep_s: PositiveFloat = 30 * 24 * 3600.0
    """Answers are kept for so long, for those who ask why."""

    keep_answers: PositiveInt = 20_000
    """Answers beyond this number are dropped, the oldest first."""

    purge_interval_s: PositiveFloat = 600.0
    """How often old answers are dropped."""

    max_inputs: PositiveInt = 100
    """A request with more inputs is refused."""
