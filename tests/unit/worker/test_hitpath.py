"""What the hit path answers, by the fields and bytes that a client gets."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.config.schema import Cors, Http
from edge_server.worker import hitpath
from tests.wsgi_client import BIG, TILE, Client

MakeClient = Callable[..., Client]


def tag(data: bytes) -> str:
    return f'"b3:{blake3(data).hexdigest()}"'


def test_a_whole_file_carries_its_blake3_tag_and_every_promised_field(get: Client) -> None:
    answer = get("a.txt")
    assert (answer.status, answer.body) == (200, b"hello, edge")
    assert answer["ETag"] == tag(b"hello, edge")
    assert answer["Content-Length"] == "11"
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer["Cache-Status"] == "svc-edge; hit"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert answer["Date"].endswith(" GMT")
    assert answer.all("Strict-Transport-Security") == []
    assert answer.all("Vary") == []


def test_the_second_answer_for_a_path_is_the_same_as_the_first(get: Client) -> None:
    first, second = get("a.txt"), get("a.txt")
    assert first["X-Corr-ID"] != second["X-Corr-ID"]
    varying = {"X-Corr-ID", "Date"}
    assert [pair for pair in first.fields if pair[0] not in varying] == [
        pair for pair in second.fields if pair[0] not in varying
    ]


def test_a_sane_correlation_id_is_echoed_and_another_is_replaced(get: Client) -> None:
    assert get("a.txt", x_corr_id="job-17:3")["X-Corr-ID"] == "job-17:3"
    assert "\n" not in get("a.txt", x_corr_id="a\nb")["X-Corr-ID"]
    assert get("nothing", x_corr_id="job-18")["X-Corr-ID"] == "job-18"


def test_head_has_the_fields_of_get_and_no_body(get: Client) -> None:
    answer = get("big.bin", "HEAD", range="bytes=0-1")
    assert (answer.status, answer.body) == (200, b"")
    assert answer["Content-Length"] == str(len(BIG))
    assert answer["ETag"] == tag(BIG)


def test_a_large_body_is_whole_and_counted(get: Client) -> None:
    assert get("big.bin").body == BIG
    assert get.tally.outcome("/edge/assets", "GET", 200, "pack").bytes_out == len(BIG)


@pytest.mark.parametrize(
    ("field", "expected", "content_range"),
    [
        ("bytes=0-3", b"hell", "bytes 0-3/11"),
        ("bytes=7-", b"edge", "bytes 7-10/11"),
        ("bytes=-4", b"edge", "bytes 7-10/11"),
        ("bytes=0-0", b"h", "bytes 0-0/11"),
        ("bytes=4-9999", b"o, edge", "bytes 4-10/11"),
    ],
)
def test_one_range_is_answered_with_its_bytes(
    get: Client, field: str, expected: bytes, content_range: str
) -> None:
    answer = get("a.txt", range=field)
    assert (answer.status, answer.body) == (206, expected)
    assert answer["Content-Range"] == content_range
    assert answer["Content-Length"] == str(len(expected))
    assert answer["ETag"] == tag(b"hello, edge")


@pytest.mark.parametrize(
    "field", ["bytes=11-", "bytes=9-1", "bytes=a-b", "bytes=", "bytes=0-1,3-4", "bytes=-0"]
)
def test_an_unsatisfiable_range_is_refused_with_the_size(get: Client, field: str) -> None:
    answer = get("a.txt", range=field)
    assert answer.status == 416
    assert answer["Content-Range"] == "bytes */11"
    assert answer["X-Reason"] == "invalid_range"


def test_a_range_in_another_unit_is_ignored(get: Client) -> None:
    assert get("a.txt", range="lines=0-1").status == 200


def test_a_range_of_a_large_file_is_cut_out_of_it(get: Client) -> None:
    answer = get("big.bin", range="bytes=1000-900999")
    assert answer.body == BIG[1000:901000]


def test_a_file_from_the_future_has_no_modification_date(make_client: MakeClient, tmp_path: Path) -> None:
    # RFC 9110 section 8.8.2.1: Last-Modified is never later than Date.
    os.utime(tmp_path / "assets" / "a.txt", (2**33, 2**33))
    answer = make_client()("a.txt", if_modified_since="Tue, 14 Nov 2023 22:13:20 GMT")
    assert (answer.status, answer.body) == (200, b"hello, edge")
    assert answer.all("Last-Modified") == []


def test_if_range_holds_only_for_the_same_strong_tag(get: Client) -> None:
    etag = get("a.txt")["ETag"]
    assert get("a.txt", range="bytes=0-0", if_range=etag).status == 206
    assert get("a.txt", range="bytes=0-0", if_range=f"W/{etag}").status == 200
    assert get("a.txt", range="bytes=0-0", if_range='"other"').status == 200
    assert get("a.txt", range="bytes=0-0", if_range=get("a.txt")["Last-Modified"]).status == 200


def test_several_ranges_are_answered_in_parts_where_that_is_enabled(make_client: MakeClient) -> None:
    get = make_client(http=Http(enable_multi_range=True))
    answer = get("a.txt", range="bytes=0-1,4-5,5-6")
    assert answer.status == 206
    boundary = answer["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    parts = answer.body.split(f"--{boundary}".encode())
    assert [part.split(b"\r\n\r\n", 1)[-1].strip() for part in parts[1:-1]] == [b"he", b"o,"]
    assert parts[-1] == b"--\r\n"
    assert answer["Content-Length"] == str(len(answer.body))
    assert answer.all("Content-Range") == []
    assert get("a.txt", range="bytes=0-1,1-3")["Content-Range"] == "bytes 0-3/11"


def test_a_known_tag_is_answered_with_304_and_the_fields_that_a_cache_needs(get: Client) -> None:
    etag = get("style.css")["ETag"]
    for field in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = get("style.css", if_none_match=field)
        assert (answer.status, answer.body) == (304, b"")
        assert answer["ETag"] == etag
        assert answer["Vary"] == "Accept-Encoding"
        assert answer.all("Cache-Control")
        assert answer.all("Content-Length") == []
    assert get("style.css", "HEAD", if_none_match=etag).status == 304


def test_preconditions_are_judged_in_the_order_of_the_rfc(get: Client) -> None:
    etag = get("a.txt")["ETag"]
    assert get("a.txt", if_match='"other"').status == 412
    assert get("a.txt", if_match=etag, if_none_match=etag).status == 304
    assert get("a.txt", if_unmodified_since="Tue, 14 Nov 2023 22:13:19 GMT").status == 412
    assert get("a.txt", if_modified_since="Tue, 14 Nov 2023 22:13:20 GMT").status == 304
    assert get("a.txt", if_modified_since="Tue, 14 Nov 2023 22:13:19 GMT").status == 200
    assert get("a.txt", if_none_match=etag, range="bytes=0-0").status == 304


def test_a_precompressed_sibling_is_sent_to_those_who_take_it_under_its_own_tag(get: Client) -> None:
    plain, packed = get("style.css"), get("style.css", accept_encoding="gzip;q=0.5, br;q=0")
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert packed["ETag"] == tag(packed.body) != plain["ETag"]
    assert packed["Content-Type"] == plain["Content-Type"] == "text/css; charset=utf-8"
    assert packed["Vary"] == plain["Vary"] == "Accept-Encoding"
    assert plain.all("Content-Encoding") == []
    assert get("style.css", accept_encoding="identity;q=0, gzip;q=0").status == 406


def test_a_range_falls_on_the_coding_that_was_chosen(get: Client) -> None:
    packed = (get.root / "style.css.gz").read_bytes()
    answer = get("style.css", accept_encoding="gzip", range="bytes=0-9")
    assert (answer.status, answer.body) == (206, packed[:10])
    assert answer["Content-Range"] == f"bytes 0-9/{len(packed)}"
    assert answer["Vary"] == "Accept-Encoding"


def test_a_stored_tile_is_sent_as_it_is_or_decoded_for_who_refuses_it(get: Client) -> None:
    stored = get("maps/world/0/0/0.mvt", accept_encoding="gzip")
    assert stored["Content-Encoding"] == "gzip"
    assert gzip.decompress(stored.body) == TILE
    assert stored["ETag"] == tag(stored.body)
    assert stored["Content-Type"] == "application/vnd.mapbox-vector-tile"
    decoded = get("maps/world/0/0/0.pbf", accept_encoding="gzip;q=0")
    assert decoded.body == TILE
    assert decoded["ETag"] == tag(TILE)
    assert decoded.all("Content-Encoding") == []
    assert get("maps/world/0/0/0.mvt", range="bytes=0-3", accept_encoding="identity").body == TILE[:4]


def test_a_tile_that_would_burst_the_caps_is_406_decoded_and_fine_as_stored(get: Client) -> None:
    assert get("maps/world/1/1/1.mvt", accept_encoding="identity").status == 406
    assert get("maps/world/1/1/1.mvt", accept_encoding="gzip").status == 200


def test_a_tile_that_does_not_decode_is_a_pack_error_not_a_wrong_body(get: Client) -> None:
    answer = get("maps/world/1/0/0.mvt", accept_encoding="identity")
    assert (answer.status, answer["X-Reason"]) == (503, "pack_io")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("maps/world/1/0/1.mvt", 204),
        ("maps/world/2/0/0.mvt", 404),
        ("maps/world/1/2/0.mvt", 404),
        ("maps/world/0/0/0.png", 404),
        ("maps/world/00/0/0.mvt", 404),
        ("maps/world/0/0/+0.mvt", 404),
        ("maps/world/0/0/0", 404),
        ("maps/other/0/0/0.mvt", 404),
    ],
)
def test_a_tile_that_is_not_there(get: Client, path: str, status: int) -> None:
    answer = get(path)
    assert answer.status == status
    assert answer.all("X-Reason") == ([] if status == 204 else ["not_found"])
    assert answer.all("X-Corr-ID")


def test_an_absent_tile_is_404_where_that_is_wanted(make_client: MakeClient) -> None:
    assert make_client(http=Http(empty_tile=404))("maps/world/1/0/1.mvt").status == 404


@pytest.mark.parametrize("path", ["a.txt", "maps/world/1/0/1.mvt"], ids=["entry", "empty tile"])
def test_what_no_other_request_will_say_is_not_given_to_the_guard(
    make_client: Callable[..., Client], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(hitpath, "remember", lambda *told: kept.append(told))
    client = make_client(may_repeat=True)
    client(path, X_CORR_ID="one")
    client(path, TRACEPARENT="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    assert kept == []
    client(path)
    assert len(kept) == 1


def test_the_tilejson_names_tiles_at_the_host_that_the_client_used(get: Client) -> None:
    answer = get("maps/world.json", host="Maps.Example:8443")
    told = json.loads(answer.body)
    assert told["tiles"] == ["http://maps.example:8443/edge/assets/maps/world/{z}/{x}/{y}.mvt"]
    assert (told["tilejson"], told["name"]) == ("3.0.0", "World")
    assert answer["ETag"] == tag(answer.body)
    assert get("maps/world.json", host="Maps.Example:8443", if_none_match=answer["ETag"]).status == 304


def test_a_poisoned_host_does_not_reach_the_tilejson(get: Client) -> None:
    for host in ("evil.example/x", "a b", "evil.example\r\nX: y", "user@evil.example"):
        assert b"evil" not in get("maps/world.json", host=host).body


def test_a_public_url_wins_over_the_host(make_client: MakeClient) -> None:
    get = make_client(http=Http(public_url="https://tiles.example.org/base/"))
    told = json.loads(get("maps/world.json", host="other").body)
    assert told["tiles"][0].startswith("https://tiles.example.org/base/edge/assets/maps/world/")


def test_a_raw_archive_is_identity_and_must_not_be_transformed(get: Client) -> None:
    answer = get("maps/world.pmtiles", accept_encoding="gzip")
    assert answer["Cache-Control"].endswith(", no-transform")
    assert answer.all("Content-Encoding") == []
    assert answer["Content-Type"] == "application/vnd.pmtiles"
    assert get("maps/world/metadata.json").body == b"{}"


def test_an_empty_file_is_served_empty(get: Client) -> None:
    answer = get("empty.bin")
    assert (answer.status, answer.body, answer["Content-Length"]) == (200, b"", "0")
    assert answer["ETag"] == tag(b"")


def test_a_utf8_path_arrives_as_latin1_and_is_found(get: Client) -> None:
    assert get("näme ü.txt".encode().decode("latin-1")).body == b"unicode"


@pytest.mark.parametrize(
    "path",
    ["../a.txt", "x/../../a.txt", "./a.txt", "a.txt\0", "a.txt\x00.png", "a//b", "\\a.txt", "\xff", ""],
)
def test_a_path_that_leads_elsewhere_is_a_bad_request(get: Client, path: str) -> None:
    answer = get(f"/edge/assets/{path}")
    assert (answer.status, answer["X-Reason"]) == (400, "bad_request")


def test_a_percent_sign_left_in_the_path_is_not_decoded_again(get: Client) -> None:
    assert get("%61.txt").status == 404
    assert get("%2e%2e/a.txt").status == 404


def test_a_refusal_is_a_problem_document_that_gives_nothing_away(get: Client) -> None:
    answer = get("secret/place.txt")
    assert answer.status == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Cache-Control"] == "no-store"
    told = json.loads(answer.body)
    assert told == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "reason": "not_found",
        "corr_id": answer["X-Corr-ID"],
    }
    assert get("secret/place.txt", "HEAD").body == b""


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "PURGE"]
)
@pytest.mark.parametrize("path", ["/edge/assets/a.txt", "/healthz", "/elsewhere"])
def test_any_other_method_is_refused_with_what_is_allowed(get: Client, method: str, path: str) -> None:
    answer = get(path, method)
    assert (answer.status, answer["X-Reason"]) == (405, "method")
    assert answer["Allow"] == "GET, HEAD, OPTIONS"


def test_options_without_cors_only_tells_what_is_allowed(get: Client) -> None:
    answer = get("a.txt", "OPTIONS", origin="https://evil.example", access_control_request_method="GET")
    assert (answer.status, answer["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert not [name for name, _ in answer.fields if name.lower().startswith("access-control")]


def test_an_allowed_origin_is_echoed_and_exposes_what_ranges_need(make_client: MakeClient) -> None:
    get = make_client(cors=Cors(allow_origins=("https://map.example",)))
    answer = get("a.txt", origin="https://map.example")
    assert answer["Access-Control-Allow-Origin"] == "https://map.example"
    assert "Content-Range" in answer["Access-Control-Expose-Headers"]
    assert "Origin" in ", ".join(answer.all("Vary"))
    assert "Origin" in ", ".join(get("a.txt").all("Vary"))
    assert get("a.txt", origin="https://evil.example").all("Access-Control-Allow-Origin") == []
    assert get("none", origin="https://map.example")["Access-Control-Allow-Origin"] == "https://map.example"
    granted = get("a.txt", "OPTIONS", origin="https://map.example", access_control_request_method="GET")
    assert granted.status == 204
    assert granted["Access-Control-Allow-Origin"] == "https://map.example"


def test_weak_tags_where_strong_ones_are_switched_off(make_client: MakeClient) -> None:
    get = make_client(http=Http(strong_etag=False))
    etag = get("a.txt")["ETag"]
    assert etag == f"W/{tag(b'hello, edge')}"
    assert get("a.txt", if_none_match=etag).status == 304
    assert get("a.txt", range="bytes=0-0", if_range=etag).status == 200


def test_health_and_readiness(get: Client) -> None:
    assert get("/healthz").status == 200
    assert json.loads(get("/readyz").body)["ready"] is True
    assert get("/nowhere").status == 404


def test_a_new_generation_drops_what_was_prepared(get: Client) -> None:
    get("a.txt")
    assert get.state.cache.young
    get.scoreboard.generation = 2
    get("empty.bin")
    assert len(get.state.cache.young) == 1


def test_the_cache_stays_within_its_bounds_and_keeps_what_is_asked_for(make_client: MakeClient) -> None:
    get = make_client(capacity=2)
    for number in range(20):
        (get.root / f"{number}.txt").write_bytes(b"%d" % number)
    paths = ["a.txt", "style.css", "big.bin", "empty.bin", "maps/world.json", "maps/world/0/0/0.mvt"] * 3
    for path in paths:
        assert get(path).status == 200
        assert len(get.state.cache.young) <= 2
    assert get("a.txt").body == b"hello, edge"


def test_misses_and_absent_tiles_leave_nothing_behind(get: Client) -> None:
    for number in range(100):
        get(f"none/{number}")
        get("maps/world/1/0/1.mvt")
    assert get.state.cache.young == {}


def test_every_answer_is_counted_once(get: Client) -> None:
    etag = get("a.txt")["ETag"]
    get("a.txt", if_none_match=etag)
    get("a.txt", range="bytes=0-3")
    get("a.txt", "HEAD")
    get("none")
    get("big.bin")
    counted = {key[:3]: outcome.requests for key, outcome in get.tally._outcomes.items() if outcome.requests}
    assert counted == {
        ("/edge/assets", "GET", 200): 2,
        ("/edge/assets", "GET", 304): 1,
        ("/edge/assets", "GET", 206): 1,
        ("/edge/assets", "HEAD", 200): 1,
        ("/edge/assets", "GET", 404): 1,
    }
