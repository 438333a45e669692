"""The issuer's tables: refresh tokens, short codes, revoked tokens. Secrets only as digests."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, MetaData, String, Table, delete, insert, select, update

from twinfra.access.issuer.model import Code, CodeKind, CodeStatus, Refresh, Subject
from twinfra.core.database import Connection, Database, UTCDateTime

metadata = MetaData()

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("family", String(64), nullable=False),
    Column("client", String(128), nullable=False),
    Column("subject", JSON, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("act", JSON),
    Column("expires_at", UTCDateTime, nullable=False),
    Column("used_at", UTCDateTime),
    Index("ix_refresh_tokens_family", "family"),
    Index("ix_refresh_tokens_expires_at", "expires_at"),
)

codes = Table(
    "codes",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("client", String(128), nullable=False),
    Column("user_code", String(16), unique=True),
    Column("data", JSON, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    Column("polled_at", UTCDateTime),
    Index("ix_codes_expires_at", "expires_at"),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires_at", UTCDateTime, nullable=False),
)


class IssuerStore:
    """Each method is one unit of work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_refresh(self, token: Refresh) -> None:
        """Keep a refresh token."""
        async with self._database.begin() as connection:
            await connection.execute(insert(refresh_tokens).values(_refresh_row(token)))

    async def find_refresh(self, digest: str) -> Refresh | None:
        """Return the refresh token of that digest, ended or not."""
        async with self._database.read() as connection:
            wanted = select(refresh_tokens).where(refresh_tokens.c.digest == digest)
            row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else _refresh_of(row)

    async def rotate_refresh(self, old: str, new: Refresh, now: datetime) -> bool:
        """Replace `old` by `new`, once; return whether it was this call that did."""
        unused = (refresh_tokens.c.digest == old) & refresh_tokens.c.used_at.is_(None)
        async with self._database.begin() as connection:
            marked = await connection.execute(
                update(refresh_tokens).where(unused).values(used_at=now)
            )
            if marked.rowcount != 1:
                return False
            await connection.execute(insert(refresh_tokens).values(_refresh_row(new)))
        return True

    async def end_family(self, family: str) -> None:
        """Forget all refresh tokens of a login."""
        async with self._database.begin() as connection:
            ended = refresh_tokens.c.family == family
            await connection.execute(delete(refresh_tokens).where(ended))

    async def add_code(self, code: Code) -> None:
        """Keep a short-lived code."""
        async with self._database.begin() as connection:
            await connection.execute(insert(codes).values(_code_row(code)))

    async def find_code(self, digest: str, kind: CodeKind, now: datetime) -> Code | None:
        """Return the code of that digest and kind that has not ended."""
        async with self._database.read() as connection:
            row = await _first(connection, (codes.c.digest == digest) & (codes.c.kind == kind))
        return _live(row, now)

    async def find_user_code(self, user_code: str, now: datetime) -> Code | None:
        """Return the device code that a person reads as `user_code`."""
        async with self._database.read() as connection:
            row = await _first(connection, codes.c.user_code == user_code)
        return _live(row, now)

    async def move_code(
        self, digest: str, was: CodeStatus, to: CodeStatus, data: dict[str, Any] | None = None
    ) -> bool:
        """Bring a code from one status to another, once; return whether it was this call."""
        values: dict[str, Any] = {"status": to} if data is None else {"status": to, "data": data}
        there = (codes.c.digest == digest) & (codes.c.status == was)
        async with self._database.begin() as connection:
            done = await connection.execute(update(codes).where(there).values(values))
        return done.rowcount == 1

    async def note_poll(self, digest: str, now: datetime) -> None:
        """Remember when a device asked last."""
        async with self._database.begin() as connection:
            asked = update(codes).where(codes.c.digest == digest).values(polled_at=now)
            await connection.execute(asked)

    async def revoke(self, jti: str, expires_at: datetime) -> None:
        """Remember that an access token is revoked; twice does nothing more."""
        row = {"jti": jti, "expires_at": expires_at}
        async with self._database.begin() as connection:
            statement = self._database.insert(revoked_tokens).values(row)
            await connection.execute(statement.on_conflict_do_nothing())

    async def is_revoked(self, jti: str) -> bool:
        """Say whether an access token is revoked."""
        async with self._database.read() as connection:
            wanted = select(revoked_tokens.c.jti).where(revoked_tokens.c.jti == jti)
            return (await connection.execute(wanted)).first() is not None

    async def purge(self, now: datetime) -> int:
        """Delete what has ended; return how many rows."""
        gone = 0
        async with self._database.begin() as connection:
            for table in (refresh_tokens, codes, revoked_tokens):
                ended = delete(table).where(table.c.expires_at <= now)
                gone += (await connection.execute(ended)).rowcount
        return gone


async def _first(connection: Connection, condition: Any) -> Any:
    return (await connection.execute(select(codes).where(condition))).mappings().first()


def _live(row: Any, now: datetime) -> Code | None:
    if row is None or row["expires_at"] <= now:
        return None
    return Code(**{name: row[name] for name in Code.__slots__})


def _code_row(code: Code) -> dict[str, Any]:
    row = {name: getattr(code, name) for name in Code.__slots__}
    return {**row, "data": dict(code.data)}


def _refresh_row(token: Refresh) -> dict[str, Any]:
    return {
        "digest": token.digest,
        "family": token.family,
        "client": token.client,
        "subject": token.subject.to_json(),
        "scopes": list(token.scopes),
        "act": None if token.act is None else dict(token.act),
        "expires_at": token.expires_at,
        "used_at": token.used_at,
    }


def _refresh_of(row: Any) -> Refresh:
    return Refresh(
        digest=row["digest"],
        family=row["family"],
        client=row["client"],
        subject=Subject.from_json(row["subject"]),
        scopes=tuple(row["scopes"]),
        act=row["act"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
    )
