"""Where an instance's admin plane is, as a command line says it, and asking it something.

Commands that look at a running instance, or have it do something, share this; one connection a question.
"""

from __future__ import annotations

import http
import http.client
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edge_server.config.addresses import Address, parse_address
from edge_server.errors import ResourceError

if TYPE_CHECKING:
    from edge_server.observe.scrapes import Samples

DEFAULT = "127.0.0.1:9909"

_TIMEOUT_S = 5
_ALIVE_TIMEOUT_S = 2  # below the 3 s that the image's HEALTHCHECK has in all
_MAX_ANSWER_BYTES = 64 << 20  # a million packs' worth of status; what is larger is no instance


def parse_admin(value: str) -> Address:
    """Return the address of ``HOST:PORT`` or ``http://HOST:PORT``.

    An address of every interface is reached over the loopback.

    Raises:
        click.BadParameter: not of that form, or port 0, which nobody can be reached at.
    """
    try:
        address = parse_address(value.strip().removeprefix("http://").rstrip("/"))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}; expected http://HOST:PORT") from error
    if not address.port:
        raise click.BadParameter(f"{value!r}: give the port of the ready line, not 0")
    return address.from_here


def admin_option(function: Any) -> Any:
    """Give a command ``--admin``, which it is called with as an `Address`.

    Without it the variable that tells an instance where to listen tells where it listens.
    """
    return click.option(
        "--admin",
        callback=lambda ctx, param, value: parse_admin(value),
        default=DEFAULT,
        show_default=True,
        envvar="SVC_EDGE_METRICS_ADDR",
        metavar="URL",
        help="The instance's admin plane (metrics_addr).",
    )(function)


class Answer(NamedTuple):
    """What the admin plane has answered; `reason` is that of a refusal."""

    status: int
    reason: str
    body: bytes


def ask(
    admin: Address,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = _TIMEOUT_S,
) -> Answer:
    """Return the answer to one request without a body.

    Raises:
        ResourceError: nobody answers there, or not in HTTP.
    """
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=timeout_s)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.getheader("X-Reason", ""), response.read(_MAX_ANSWER_BYTES))
    except (OSError, http.client.HTTPException) as error:
        raise ResourceError(f"no instance answers at {admin}: {error}") from error
    finally:
        connection.close()


def require_alive(admin: Address) -> None:
    """Return if ``/healthz`` answers 200: for probes, as it costs the instance next to nothing.

    Raises:
        ResourceError: it does not.
    """
    status = ask(admin, "/healthz", timeout_s=_ALIVE_TIMEOUT_S).status
    if status != http.HTTPStatus.OK:
        raise ResourceError(f"{admin} is not well: /healthz answers {status}")


def read_status(admin: Address) -> dict[str, Any]:
    """Return what ``/api/status`` answers.

    Raises:
        ResourceError: nobody listens there, or it is not an instance of this service.
    """
    try:
        document = json.loads(ask(admin, "/api/status").body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("service") != "svc-edge":
        raise ResourceError(f"what answers at {admin} is not svc-edge")
    return document


def read_metrics(admin: Address) -> Samples:
    """Return what ``/metrics`` answers.

    Raises:
        ResourceError: nobody listens there, or what answers is no scrape.
    """
    from edge_server.observe.scrapes import parse

    try:
        return parse(ask(admin, "/metrics").body.decode())
    except ValueError as error:
        raise ResourceError(f"what answers at {admin} is not svc-edge") from error
