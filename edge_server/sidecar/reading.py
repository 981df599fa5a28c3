"""Reading: resources of the admin plane that are read with GET and HEAD, and how JSON is sent.

Process      the sidecar's main thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import falcon

from edge_server.errors import MethodNotAllowed

Answer = Callable[..., None]  # of the request, the response, and what the path names


class Reading:
    """A resource that is read with GET and HEAD.

    Args:
        answer: called with request and response, and with what the route's template names.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def on_get(self, req: falcon.Request, resp: falcon.Response, **named: Any) -> None:
        """Answer it."""
        self._answer(req, resp, **named)

    on_head = on_get

    def on_options(self, req: falcon.Request, resp: falcon.Response, **named: Any) -> None:
        """Refuse it, as every other method.

        Raises:
            MethodNotAllowed: always.
        """
        raise MethodNotAllowed(req.method, (("Allow", "GET, HEAD"),))


def as_json(resp: falcon.Response, value: object) -> None:
    """Make `value` the body of an answer."""
    resp.content_type = "application/json"
    resp.data = json.dumps(value).encode("ascii") + b"\n"
