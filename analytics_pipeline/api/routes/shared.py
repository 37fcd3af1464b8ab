"""What all routes share: the service, the codes that they document.

Belongs here: that. Does not: any route.
"""

from __future__ import annotations

from typing import Any, cast

from fastapi import Request

from analytics_pipeline.api.service import Service
from analytics_pipeline.api.shapes import Failure

Responses = dict[int | str, dict[str, Any]]


def service_of(request: Request) -> Service:
    """The service of the application that a request came to."""
    return cast("Service", request.app.state.service)


def failures(*codes: int) -> Responses:
    """What OpenAPI says of the codes of failures."""
    return {code: {"model": Failure, "description": _MEANING[code]} for code in codes}


_MEANING = {
    400: "A parameter names something that is not there.",
    401: "The bearer token is missing or wrong.",
    403: "A page of another origin may not start anything.",
    404: "There is no such dataset, or nothing was published of it yet.",
    409: "A sync is running already.",
    503: "Not now: the first sync is under way, or the store or Dagster cannot be reached.",
    504: "The request took too long; its query was interrupted.",
}
READING: Responses = {
    304: {"description": "The answer is the one that the request's ETag names."},
    **failures(400, 404, 503, 504),
}
"""Of every question about a table."""
