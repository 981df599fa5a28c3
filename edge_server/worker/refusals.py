"""Refusals by admission: a whole answer that costs no more than a small hit, counted, and told in bounds.

Process      a worker. The hit path calls `refuse` instead of the Falcon app, whose refusals look
             the same and cost several times as much.
Memory       a few counts; the fields of an answer are prepared once.

Every refusal is counted. Of those between two ticks the first LINES_A_TICK have a line each in the
log, the others one together, so that a flood of refusals is no flood of log lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from edge_server.guard import header_lines, send_fields
from edge_server.http.cors import CorsPolicy
from edge_server.http.dates import DateClock
from edge_server.http.headers import NO_STORE, PROBLEM_MEDIA_TYPE, SECURITY_FIELDS
from edge_server.http.paths import ASSET_PREFIX
from edge_server.http.reasons import REASONS, STATUS_LINES, problem
from edge_server.observe.logs import AccessLog
from edge_server.observe.metrics import ASSETS, OTHER, metrics
from edge_server.observe.tally import Tally
from edge_server.worker.admission import BUSY, RATE_LIMIT

LINES_A_TICK = 16
ENDPOINT = "assets"  # of busy_rejections_total

_END = b'"}'  # of a problem document, behind the correlation id


class Refusals:
    """Answers, counts and tells what one worker refuses.

    Args:
        cors: None where no origin is allowed.

    Attributes:
        busy: requests refused as busy since the process began.
    """

    def __init__(
        self, *, tally: Tally, access_log: AccessLog, clock: DateClock, cors: CorsPolicy | None
    ) -> None:
        self.busy = 0
        self._tally = tally
        self._access_log = access_log
        self._clock = clock
        self._cors = cors
        self._lines = {reason: _lines(reason) for reason in (BUSY, RATE_LIMIT)}
        self._heads = {reason: problem(reason, "").removesuffix(_END) for reason in (BUSY, RATE_LIMIT)}
        self._told = 0  # since the last tick
        self._untold: dict[str, int] = {}
        self._folded = 0

    def refuse(
        self,
        environ: Mapping[str, Any],
        start_response: Callable[..., Any],
        started: float,
        corr_id: str,
        reason: str,
    ) -> bytes:
        """Answer the current request with the status of `reason`; return the body."""
        status = REASONS[reason].status
        body = self._heads[reason] + corr_id.encode("ascii") + _END  # PERF: its letters need no escaping
        fields = [("Content-Length", str(len(body))), ("Date", self._clock.now()), ("X-Corr-ID", corr_id)]
        method = environ["REQUEST_METHOD"]
        route = ASSETS if environ.get("PATH_INFO", "").startswith(ASSET_PREFIX) else OTHER
        if self._cors is not None and route is ASSETS and method != "OPTIONS":
            fields += self._cors.headers_for(environ.get("HTTP_ORIGIN"))
        send_fields(self._lines[reason])
        start_response(STATUS_LINES[status], fields)
        if method == "HEAD":
            body = b""
        self.busy += reason is BUSY
        self._record(environ, route, method, status, started, corr_id, reason, len(body))
        return body

    def _record(
        self,
        environ: Mapping[str, Any],
        route: str,
        method: str,
        status: int,
        started: float,
        corr_id: str,
        reason: str,
        sent: int,
    ) -> None:
        latency_s = monotonic() - started
        self._tally.record(route, method, status, latency_s, sent, reason=reason)
        if self._told >= LINES_A_TICK:
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._told += 1
        self._access_log.request(
            route=route,
            method=method,
            status=status,
            corr_id=corr_id,
            peer_addr=environ.get("REMOTE_ADDR", ""),
            latency_s=latency_s,
            bytes_out=sent,
            reason=reason,
        )

    def fold(self) -> None:
        """Tell together what had no line of its own, and write the counts through; called at each tick."""
        untold, self._untold, self._told = self._untold, {}, 0
        for reason, count in untold.items():
            self._access_log.more(REASONS[reason].status, reason, count)
        grown, self._folded = self.busy - self._folded, self.busy
        if grown:
            metrics().busy_rejections_total.labels(ENDPOINT).inc(grown)


def _lines(reason: str) -> bytes:
    """Return what every refusal for a reason says: the fields that the Falcon app would set."""
    retry_after = str(REASONS[reason].retry_after_s)
    return header_lines(
        [
            ("Content-Type", PROBLEM_MEDIA_TYPE),
            ("X-Reason", reason),
            ("Retry-After", retry_after),
            NO_STORE,
            *SECURITY_FIELDS,
        ]
    )
