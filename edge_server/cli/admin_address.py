"""Where an instance's admin plane is, as a command line says it, and asking it one question.

Commands that look at a running instance share this. Reads only; one connection a question.
"""

from __future__ import annotations

import http
import http.client
import json
from typing import TYPE_CHECKING, Any

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
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return Address(here, address.port)


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


def require_alive(admin: Address) -> None:
    """Return if ``/healthz`` answers 200: for probes, as it costs the instance next to nothing.

    Raises:
        ResourceError: it does not.
    """
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=_ALIVE_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise ResourceError(f"no instance answers at {admin}: {error}") from error
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise ResourceError(f"{admin} is not well: /healthz answers {status}")


def read_status(admin: Address) -> dict[str, Any]:
    """Return what ``/api/status`` answers.

    Raises:
        ResourceError: nobody listens there, or it is not an instance of this service.
    """
    try:
        document = json.loads(_read(admin, "/api/status"))
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
        return parse(_read(admin, "/metrics").decode())
    except ValueError as error:
        raise ResourceError(f"what answers at {admin} is not svc-edge") from error


def _read(admin: Address, path: str) -> bytes:
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise ResourceError(f"no instance answers at {admin}: {error}") from error
    finally:
        connection.close()
