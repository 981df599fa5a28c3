"""The admin plane: metrics, health, readiness and status, and what an operator asks for.

Process      the sidecar's main thread; a Falcon app.
Writes       DRAIN_REQUEST and ASKED_NS in the sidecar's own row, which the supervisor acts on.

Every answer has Content-Length and Date and carries a correlation id; none is stored by caches, but for
files of the pages, which are asked for again; every refusal is a problem document of ``http/reasons.py``.
"""

from __future__ import annotations

import secrets
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import falcon

from edge_server.errors import BadRequest, InternalError, MethodNotAllowed, NotFound, Refused, Rejection
from edge_server.http.dates import DateClock
from edge_server.http.headers import NO_STORE, PROBLEM_MEDIA_TYPE, SECURITY_FIELDS, sane_corr_id
from edge_server.http.reasons import REASONS, STATUS_LINES, problem
from edge_server.observe.logs import log
from edge_server.observe.readiness import report
from edge_server.shm.scoreboard import Field, Row, Scoreboard
from edge_server.sidecar.acting import Acting
from edge_server.sidecar.aggregate import Exposition
from edge_server.sidecar.authorization import Authorization
from edge_server.sidecar.page_files import PageFiles
from edge_server.sidecar.page_routes import add_page_routes
from edge_server.sidecar.reading import Reading, as_json
from edge_server.sidecar.reloading import Reloading
from edge_server.sidecar.status import Status, StatusReader
from edge_server.sidecar.stored import Stored
from edge_server.sidecar.tiles import Tiles

CONFIRM_S = 1.0  # how long an answer waits for the supervisor to act
_POLL_S = 0.01

# RFC 9110 section 8.6: a 204 has no Content-Length, a 304 none that is not the representation's.
_WITHOUT_LENGTH = (STATUS_LINES[204], STATUS_LINES[304])

WsgiApp = Callable[..., Any]


class Drain:
    """Asks the supervisor to take the instance out of rotation, or back.

    Args:
        scoreboard: where the supervisor says that it has done so.
        row: the sidecar's own; the request is a word in it.
    """

    def __init__(self, scoreboard: Scoreboard, row: Row) -> None:
        self._scoreboard = scoreboard
        self._row = row

    def ask(self, is_wanted: bool) -> bool:
        """Ask, wait a moment, and return whether it has been done."""
        # A new word for each request: the supervisor acts when the word is not the one it knows.
        self._row.set(Field.DRAIN_REQUEST, time.monotonic_ns() & ~1 | is_wanted)
        deadline = time.monotonic() + CONFIRM_S
        while self._scoreboard.is_operator_drain != is_wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True


class Plane(NamedTuple):
    """What the admin plane shows and does."""

    scoreboard: Scoreboard
    exposition: Exposition
    status: StatusReader
    tiles: Tiles
    page_files: PageFiles
    packs: list[Status]
    drain: Drain
    reloading: Reloading
    authorization: Authorization
    stored: Stored | None  # None in offline mode


def make_app(plane: Plane) -> WsgiApp:
    """Return the WSGI app of the admin plane."""
    app = falcon.App(middleware=[_Common()])
    app.req_options.auto_parse_qs_csv = False  # a path may have a comma
    add_page_routes(app, plane.status, plane.tiles, plane.page_files)
    app.add_route("/metrics", Reading(lambda req, resp: _metrics(plane, req, resp)))
    app.add_route("/healthz", Reading(lambda req, resp: _health(resp)))
    app.add_route("/readyz", Reading(lambda req, resp: _readiness(plane, resp)))
    app.add_route("/api/status", Reading(lambda req, resp: _status(plane, req, resp)))
    app.add_route("/api/packs", Reading(lambda req, resp: as_json(resp, plane.packs)))
    app.add_route("/api/drain", Acting(plane.authorization, partial(_drain, plane, True)))
    app.add_route("/api/undrain", Acting(plane.authorization, partial(_drain, plane, False)))
    app.add_route("/api/reload", Acting(plane.authorization, partial(_reload, plane)))
    app.add_route("/api/warm", Acting(plane.authorization, partial(_warm, plane)))
    app.add_route("/api/purge", Acting(plane.authorization, partial(_purge, plane)))
    app.add_sink(_nothing_there, "/")
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(falcon.HTTPError, _on_falcon_error)
    app.add_error_handler(Rejection, _on_rejection)
    return app


class _Common:
    """What every answer gets."""

    def __init__(self) -> None:
        self._clock = DateClock()

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.corr_id = sane_corr_id(req.get_header("X-Corr-ID")) or secrets.token_hex(12)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if resp.get_header("Cache-Control") is None:
            resp.set_header(*NO_STORE)
        for name, value in SECURITY_FIELDS:
            resp.set_header(name, value)
        resp.set_header("Date", self._clock.now())
        resp.set_header("X-Corr-ID", req.context.corr_id)
        if resp.status not in _WITHOUT_LENGTH:
            resp.content_length = len(resp.data or b"")


