"""What the guard refuses is counted and logged like any other answer."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.raw import HELLO, HOST, converse, get, head, post
from tests.scrapes import counts, grown, sample
from tests.servers import Server, eventually


class Row(NamedTuple):
    data: bytes
    status: int
    reason: str


ROWS = {
    "bad_request": Row(get(HELLO, "X : y"), 400, "bad_request"),
    "no Host": Row(head(f"GET {HELLO} HTTP/1.1"), 400, "bad_request"),
    "uri_cap": Row(get("/" + "a" * 9000), 414, "uri_cap"),
    "header_cap": Row(get(HELLO, "X: " + "y" * 17000), 431, "header_cap"),
    "body_cap": Row(post("Content-Length: 99999999"), 413, "body_cap"),
    "chunked body_cap": Row(post("Transfer-Encoding: chunked", body=b"fffffff\r\n"), 413, "body_cap"),
    "expectation": Row(get(HELLO, "Expect: more"), 417, "expectation"),
    "not_implemented": Row(post("Transfer-Encoding: gzip"), 501, "not_implemented"),
    "http_version": Row(head(f"GET {HELLO} HTTP/2.0", HOST), 505, "http_version"),
    "method": Row(head(f"BREW {HELLO} HTTP/1.1", HOST), 405, "method"),
}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


@rows
def test_a_refusal_is_counted(server: Server, row: Row) -> None:
    before = counts(server)
    rejected = sample("rejected_total", reason=row.reason)
    converse(server.assets, row.data, is_finished=False)
    changed = eventually(lambda: (now := grown(before, counts(server))).get(rejected) and now)
    requests = {
        dict(labels)["status"]: count
        for (name, labels), count in changed.items()
        if name == "http_requests_total" and dict(labels).get("route") != "admin"
    }
    assert changed[rejected] == 1
    assert requests.get(str(row.status)) == 1


@rows
def test_a_refusal_is_logged(server: Server, row: Row) -> None:
    (answer,) = converse(server.assets, row.data, is_finished=False)
    (line,) = eventually(
        lambda: [line for line in server.events("reject") if line.get("corr_id") == answer["X-Corr-ID"]]
    )
    assert (line["status"], line["reason"], line["peer_addr"]) == (row.status, row.reason, "127.0.0.1")
    assert 0 <= line["latency_ms"] < 5000
    assert line["slot"] in (0, 1)
    assert line["pid"] in server.workers().values()


def test_a_refusal_is_logged_with_the_clients_corr_id(server: Server) -> None:
    (answer,) = converse(server.assets, get(HELLO, "X-Corr-ID: seen-7", "Expect: more"), is_finished=False)
    assert answer["X-Corr-ID"] == "seen-7"
    eventually(lambda: [line for line in server.events("reject") if line.get("corr_id") == "seen-7"])


def test_nothing_that_was_sent_is_logged_beside_the_corr_id(server: Server) -> None:
    secrets = ["s3cr3t-target", "s3cr3t-name", "s3cr3t-value"]
    for data in (
        head("GET /s3cr3t-target HTTP/1.2", HOST),
        get(HELLO, "s3cr3t-name : y"),
        get(HELLO, "Expect: s3cr3t-value", "X-Corr-ID: s3cr3t-value;"),
    ):
        (answer,) = converse(server.assets, data, is_finished=False)
        corr_id = answer["X-Corr-ID"]
        eventually(lambda told=corr_id: [x for x in server.events("reject") if x.get("corr_id") == told])
        assert not any(secret.encode() in answer.body for secret in secrets)
    text = server.out.read_text()
    assert not any(secret in text for secret in secrets)


def test_more_refusals_than_are_kept_are_still_counted(server: Server) -> None:
    before = counts(server)
    rejected = sample("rejected_total", reason="http_version")
    for _ in range(600):
        converse(server.assets, head(f"GET {HELLO} HTTP/3.0", HOST), is_finished=False)
    eventually(lambda: grown(before, counts(server)).get(rejected, 0) == 600)
