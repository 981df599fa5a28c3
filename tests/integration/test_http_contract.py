"""The HTTP contract of the asset plane, request by request, over raw sockets.

All rows of the table are asked once on connections of their own and in several orders on a
single one, so that no answer leaves anything behind that the next would start with.
"""

from __future__ import annotations

import gzip
import json
from urllib.parse import quote

import pytest

from tests.http_rows import HELLO, ROWS, TILE, Row, check
from tests.servers import Server
from tests.wire import Connection, ask
from tests.worlds import HOLE, TILES_TO, World, etag


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_contract_holds(server: Server, row: Row) -> None:
    with Connection(server.assets) as connection:
        for _ in range(3):  # from the second on the guard may repeat it by itself
            check(row, connection.ask(row.path, row.method, row.fields, row.sent))
        assert connection.unread() == b""


@pytest.mark.parametrize("order", [1, -1, 7, 31], ids=["in turn", "backwards", "every 7th", "every 31st"])
def test_one_connection_carries_every_answer(server: Server, order: int) -> None:
    rows = ROWS[::order] if order < 0 else [row for start in range(order) for row in ROWS[start::order]]
    with Connection(server.assets) as connection:
        for row in rows:
            answer = connection.ask(row.path, row.method, row.fields, row.sent)
            check(row, answer)
            assert not answer.is_last, row.id
        assert connection.unread() == b""


def test_a_client_that_closes_gets_its_answer_and_the_end(server: Server) -> None:
    with Connection(server.assets) as connection:
        answer = connection.ask("/edge/assets/hello.txt", fields={"Connection": "close"})
        assert answer.body == HELLO
        assert connection.is_ended()


def test_every_byte_of_every_file_is_right(server: Server, world: World) -> None:
    with Connection(server.assets) as connection:
        for path, data in world.files.items():
            answer = connection.ask(f"/edge/assets/{quote(path)}")
            assert (answer.status, answer["ETag"]) == (200, etag(data))
            assert answer.body == data


def test_ranges_around_the_edges_of_a_chunk_are_right(server: Server, world: World) -> None:
    data = world.files["big.bin"]
    chunk = 256 << 10
    edges = [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 4 * chunk, len(data) - 1]
    with Connection(server.assets) as connection:
        for first in edges:
            for last in [edge for edge in edges if edge >= first]:
                answer = connection.ask("/edge/assets/big.bin", fields={"Range": f"bytes={first}-{last}"})
                assert answer.status == 206
                assert answer.body == data[first : last + 1]
                assert answer["ETag"] == etag(data)


@pytest.mark.parametrize("corr_id", ["a", "0af7651916cd43dd8448eb211c80319c", "A.b_c:d-9", "x" * 128])
def test_a_sane_correlation_id_comes_back(server: Server, corr_id: str) -> None:
    for path in ("hello.txt", "nothing.txt"):
        answer = ask(server.assets, f"/edge/assets/{path}", fields={"X-Corr-ID": corr_id})
        assert answer["X-Corr-ID"] == corr_id


@pytest.mark.parametrize("corr_id", ["", "x" * 129, "a b", "<script>", "näh", "a,b"])
def test_a_strange_correlation_id_is_replaced(server: Server, corr_id: str) -> None:
    answers = [ask(server.assets, "/edge/assets/hello.txt", fields={"X-Corr-ID": corr_id}) for _ in range(2)]
    made = {answer["X-Corr-ID"] for answer in answers}
    assert len(made) == 2
    assert corr_id not in made


def test_refusals_tell_no_path(server: Server, world: World) -> None:
    for target in ("/edge/assets/nothing/to/see.txt", "/edge/assets/../secret-name", "/hidden-place"):
        body = ask(server.assets, target).body.decode()
        assert all(word not in body for word in ("see", "secret", "hidden", str(world.folder), "Traceback"))


def test_a_whole_archive_is_never_transformed(server: Server, world: World) -> None:
    for path, data in (
        ("world.pmtiles", world.archive.read_bytes()),
        ("offline.zip", world.files["offline.zip"]),
    ):
        whole = ask(server.assets, f"/edge/assets/{path}", fields={"Accept-Encoding": "gzip, br, zstd"})
        assert whole.body == data
        assert whole["ETag"] == etag(data)
        assert "no-transform" in whole["Cache-Control"].split(", ")
        assert not whole.all("Content-Encoding")
        assert not whole.all("Vary")
        ranged = ask(
            server.assets,
            f"/edge/assets/{path}",
            fields={"Accept-Encoding": "gzip", "Range": "bytes=7-106"},
        )
        assert (ranged.status, ranged.body) == (206, data[7:107])
        assert "no-transform" in ranged["Cache-Control"].split(", ")
        assert not ranged.all("Vary")


def test_every_tile_is_right_in_both_codings(server: Server, world: World) -> None:
    with Connection(server.assets) as connection:
        for tile_id in range(TILES_TO):
            target = f"/edge/assets/{world.tile_path(tile_id)}"
            stored = connection.ask(target, fields={"Accept-Encoding": "gzip"})
            plain = connection.ask(target)
            if tile_id == HOLE:
                assert (stored.status, plain.status) == (204, 204)
            else:
                assert gzip.decompress(stored.body) == plain.body == world.tiles[tile_id]
                assert stored["ETag"] == etag(stored.body) != plain["ETag"] == etag(plain.body)


def test_tilejson_names_the_tiles_as_the_client_reaches_them(server: Server, world: World) -> None:
    answer = ask(server.assets, "/edge/assets/world.json")
    told = json.loads(answer.body)
    assert answer["Content-Type"] == "application/json"
    assert answer["ETag"] == etag(answer.body)
    assert told["tilejson"] == "3.0.0"
    assert told["tiles"] == [f"http://{server.assets}/edge/assets/world/{{z}}/{{x}}/{{y}}.mvt"]
    assert (told["minzoom"], told["maxzoom"]) == (0, 2)
    assert told["bounds"] == [-180, -85, 180, 85]
    assert [layer["id"] for layer in told["vector_layers"]] == ["water"]
    target = told["tiles"][0].partition(str(server.assets))[2].format(z=2, x=1, y=1)
    assert ask(server.assets, target).body == TILE


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("maps.example", "http://maps.example"),
        ("maps.example:8443", "http://maps.example:8443"),
        ("[2001:db8::1]:80", "http://[2001:db8::1]:80"),
    ],
)
def test_tilejson_follows_the_host_field(server: Server, host: str, base: str) -> None:
    told = json.loads(ask(server.assets, "/edge/assets/world.json", fields={"Host": host}).body)
    assert told["tiles"] == [f"{base}/edge/assets/world/{{z}}/{{x}}/{{y}}.mvt"]


@pytest.mark.parametrize("host", ["evil.example/x", 'a"b', "user@evil.example", "a b", "<x>"])
def test_tilejson_believes_no_strange_host(server: Server, host: str) -> None:
    answer = ask(server.assets, "/edge/assets/world.json", fields={"Host": host})
    assert (answer.status, answer["X-Reason"]) == (400, "bad_request")


def test_readiness_tells_what_it_promises(server: Server) -> None:
    told = json.loads(ask(server.assets, "/readyz").body)
    assert told == {"ready": True, "degraded": False, "missing": [], "retry_after": 0, "generation": 1}
