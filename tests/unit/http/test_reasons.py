"""Reasons: one status each, and problem documents that say no more than they should."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server import errors
from edge_server.http.reasons import REASONS, STATUS_LINES, problem

# What no code of Python answers: framing.c, sweeping.c.
OF_ADMISSION = {"rate_limit", "busy"}
OF_THE_GUARD = {
    "slow_client",
    "body_cap",
    "uri_cap",
    "header_cap",
    "expectation",
    "not_implemented",
    "http_version",
}


def rejections(base: type[errors.Rejection] = errors.Rejection) -> Iterator[type[errors.Rejection]]:
    yield base
    for subclass in base.__subclasses__():
        yield from rejections(subclass)


@pytest.mark.parametrize("rejection", list(rejections()), ids=lambda rejection: rejection.__name__)
def test_every_rejection_has_its_reason(rejection: type[errors.Rejection]) -> None:
    assert REASONS[rejection.reason].status == rejection.status


@pytest.mark.parametrize(
    ("status", "names"),
    [
        (400, "bad_request decompress_cap ratio_cap"),
        (403, "not_allowed"),
        (404, "not_found"),
        (405, "method"),
        (406, "not_acceptable"),
        (408, "slow_client"),
        (412, "precondition"),
        (413, "body_cap"),
        (414, "uri_cap"),
        (416, "invalid_range"),
        (417, "expectation"),
        (429, "rate_limit busy"),
        (431, "header_cap"),
        (500, "internal"),
        (501, "not_implemented"),
        (502, "upstream_4xx upstream_5xx etag_invalid integrity"),
        (503, "timeout draining amnesia fill_unavailable pack_io"),
        (505, "http_version"),
    ],
)
def test_a_status_has_these_reasons(status: int, names: str) -> None:
    assert {name for name, reason in REASONS.items() if reason.status == status} == set(names.split())


def test_429_and_503_always_say_when_to_retry() -> None:
    for reason in REASONS.values():
        assert (reason.retry_after_s is not None) == (reason.status in (429, 503))


@pytest.mark.parametrize("reason", list(REASONS))
def test_a_problem_document_has_five_members(reason: str) -> None:
    assert json.loads(problem(reason, "c-1")) == {
        "type": "about:blank",
        "title": STATUS_LINES[REASONS[reason].status].partition(" ")[2],
        "status": REASONS[reason].status,
        "reason": reason,
        "corr_id": "c-1",
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text())
def test_no_correlation_id_breaks_the_document(corr_id: str) -> None:
    document = problem("not_found", corr_id)
    assert document.isascii()
    assert json.loads(document)["corr_id"] == corr_id


def test_a_status_line_is_a_status_and_its_phrase() -> None:
    for status, line in STATUS_LINES.items():
        number, _, phrase = line.partition(" ")
        assert int(number) == status
        assert phrase
    assert STATUS_LINES[413] == "413 Content Too Large"  # RFC 9110 section 15.5.14
    assert STATUS_LINES[416] == "416 Range Not Satisfiable"  # section 15.5.17
    assert {reason.status for reason in REASONS.values()} <= STATUS_LINES.keys()


def test_the_manual_gives_each_reason_its_status() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "HTTP.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([45][0-9]{2}) \| `([a-z0-9_]+)` \|", manual, re.MULTILINE)
    ours = {rejection.reason for rejection in rejections() if rejection.__module__ == errors.__name__}
    assert {
        name for _, name in rows
    } == ours | OF_ADMISSION | OF_THE_GUARD  # the admin plane has refusals of its own
    for status, name in rows:
        assert REASONS[name].status == int(status)
