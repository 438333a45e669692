"""Channels and subscriptions in SQL, so that they outlive a restart of the edge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, delete, insert, select, update

from twinfra.core.database import Database
from twinfra.data.edge.inventory.tables import channels, subscriptions


@dataclass(frozen=True)
class KeptSubscription:
    """A subscription as it is kept."""

    id: str
    selector: Mapping[str, Any]
    since: int


@dataclass(frozen=True)
class KeptChannel:
    """A channel as it is kept, with its subscriptions in the order they were made."""

    id: str
    owner: str
    client_id: str | None
    timeout_s: int
    subscriptions: tuple[KeptSubscription, ...] = ()


class ChannelStore:
    """The tables `channels` and `subscriptions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[KeptChannel]:
        """Return all channels."""
        async with self._database.read() as connection:
            made = (await connection.execute(select(channels))).mappings().all()
            wishes = await connection.execute(
                select(subscriptions).order_by(subscriptions.c.number)
            )
            by_channel: dict[str, list[KeptSubscription]] = {}
            for row in wishes.mappings():
                kept = KeptSubscription(row["id"], row["selector"], row["since"])
                by_channel.setdefault(row["channel"], []).append(kept)
        return [
            KeptChannel(**row, subscriptions=tuple(by_channel.get(row["id"], ()))) for row in made
        ]

    async def add(self, channel: KeptChannel) -> None:
        """Keep a new channel."""
        await self._write(
            insert(channels).values(
                id=channel.id,
                owner=channel.owner,
                client_id=channel.client_id,
                timeout_s=channel.timeout_s,
            )
        )

    async def set_timeout(self, channel_id: str, timeout_s: int) -> None:
        """Keep another time for a channel."""
        await self._write(
            update(channels).where(channels.c.id == channel_id).values(timeout_s=timeout_s)
        )

    async def delete(self, channel_id: str) -> None:
        """Drop a channel with its subscriptions."""
        await self._write(delete(channels).where(channels.c.id == channel_id))

    async def add_subscription(self, channel_id: str, kept: KeptSubscription) -> None:
        """Keep a new subscription of a channel."""
        await self._write(
            insert(subscriptions).values(
                id=kept.id,
                channel=channel_id,
                selector=dict(kept.selector),
                since=kept.since,
            )
        )

    async def delete_subscription(self, channel_id: str, subscription_id: str) -> None:
        """Drop a subscription."""
        await self._write(
            delete(subscriptions).where(
                subscriptions.c.channel == channel_id, subscriptions.c.id == subscription_id
            )
        )

    async def _write(self, statement: Executable) -> None:
        async with self._database.begin() as connection:
            await connection.execute(statement)
