"""Acting: resources of the admin plane that are posted to, by those who may.

Process      the sidecar's main thread.
"""

from __future__ import annotations

from collections.abc import Callable

import falcon

from edge_server.errors import MethodNotAllowed
from edge_server.sidecar.authorization import FORWARDING_FIELDS, Authorization, Sender

Act = Callable[[falcon.Request, falcon.Response], None]


class Acting:
    """A resource that does something when it is posted to.

    Args:
        authorization: who may have it done.
        act: does it and answers; called with request and response once it is known that the sender may.
    """

    def __init__(self, authorization: Authorization, act: Act) -> None:
        self._authorization = authorization
        self._act = act

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Do it.

        Raises:
            NotAllowed: the sender may not.
        """
        self._authorization.check(_sender(req))
        self._act(req, resp)

    def on_options(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Refuse it, as every other method.

        Raises:
            MethodNotAllowed: always.
        """
        raise MethodNotAllowed(req.method, (("Allow", "POST"),))


def _sender(req: falcon.Request) -> Sender:
    return Sender(
        peer=req.env.get("REMOTE_ADDR", ""),
        authorization=req.get_header("Authorization"),
        host=req.get_header("Host"),
        origin=req.get_header("Origin"),
        fetch_site=req.get_header("Sec-Fetch-Site"),
        is_forwarded=any(req.get_header(name) is not None for name in FORWARDING_FIELDS),
    )
