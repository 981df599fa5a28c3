"""The Falcon app of the asset plane: refusals, preflights, health, and whatever is rare.

Process      a worker; the hit path calls it with what it does not answer itself, and says
             in the environment why.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import falcon

from edge_server.errors import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PackUnreadable,
    Rejection,
)
from edge_server.http.cors import CorsPolicy
from edge_server.http.dates import DateClock
from edge_server.http.headers import ALLOW, ALLOWED_METHODS, NO_STORE, PROBLEM_MEDIA_TYPE, SECURITY_FIELDS
from edge_server.http.paths import ASSET_PREFIX
from edge_server.http.reasons import REASONS, STATUS_LINES, problem
from edge_server.observe.logs import AccessLog, log
from edge_server.observe.metrics import ASSETS, HEALTHZ, OTHER, READYZ
from edge_server.observe.readiness import report
from edge_server.observe.tally import Tally
from edge_server.shm.scoreboard import Scoreboard
from edge_server.worker.hitpath import CORR_ID, REJECTION, STARTED, WsgiApp

REASON = "svc_edge.reason"  # of a refusal, for counts and log


def make_app(
    *,
    scoreboard: Scoreboard,
    cors: CorsPolicy,
    clock: DateClock,
    tally: Tally,
    access_log: AccessLog,
) -> WsgiApp:
    """Return the app."""
    app = falcon.App(middleware=[_Common(cors, clock, tally, access_log)])
    app.req_options.strip_url_path_trailing_slash = False
    app.add_route("/healthz", _Health())
    app.add_route("/readyz", _Readiness(scoreboard))
    app.add_sink(_nothing_there, "/")
    app.add_sink(_Assets(cors).on_request, ASSET_PREFIX)  # the last one added is tried first
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(falcon.HTTPError, _on_falcon_error)
    app.add_error_handler(Rejection, _on_rejection)
    return app


class _Common:
    """What every answer of the app gets: fields, counts, a line in the log."""

    def __init__(self, cors: CorsPolicy, clock: DateClock, tally: Tally, access_log: AccessLog) -> None:
        self._cors = cors
        self._clock = clock
        self._tally = tally
        self._access_log = access_log

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raise what the hit path declined with, and refuse methods that nothing here takes."""
        rejection = req.env[REJECTION]
        if rejection is not None:
            raise rejection
        if req.method not in ("GET", "HEAD", "OPTIONS"):
            raise MethodNotAllowed(req.method, (ALLOW,))

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Complete the fields, then count and log the answer."""
        corr_id = req.env[CORR_ID]
        for name, value in SECURITY_FIELDS:
            resp.set_header(name, value)
        resp.set_header("Date", self._clock.now())
        resp.set_header("X-Corr-ID", corr_id)
        route = _route(req.path)
        if route == ASSETS and req.method != "OPTIONS":
            for name, value in self._cors.headers_for(req.get_header("Origin")):
                resp.append_header(name, value)
        if req.method == "HEAD" and resp.data is not None:
            resp.content_length = len(resp.data)
        status = resp.status_code
        reason = req.env.get(REASON, "")
        sent = 0 if req.method == "HEAD" or resp.data is None else len(resp.data)
        latency_s = monotonic() - req.env[STARTED]
        self._tally.record(route, req.method, status, latency_s, sent, reason=reason)
        if self._access_log.wants(status):
            self._access_log.request(
                route=route,
                method=req.method,
                status=status,
                corr_id=corr_id,
                peer_addr=req.env.get("REMOTE_ADDR", ""),
                latency_s=latency_s,
                bytes_out=sent,
                reason=reason,
            )


class _Health:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header(*NO_STORE)
        resp.data = b"ok\n"

    on_head = on_get


class _Readiness:
    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        told = report(self._scoreboard)
        resp.status = STATUS_LINES[told.status]
        resp.content_type = "application/json"
        for name, value in told.headers:
            resp.set_header(name, value)
        resp.data = told.body

    on_head = on_get


class _Assets:
    """OPTIONS; GET and HEAD come here only with a rejection, which is raised before."""

    def __init__(self, cors: CorsPolicy) -> None:
        self._cors = cors

    def on_request(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        if req.method != "OPTIONS":
            raise NotFound
        resp.status = falcon.HTTP_204
        resp.set_header("Allow", ALLOWED_METHODS)
        granted = self._cors.preflight(
            req.get_header("Origin"),
            req.get_header("Access-Control-Request-Method"),
            req.get_header("Access-Control-Request-Headers"),
        )
        for name, value in granted or ():
            resp.append_header(name, value)


def _nothing_there(req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
    raise NotFound


def _route(path: str) -> str:
    if path.startswith(ASSET_PREFIX):
        return ASSETS
    return path if path in (HEALTHZ, READYZ) else OTHER


def _on_rejection(req: falcon.Request, resp: falcon.Response, rejection: Rejection, params: object) -> None:
    status, _, retry_after_s = REASONS[rejection.reason]
    resp.status = STATUS_LINES[status]
    resp.content_type = PROBLEM_MEDIA_TYPE
    resp.data = problem(rejection.reason, req.env[CORR_ID])
    resp.set_header("X-Reason", rejection.reason)
    resp.set_header(*NO_STORE)
    if retry_after_s is not None:
        resp.set_header("Retry-After", str(retry_after_s))
    for name, value in rejection.headers:
        resp.append_header(name, value)
    req.env[REASON] = rejection.reason
    if isinstance(rejection, PackUnreadable):
        log("reject", "error", reason=rejection.reason, corr_id=req.env[CORR_ID], detail=rejection.what)
    elif isinstance(rejection, InternalError):
        log("defect", "error", reason=rejection.reason, corr_id=req.env[CORR_ID], detail=str(rejection))


def _on_falcon_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object
) -> None:
    status = error.status_code
    if status == 405:
        _on_rejection(req, resp, MethodNotAllowed(req.method, (ALLOW,)), params)
    elif status == 404:
        _on_rejection(req, resp, NotFound(), params)
    else:
        _on_rejection(req, resp, BadRequest(str(error)), params)


def _on_defect(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
    _on_rejection(req, resp, InternalError(repr(error)), params)
