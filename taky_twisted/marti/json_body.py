"""JSON that clients send: read without trust."""

from __future__ import annotations

import json

from taky_twisted.marti.errors import BadRequest
from taky_twisted.marti.request import MartiRequest


def read_json(request: MartiRequest) -> object:
    """Read the body of a request, whatever type it claims to have.

    Raises:
        BadRequest: it is no JSON, or none that is worth the effort: nested a thousand deep, numbers of any length.
    """
    try:
        body: object = json.loads(request.data)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is no JSON that can be read") from error
    return body


def read_list(request: MartiRequest, most: int) -> list[object]:
    """Read a body that is a list.

    Args:
        request: whose body it is.
        most: how many entries are taken.

    Raises:
        BadRequest: it is something else, or longer.
    """
    body = read_json(request)
    if not isinstance(body, list):
        raise BadRequest("the body is no JSON array")
    if len(body) > most:
        raise BadRequest(f"the body has {len(body)} entries; up to {most} are taken")
    return body