def _drain(plane: Plane, is_wanted: bool, req: falcon.Request, resp: falcon.Response) -> None:
    """``/api/drain`` and ``/api/undrain``: 200 once it is done, 202 if it is still to come."""
    is_done = plane.drain.ask(is_wanted)
    log(
        "drain",
        route=req.path,
        method=req.method,
        wanted=is_wanted,
        done=is_done,
        corr_id=req.context.corr_id,
        peer_addr=req.remote_addr,
    )
    resp.status = STATUS_LINES[200 if is_done else 202]
    as_json(resp, {"draining": plane.scoreboard.is_operator_drain, "wanted": is_wanted})


def _reload(plane: Plane, req: falcon.Request, resp: falcon.Response) -> None:
    """``/api/reload``: 202 with the number above which a reload has heeded the request."""
    after = plane.reloading.ask()
    log(
        "reload",
        reason="asked for",
        route=req.path,
        method=req.method,
        corr_id=req.context.corr_id,
        peer_addr=req.remote_addr,
    )
    resp.status = STATUS_LINES[202]
    as_json(resp, {"after": after})


def _warm(plane: Plane, req: falcon.Request, resp: falcon.Response) -> None:
    """``/api/warm?path=...&path=...``: 200 once each path is settled; the guard discards bodies."""
    results = _stored(plane).warm(req.get_param_as_list("path") or [], req.context.corr_id)
    if results is None:
        resp.data = b""  # parked: what is answered now is never sent
        return
    log("live_fill", reason="warmed", paths=len(results), corr_id=req.context.corr_id)
    as_json(resp, {"results": results})


def _purge(plane: Plane, req: falcon.Request, resp: falcon.Response) -> None:
    """``/api/purge?path=...`` or ``?prefix=...``: 200 with the number of responses that were removed."""
    paths, prefixes = req.get_param_as_list("path") or [], req.get_param_as_list("prefix") or []
    if not paths and not prefixes:
        raise BadRequest("give a path or a prefix")
    purged = _stored(plane).purge(paths, prefixes)
    log("live_fill", reason="purged", purged=purged, corr_id=req.context.corr_id)
    as_json(resp, {"purged": purged})


def _stored(plane: Plane) -> Stored:
    if plane.stored is None:
        raise Refused("fill_unavailable", "offline mode fills nothing")
    return plane.stored


def _status(plane: Plane, req: falcon.Request, resp: falcon.Response) -> None:
    """``?history=N`` adds the points of the history after number N."""
    as_json(resp, plane.status.read(req.get_param_as_int("history", min_value=0)))


def _metrics(plane: Plane, req: falcon.Request, resp: falcon.Response) -> None:
    resp.data, resp.content_type = plane.exposition.render(req.get_header("Accept") or "")


def _health(resp: falcon.Response) -> None:
    resp.content_type = "text/plain; charset=utf-8"
    resp.data = b"ok\n"


def _readiness(plane: Plane, resp: falcon.Response) -> None:
    told = report(plane.scoreboard)
    resp.status = STATUS_LINES[told.status]
    for name, value in told.headers:
        resp.set_header(name, value)
    resp.data = told.body


def _nothing_there(req: falcon.Request, resp: falcon.Response, **params: object) -> None:
    raise NotFound


def _on_rejection(
    req: falcon.Request, resp: falcon.Response, error: Rejection, params: dict[str, Any]
) -> None:
    corr_id = req.context.corr_id
    resp.status = STATUS_LINES[REASONS[error.reason].status]
    for name, value in error.headers:
        resp.set_header(name, value)
    retry_after_s = REASONS[error.reason].retry_after_s
    if retry_after_s is not None:
        resp.set_header("Retry-After", str(retry_after_s))
    resp.set_header("X-Reason", error.reason)
    resp.content_type = PROBLEM_MEDIA_TYPE
    resp.data = problem(error.reason, corr_id)
    if req.method == "POST":
        log(
            "reject",
            "warning",
            route=str(req.uri_template or "other"),
            method=req.method,
            status=REASONS[error.reason].status,
            reason=error.reason,
            detail=str(error),
            corr_id=corr_id,
            peer_addr=req.remote_addr,
        )


def _on_falcon_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    """Say what Falcon refused in the words of this service."""
    refusal: type[Rejection] = MethodNotAllowed if error.status_code == 405 else BadRequest
    methods = dict(error.headers or {}).get("Allow", "").split(", ")
    allow = ", ".join(method for method in methods if method != "OPTIONS")
    _on_rejection(req, resp, refusal(error.title or "", (("Allow", allow),) if allow else ()), params)


def _on_defect(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    log(
        "defect",
        "error",
        route=str(req.uri_template or "other"),
        corr_id=req.context.corr_id,
        traceback="".join(traceback.format_exception(type(error), error, error.__traceback__)),
    )
    _on_rejection(req, resp, InternalError(), params)
