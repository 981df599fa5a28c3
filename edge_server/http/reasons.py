"""Reasons: every refusal that a client can meet, with its status and its problem document.

Specification: RFC 9110 section 15 for statuses, RFC 9457 for the documents, RFC 6585
for 429 and 431. The documents are of type ``about:blank``, so their title is the
status's own phrase (RFC 9457 section 4.2.1), and `reason` tells refusals of one
status apart. Does no I/O.
"""

from __future__ import annotations

import json
from typing import NamedTuple

# RFC 9110 section 15 and RFC 6585; not those of http.HTTPStatus, which differ between Pythons.
_PHRASES = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

STATUS_LINES: dict[int, str] = {status: f"{status} {phrase}" for status, phrase in _PHRASES.items()}


class Reason(NamedTuple):
    """What a reason means on the wire.

    `retry_after_s` is the least value of the Retry-After field that must accompany
    it; None where there is no such field.
    """

    status: int
    title: str
    retry_after_s: int | None


def _reason(status: int) -> Reason:
    return Reason(status, _PHRASES[status], 1 if status in (429, 503) else None)


REASONS: dict[str, Reason] = {
    name: _reason(status)
    for status, names in (
        (400, ("bad_request", "decompress_cap", "ratio_cap")),
        (403, ("not_allowed",)),
        (404, ("not_found",)),
        (405, ("method",)),
        (406, ("not_acceptable",)),
        (408, ("slow_client",)),
        (412, ("precondition",)),
        (413, ("body_cap",)),
        (414, ("uri_cap",)),
        (416, ("invalid_range",)),
        (417, ("expectation",)),
        (429, ("rate_limit", "busy")),
        (431, ("header_cap",)),
        (500, ("internal",)),
        (501, ("not_implemented",)),
        (502, ("upstream_4xx", "upstream_5xx", "etag_invalid", "integrity")),
        (503, ("timeout", "draining", "amnesia", "fill_unavailable", "pack_io")),
        (505, ("http_version",)),
    )
    for name in names
}

_HEADS = {
    name: json.dumps(
        {"type": "about:blank", "title": reason.title, "status": reason.status, "reason": name},
        separators=(",", ":"),
    )[:-1]
    for name, reason in REASONS.items()
}


def problem(reason: str, corr_id: str) -> bytes:
    """Return the problem document of a refusal, to be sent as ``application/problem+json``.

    Args:
        reason: a key of REASONS.
        corr_id: the correlation id of the answer.

    Source: RFC 9457 section 3.
    """
    return f'{_HEADS[reason]},"corr_id":{json.dumps(corr_id)}}}'.encode("ascii")
