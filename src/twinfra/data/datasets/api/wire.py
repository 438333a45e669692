"""How Rucio spells things: moments, JSON streams, errors in headers and body, requests to be read.

Source: Rucio 41 REST interface and its client: content types are compared letter by letter, moments
are RFC 1123 with ``UTC``, bodies come without a content type.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from twinfra.core.errors import TwinfraError
from twinfra.core.http.app import error_headers
from twinfra.core.telemetry import current_trace_id
from twinfra.data.datasets.client.wire import RUCIO_TIME
from twinfra.data.datasets.errors import InvalidObject, RucioProblem

JSON_STREAM = "application/x-json-stream"
HEADER_CHARS = 125
BLOCK_BYTES = 64 * 1024
BY_STATUS: Mapping[int, str] = {
    400: "InvalidRequest",
    401: "CannotAuthenticate",
    403: "AccessDenied",
    409: "Duplicate",
    503: "ServiceUnavailable",
}
T = TypeVar("T")


class Body(BaseModel):
    """Base of request bodies: what is not known is let pass, as Rucio does."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def dumps(value: Any) -> bytes:
    """Spell a value as JSON, moments and enumerations in Rucio's way."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def moment(value: datetime | None) -> str | None:
    """Spell a moment."""
    return None if value is None else value.strftime(RUCIO_TIME)


def reply(value: Any, status: int = 200) -> Response:
    """Answer with one JSON value; the content type has no parameters."""
    return Response(dumps(value), status, media_type="application/json")


def created() -> Response:
    """Answer that something was made, as Rucio does."""
    return Response("Created", 201, media_type="text/plain")


def done() -> Response:
    """Answer that something was done."""
    return Response(b"", 200)


async def stream(
    rows: AsyncIterable[T], spell: Callable[[T], Any], media_type: str = JSON_STREAM
) -> Response:
    """Answer with one JSON value a line, as they come.

    The first is fetched before the answer begins, so that an error still has its own status.
    """
    lines = _blocks(rows, spell)
    try:
        first = await anext(lines)
    except StopAsyncIteration:
        return Response(b"", 200, media_type=media_type)
    return StreamingResponse(_chain(first, lines), 200, media_type=media_type)


async def _blocks(rows: AsyncIterable[T], spell: Callable[[T], Any]) -> AsyncGenerator[bytes, None]:
    """Gather lines into blocks, so that long lists cost few writes."""
    block, size = [], 0
    async for row in rows:
        line = dumps(spell(row)) + b"\n"
        block.append(line)
        size += len(line)
        if size >= BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


async def _chain(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest) as lines:
        yield first
        async for block in lines:
            yield block


async def each(values: list[T]) -> AsyncIterator[T]:
    """Give a list as a stream."""
    for value in values:
        yield value


async def body(request: Request, model: type[T]) -> T:
    """Read the body as `model`; an empty one counts as an empty object.

    Raises:
        InvalidObject: it is not JSON, or not of that form; names the field.
    """
    raw = await request.body()
    try:
        return TypeAdapter(model).validate_json(raw or b"{}")
    except ValidationError as error:
        faults = [
            {"field": ".".join(map(str, entry["loc"])), "detail": entry["msg"]}
            for entry in error.errors(include_url=False, include_input=False)
        ]
        named = "; ".join(f"{one['field'] or 'body'}: {one['detail']}" for one in faults[:3])
        raise InvalidObject(f"the body is not as expected: {named}", errors=faults) from error


def accepts(model: Any) -> dict[str, Any]:
    """Describe a request body for OpenAPI, since it is read by hand."""
    schema = TypeAdapter(model).json_schema()
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def render(request: Request, error: TwinfraError) -> Response:
    """Answer an error as a Rucio server does: class and message in the headers and in the body."""
    del request
    name = (
        error.rucio_class
        if isinstance(error, RucioProblem)
        else BY_STATUS.get(error.status, "RucioException")
    )
    message = error.detail
    line = " ".join(message.split()).encode("latin-1", "replace").decode("latin-1")
    short = line if len(line) <= HEADER_CHARS else line[:HEADER_CHARS] + "..."
    content = {
        "ExceptionClass": name,
        "ExceptionMessage": message,
        "code": error.code,
        "retryable": error.retryable,
        "trace_id": current_trace_id(),
    }
    if error.errors:
        content["errors"] = [dict(entry) for entry in error.errors]
    headers = {"ExceptionClass": name, "ExceptionMessage": short, **error_headers(error)}
    return Response(dumps(content), error.status, headers, media_type="application/json")
