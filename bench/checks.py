"""What must hold before a figure may be printed.

A sample of answers is compared byte by byte with the world's files; a counted run holds
every status and length to the case; a timed run must have no error and about as many
bytes on the wire as its requests account for.
"""

from __future__ import annotations

from bench import BenchError
from bench.cases import Case, Request
from bench.client import Answer, Connection
from bench.load import CONNECTIONS, Summary

SAMPLES = 64
COMMON_FIELDS = ("etag", "cache-control", "x-corr-id")
BODY_FIELDS = ("x-content-type-options", "referrer-policy", "content-type")
# Heads differ by a few digits of lengths and offsets; mixed bodies by how far the list was walked.
HEAD_SLACK_BYTES = 32
MIXED_SLACK_RATIO = 0.05


def prepare(port: int, case: Case) -> tuple[Request, ...]:
    """Return the requests as this server must be sent them: with its own ETag where one is asked for."""
    if not case.is_revalidation:
        return case.requests
    with Connection(port) as connection:
        etags = {r.path: _etag(connection.get(r.path), r.path) for r in case.requests}
    return tuple(r._replace(fields=(*r.fields, ("If-None-Match", etags[r.path]))) for r in case.requests)


def check_sample(name: str, port: int, case: Case, requests: tuple[Request, ...]) -> float:
    """Compare some answers with the files and return the mean bytes of a response head.

    Raises:
        BenchError: naming server, path and what is wrong.
    """
    step = max(1, len(requests) // SAMPLES)
    heads = []
    with Connection(port) as connection:
        for request in requests[::step]:
            answer = connection.get(request.path, request.fields)
            found = problem(case, request, answer)
            if found:
                raise BenchError(f"{name}, {case.name}, {request.path} {request.fields}: {found}")
            heads.append(answer.head_bytes)
    return sum(heads) / len(heads)


def check_counted(name: str, case: Case, summary: Summary) -> None:
    """Hold every answer of a counted run to the case's status and length."""
    check_errors(name, case, summary)
    statuses = set(summary.statuses)
    if statuses != {str(case.status)}:
        raise BenchError(f"{name}, {case.name}: statuses {summary.statuses}, only {case.status} is right")
    if summary.wrong_bytes:
        raise BenchError(f"{name}, {case.name}: {summary.wrong_bytes} bodies of a wrong length")


def check_timed(name: str, case: Case, summary: Summary, head_bytes: float) -> None:
    """Hold the bytes of a timed run to what its requests account for."""
    check_errors(name, case, summary)
    expected = summary.requests * (head_bytes + case.mean_body_bytes)
    slack = summary.requests * HEAD_SLACK_BYTES + CONNECTIONS * (head_bytes + case.max_body_bytes)
    if case.body_bytes is None:
        slack += MIXED_SLACK_RATIO * expected
    if abs(summary.bytes_in - expected) > slack:
        raise BenchError(
            f"{name}, {case.name}: {summary.bytes_in:,} bytes came for {summary.requests:,} requests, "
            f"{expected:,.0f} +- {slack:,.0f} are right"
        )


def check_errors(name: str, case: Case, summary: Summary) -> None:
    """Refuse a run with any error, or without requests."""
    failed = {kind: times for kind, times in summary.errors.items() if times}
    if failed or not summary.requests:
        raise BenchError(f"{name}, {case.name}: {summary.requests} requests, errors {failed}")


def problem(case: Case, request: Request, answer: Answer) -> str:
    """Return what is wrong with an answer, or nothing."""
    if answer.status != case.status:
        return f"status {answer.status}, {case.status} is right"
    wanted = COMMON_FIELDS if case.is_revalidation else COMMON_FIELDS + BODY_FIELDS
    missing = [field for field in wanted if field not in answer.fields]
    if missing:
        return f"without {', '.join(missing)}"
    if answer.fields.get("content-encoding", "") != case.coding:
        return f"Content-Encoding is {answer.fields.get('content-encoding')}"
    if case.status == 206 and answer.fields.get("content-range") != _content_range(request):
        return f"Content-Range is {answer.fields.get('content-range')}"
    body = b"" if case.is_revalidation else request.expected.read()
    if answer.body != body:
        return f"{len(answer.body)} bytes of body that are not the {len(body)} bytes of the file"
    return ""


def _etag(answer: Answer, path: str) -> str:
    if answer.status != 200 or "etag" not in answer.fields:
        raise BenchError(f"{path}: status {answer.status} without the ETag that a revalidation needs")
    return answer.fields["etag"]


def _content_range(request: Request) -> str:
    path, start, stop = request.expected
    return f"bytes {start}-{stop - 1}/{path.stat().st_size}"
