"""How errors look: INDIGO's ``{code, title, message}`` on its routes, problem details at services.

Every status has the same shape, 401 and 403 too (the INDIGO orchestrator leaves those to its OAuth
layer); ``errors``, ``retryable`` and ``trace_id`` stand beside what its clients read.
"""

from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from twinfra.core.errors import TwinfraError
from twinfra.core.http.app import error_headers, render_problem
from twinfra.core.telemetry import current_trace_id

SERVICES = "/services/"


def render(request: Request, error: TwinfraError) -> Response:
    """Answer `error` in the shape that belongs to the route."""
    if request.url.path.startswith(SERVICES):
        return render_problem(request, error)
    return JSONResponse(indigo_body(error), error.status, error_headers(error))


def indigo_body(error: TwinfraError) -> dict[str, Any]:
    """Return the body of an error as INDIGO spells it."""
    body: dict[str, Any] = {
        "code": error.status,
        "title": _phrase(error.status),
        "message": error.detail,
        "retryable": error.retryable,
        "trace_id": current_trace_id(),
    }
    if error.errors:
        body["errors"] = [dict(entry) for entry in error.errors]
    return body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
