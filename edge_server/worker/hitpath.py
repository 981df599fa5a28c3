"""The hit path: one plain WSGI callable in front of the Falcon app.

Process      a worker, called by bjoern for every request.
Owns         the cache of prepared answers.
Budget       at most 1.3 times the CPU that nginx needs for the same 4 KiB answer, where it is made
             anew; repeated ones have goals of their own. ``make bench`` measures both.

What admission refuses (worker/admission.py) is answered here and at once, for about what a small hit costs.
Most hits do not even come here: what was answered once is repeated by the guard (worker/repeats.py).
It answers GET and HEAD under ``/edge/assets/`` whose entry is known; in live mode it parks the others until
their origin has been asked (worker/live.py). Everything else, refusals included, goes to the Falcon app,
which finds the Rejection in the environment.

Source: RFC 9110 sections 13.2.2 (order of preconditions) and 14.2 (Range).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from secrets import token_hex
from time import monotonic
from typing import Any

from edge_server.errors import Cold, InternalError, Miss, PreconditionFailed, Rejection, Unhashed
from edge_server.guard import LATE, REPLAY, arrived, may_wait, pressure, remember, send_fields
from edge_server.http.cors import CorsPolicy
from edge_server.http.dates import DateClock
from edge_server.http.headers import sane_corr_id
from edge_server.http.multipart import plan
from edge_server.http.paths import ASSET_PREFIX
from edge_server.http.preconditions import evaluate, if_range_holds
from edge_server.http.ranges import content_range, parse_range, parse_ranges
from edge_server.http.reasons import STATUS_LINES
from edge_server.observe.logs import AccessLog
from edge_server.observe.metrics import ASSETS
from edge_server.observe.tally import FAST_S, Outcome, Tally
from edge_server.worker.admission import EXEMPT, Admission
from edge_server.worker.assets import Assets
from edge_server.worker.block_answers import BlockSource
from edge_server.worker.bodies import Stream
from edge_server.worker.cache import TwoAgeCache
from edge_server.worker.errands import Errands
from edge_server.worker.files import WINDOW_BYTES
from edge_server.worker.live import Live, LiveAssets
from edge_server.worker.live_answers import REPEATED_S
from edge_server.worker.prepared import FETCHED, FILLED, PACK, Answer, EmptyTile, Prepared
from edge_server.worker.refusals import Refusals
from edge_server.worker.repeats import KINDS

StartResponse = Callable[..., Any]
Body = bytes | Iterable[bytes]  # bjoern sends a bytes object as it is
WsgiApp = Callable[[dict[str, Any], StartResponse], Body]

REJECTION = "svc_edge.rejection"  # where the Falcon app finds why the hit path declined
CORR_ID = "svc_edge.corr_id"
STARTED = "svc_edge.started"

_OK, _PARTIAL, _NOT_MODIFIED, _NO_CONTENT = (STATUS_LINES[status] for status in (200, 206, 304, 204))

MISS = "miss"  # of what was fetched for its request
_PARKED = [("Content-Length", "0")]  # of an answer that the guard swallows


class HitPath:
    """State of the hit path that outlives a request: the cache of prepared answers."""

    __slots__ = ("cache",)

    def __init__(self, capacity: int) -> None:
        self.cache: TwoAgeCache[Answer] = TwoAgeCache(capacity)


def bind_hit_path(
    state: HitPath,
    assets: Assets | LiveAssets,
    app: WsgiApp,
    *,
    tally: Tally,
    access_log: AccessLog,
    new_corr_id: Callable[[], str],
    clock: DateClock,
    cors: CorsPolicy | None,
    generation: memoryview,
    admission: Admission,
    refusals: Refusals,
    may_repeat: bool,
    errands: Errands,
    live: Live | None,
    enable_multi_range: bool,
    empty_tile_lines: bytes,
) -> WsgiApp:
    """Return the callable. PERF: ``make bench``; one flat function, its names bound once.

    Args:
        state: what outlives a request.
        assets: prepares what the cache does not have.
        app: the Falcon app.
        cors: None where no origin is allowed.
        generation: one u64 in shared memory; the cache is dropped when it changes.
        admission: whether a request is taken up at all.
        refusals: answers what is not.
        may_repeat: whether the guard may give an answer again to the same bytes, without asking here.
        errands: where answers wait for a disk or for a digest.
        live: where misses wait for their origin; None in offline mode.
        empty_tile_lines: fields, for guard.send_fields, of the 204 for a tile that an archive does not have.
    """
    young_get = state.cache.young.get
    get_old = state.cache.get_old
    now = clock.now
    wants_line = access_log.wants
    judge, limits_rate = admission.judge, admission.limits_rate
    refuse = refusals.refuse
    outcomes_of = {
        kind: {
            (method, line): tally.outcome(ASSETS, method, int(line[:3]), kind)
            for method in ("GET", "HEAD")
            for line in (_OK, _PARTIAL, _NOT_MODIFIED)
        }
        for kind in (PACK, FILLED, FETCHED)
    }
    of_packs, of_filled = outcomes_of[PACK], outcomes_of[FILLED]
    get_ok = of_packs["GET", _OK]
    seen_generation = generation[0]

    def look_up(path: str) -> Answer | EmptyTile:
        found = get_old(path)
        if found is not None:
            return found
        made = assets.prepare(path)
        if not isinstance(made, EmptyTile):
            state.cache.put(path, made)
        return made

    def hit_path(environ: dict[str, Any], start_response: StartResponse) -> Body:
        nonlocal seen_generation
        started = arrived()
        corr_id = sane_corr_id(environ["HTTP_X_CORR_ID"]) if "HTTP_X_CORR_ID" in environ else None
        if corr_id is None:
            corr_id = new_corr_id()
        method = environ["REQUEST_METHOD"]
        path = environ.get("PATH_INFO", "")
        found: Answer | EmptyTile | None = None
        if ((pressed := pressure()) or limits_rate) and path not in EXEMPT:
            if pressed & LATE and must_wait_anyway(method, path):
                pressed &= ~LATE
            reason = judge(pressed)
            if reason:
                return refuse(environ, start_response, started, corr_id, reason)
            if pressed & REPLAY:
                found, parked_as = replayed(path)
                corr_id = parked_as or corr_id
        if method not in ("GET", "HEAD") or not path.startswith(ASSET_PREFIX):
            return decline(environ, start_response, started, corr_id, None)
        if generation[0] != seen_generation:
            seen_generation = generation[0]
            state.cache.clear()
        try:
            found = found or young_get(path) or look_up(path)
            outcomes = of_packs
            outcome = get_ok
            if not isinstance(found, Prepared):
                if isinstance(found, EmptyTile):
                    return empty_tile(environ, start_response, started, corr_id)
                if found.kind is not PACK:
                    outcomes = outcomes_of[found.kind]
                    outcome = outcomes["GET", _OK]
                found = found.pick(environ)
            source, length, etag, modified_s, media_type, content_length, lines, not_modified = found
            status = _OK
            if (
                "HTTP_IF_NONE_MATCH" in environ
                or "HTTP_IF_MATCH" in environ
                or "HTTP_IF_MODIFIED_SINCE" in environ
                or "HTTP_IF_UNMODIFIED_SINCE" in environ
            ):
                verdict = evaluate(
                    etag,
                    modified_s,
                    if_match=environ.get("HTTP_IF_MATCH"),
                    if_unmodified_since=environ.get("HTTP_IF_UNMODIFIED_SINCE"),
                    if_none_match=environ.get("HTTP_IF_NONE_MATCH"),
                    if_modified_since=environ.get("HTTP_IF_MODIFIED_SINCE"),
                )
                if verdict == 304:
                    status = _NOT_MODIFIED
                elif verdict == 412:
                    raise PreconditionFailed
            sent = 0
            if status is _NOT_MODIFIED:
                lines = not_modified
                fields = [("Date", now()), ("X-Corr-ID", corr_id)]
                body: Body = b""
            elif method == "HEAD":
                source.check()
                fields = [content_length, ("Date", now()), ("X-Corr-ID", corr_id)]
                body = b""
            else:
                pieces = None
                if "HTTP_RANGE" in environ and (
                    "HTTP_IF_RANGE" not in environ or if_range_holds(environ["HTTP_IF_RANGE"], etag)
                ):
                    if enable_multi_range:
                        pieces = parse_ranges(environ["HTTP_RANGE"], length)
                    elif (span := parse_range(environ["HTTP_RANGE"], length)) is not None:
                        pieces = [span]
                if pieces is None:
                    sent = length
                    body = source.send(0, length)
                    fields = [content_length, ("Date", now()), ("X-Corr-ID", corr_id)]
                else:
                    status = _PARTIAL
                    fields = [("Date", now()), ("X-Corr-ID", corr_id)]
                    if len(pieces) == 1:
                        start, stop = pieces[0]
                        sent = stop - start
                        fields += (
                            ("Content-Length", str(sent)),
                            ("Content-Range", content_range(start, stop, length)),
                        )
                        if isinstance(source, BlockSource):
                            whole = [(b"", start, stop)]
                            body = stream(source, whole, b"", started, outcomes["GET", status])
                        else:
                            body = source.send(start, stop)
                    else:
                        parts = plan(pieces, length, media_type, token_hex(12))
                        sent = parts.length
                        lines = lines[lines.index(b"\r\n", 2) :]  # without their Content-Type
                        fields += (("Content-Type", parts.content_type), ("Content-Length", str(sent)))
                        body = stream(source, parts.pieces, parts.closing, started, outcomes["GET", status])
        except Miss as miss:
            assert live is not None
            refused = live.wait(environ, miss, started, corr_id)
            if refused is not None:
                return decline(environ, start_response, started, corr_id, refused)
            start_response(_OK, _PARKED)
            return b""
        except (Cold, Unhashed) as slow:
            try:
                refused = errands.wait(slow, started, corr_id)
            except Rejection as rejection:
                refused = rejection
            if refused is not None:
                return decline(environ, start_response, started, corr_id, refused)
            start_response(_OK, _PARKED)
            return b""
        except Rejection as rejection:
            return decline(environ, start_response, started, corr_id, rejection)
        except Exception as error:  # nothing may reach bjoern, which would answer without length or reason
            return decline(environ, start_response, started, corr_id, InternalError(repr(error)))
        if cors is not None:
            fields += cors.headers_for(environ.get("HTTP_ORIGIN"))
        send_fields(lines)
        start_response(status, fields)
        latency_s = monotonic() - started
        if type(body) is bytes:
            if status is not _OK or method == "HEAD":
                outcome = outcomes[method, status]
            if latency_s <= FAST_S:
                outcome.fast += 1
            else:
                outcome.slow(latency_s)
            outcome.latency_s += latency_s
            outcome.bytes_out += sent
            if (
                may_repeat
                and method == "GET"
                and "HTTP_X_CORR_ID" not in environ
                and "HTTP_TRACEPARENT" not in environ  # no two are the same
            ):
                if outcomes is of_packs:
                    remember(KINDS[PACK, int(status[:3])], etag, source.guarded, 0)
                elif outcomes is of_filled and live is not None and live.may_repeat():
                    remember(KINDS[FILLED, int(status[:3])], etag, source.guarded, REPEATED_S)
        if wants_line(int(status[:3])):
            access_log.request(
                route=ASSETS,
                method=method,
                status=int(status[:3]),
                corr_id=corr_id,
                peer_addr=environ.get("REMOTE_ADDR", ""),
                latency_s=latency_s,
                bytes_out=sent,
                etag=etag,
                cache=PACK if outcomes is of_packs else FILLED if outcomes is of_filled else MISS,
            )
        return body

    def must_wait_anyway(method: str, path: str) -> bool:
        is_asset = method in ("GET", "HEAD") and path.startswith(ASSET_PREFIX)
        return is_asset and isinstance(assets, LiveAssets) and assets.is_absent(path)

    def replayed(path: str) -> tuple[Answer | None, str | None]:
        parked_as = errands.replayed()
        if parked_as is not None or live is None:
            return None, parked_as
        may_wait()  # what it has waited for may be for it alone, and is in memory almost certainly
        return live.replayed(path)

    def stream(source: Any, pieces: Any, closing: bytes, started: float, outcome: Outcome) -> Stream:
        left = WINDOW_BYTES  # what follows is read when its turn comes, whatever that takes
        for _, start, stop in pieces:
            source.need(start, min(stop, start + left))
            left = max(0, left - (stop - start))

        def on_close(sent: int) -> None:
            latency_s = monotonic() - started
            if latency_s <= FAST_S:
                outcome.fast += 1
            else:
                outcome.slow(latency_s)
            outcome.latency_s += latency_s
            outcome.bytes_out += sent

        return Stream(source, pieces, closing, on_close)

    def empty_tile(
        environ: dict[str, Any], start_response: StartResponse, started: float, corr_id: str
    ) -> Body:
        fields = [("Date", now()), ("X-Corr-ID", corr_id)]
        if cors is not None:
            fields += cors.headers_for(environ.get("HTTP_ORIGIN"))
        send_fields(empty_tile_lines)
        start_response(_NO_CONTENT, fields)
        method = environ["REQUEST_METHOD"]
        latency_s = monotonic() - started
        tally.record(ASSETS, method, 204, latency_s, hit="pack")
        is_its_own = "HTTP_X_CORR_ID" in environ or "HTTP_TRACEPARENT" in environ
        if may_repeat and method == "GET" and not is_its_own:
            remember(KINDS[PACK, 204], "", None, 0)
        if wants_line(204):
            access_log.request(
                route=ASSETS,
                method=method,
                status=204,
                corr_id=corr_id,
                peer_addr=environ.get("REMOTE_ADDR", ""),
                latency_s=latency_s,
                bytes_out=0,
                cache=PACK,
            )
        return b""

    def decline(
        environ: dict[str, Any],
        start_response: StartResponse,
        started: float,
        corr_id: str,
        rejection: Rejection | None,
    ) -> Body:
        environ[STARTED] = started
        environ[CORR_ID] = corr_id
        environ[REJECTION] = rejection
        return app(environ, start_response)

    return hit_path
