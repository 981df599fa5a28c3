"""The proof that a running server serves the demo right: requests, and what must hold.

Each check compares an answer with the file that it came from. Talks HTTP over one
connection to each plane; knows how the demo is laid out and nothing of the server's inside.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import blake3
import brotli

from edge_server.demo.assets import BYTES_NAME, BYTES_SIZE
from edge_server.demo.vector_tiles import count_features
from edge_server.demo.world import LAYERS

TILE = "/edge/assets/world/3/4/2.mvt"  # Europe
_ARCHIVE = "/edge/assets/world.pmtiles"
_RANGE_BYTES = 64 * 1024
_TIMEOUT_S = 10


class Checked(NamedTuple):
    """One line of the proof."""

    what: str
    seen: str
    elapsed_ms: float
    is_proven: bool


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def field(self, name: str) -> str:
        """Return a response field, empty where it is missing."""
        return self.headers.get(name, "")


class Unproven(AssertionError):
    """What should hold does not; the text says what was seen instead."""


class Plane:
    """One listening address of the server, over one connection kept open."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)

    def get(self, path: str, **headers: str) -> Answer:
        """GET `path`; underscores in the names of `headers` stand for hyphens."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", path, headers=fields)
        response = self._connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def prove(assets: Plane, admin: Plane, folder: str) -> Iterator[Checked]:
    """Yield one line for each thing that must hold; a failure is a line, too.

    Args:
        folder: where ``world.pmtiles`` and ``assets/`` of the demo are.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("a tile: 200, gzip, parses", lambda: _tile(assets)),
        ("its ETag is BLAKE3 of its bytes", lambda: _etag(assets)),
        ("the same tile to a client without gzip", lambda: _decoded_tile(assets)),
        ("asked again with the ETag: 304", lambda: _not_modified(assets)),
        ("a range of 8 MiB: 206, as in the file", lambda: _range(assets, folder)),
        ("the archive's first bytes: 206", lambda: _archive(assets, folder)),
        ("TileJSON that leads to tiles", lambda: _tilejson(assets)),
        ("a file from its .br sibling", lambda: _sibling(assets, folder)),
        ("readyz: 200 and the same on both ports", lambda: _ready(assets, admin)),
    ]
    return walk(checks)


def walk(checks: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Checked]:
    """Yield a line for each check, which returns what it has seen, or raises."""
    for what, check in checks:
        started = time.perf_counter()
        try:
            seen, is_proven = check(), True
        except (Unproven, OSError, ValueError, EOFError, LookupError, http.client.HTTPException) as error:
            seen, is_proven = f"{type(error).__name__}: {error}", False
        yield Checked(what, seen, (time.perf_counter() - started) * 1000, is_proven)


def _tile(assets: Plane) -> str:
    answer = assets.get(TILE, Accept_Encoding="gzip")
    expect("status", answer.status, 200)
    expect("Content-Encoding", answer.field("Content-Encoding"), "gzip")
    counts = count_features(gzip.decompress(answer.body))
    expect("layers", sorted(counts), sorted(LAYERS))
    return f"{len(answer.body)} bytes, " + ", ".join(f"{layer} {counts[layer]}" for layer in LAYERS)


def _etag(assets: Plane) -> str:
    answer = assets.get(TILE, Accept_Encoding="gzip")
    expect("ETag", answer.field("ETag"), f'"b3:{blake3.blake3(answer.body).hexdigest()}"')
    return answer.field("ETag")[:20] + '…"'


def _decoded_tile(assets: Plane) -> str:
    stored = assets.get(TILE, Accept_Encoding="gzip")
    plain = assets.get(TILE, Accept_Encoding="identity")
    expect("Content-Encoding", plain.field("Content-Encoding"), "")
    expect("the decoded bytes are those stored", plain.body == gzip.decompress(stored.body), True)
    return f"{len(plain.body)} bytes"


def _not_modified(assets: Plane) -> str:
    tag = assets.get(TILE, Accept_Encoding="gzip").field("ETag")
    answer = assets.get(TILE, Accept_Encoding="gzip", If_None_Match=tag)
    expect("status", answer.status, 304)
    expect("ETag", answer.field("ETag"), tag)
    expect("body", answer.body, b"")
    return "304, no body"


def _range(assets: Plane, folder: str) -> str:
    start = random.randrange(BYTES_SIZE - _RANGE_BYTES)
    stop = start + _RANGE_BYTES
    answer = assets.get(f"/edge/assets/{BYTES_NAME}", Range=f"bytes={start}-{stop - 1}")
    expect("status", answer.status, 206)
    expect("Content-Range", answer.field("Content-Range"), f"bytes {start}-{stop - 1}/{BYTES_SIZE}")
    expect(
        "the bytes are the file's", answer.body == _read(folder, f"assets/{BYTES_NAME}", start, stop), True
    )
    return answer.field("Content-Range")


def _archive(assets: Plane, folder: str) -> str:
    answer = assets.get(_ARCHIVE, Range="bytes=0-126")
    expect("status", answer.status, 206)
    expect("the bytes are the file's", answer.body == _read(folder, "world.pmtiles", 0, 127), True)
    return answer.body[:7].decode() + f" v{answer.body[7]}"


def _tilejson(assets: Plane) -> str:
    document = json.loads(assets.get("/edge/assets/world.json").body)
    template = document["tiles"][0]
    expect("tiles", template.startswith(f"{assets.url}/edge/assets/world/"), True)
    path = template.removeprefix(assets.url).replace("{z}", "0").replace("{x}", "0").replace("{y}", "0")
    expect(f"status of {path}", assets.get(path).status, 200)
    return f"zoom {document['minzoom']} to {document['maxzoom']}, {len(document['vector_layers'])} layers"


def _sibling(assets: Plane, folder: str) -> str:
    answer = assets.get("/edge/assets/map.js", Accept_Encoding="br, gzip;q=0.5")
    expect("Content-Encoding", answer.field("Content-Encoding"), "br")
    whole = _read(folder, "assets/map.js", 0, None)
    expect("the decoded bytes are the file's", brotli.decompress(answer.body) == whole, True)
    return f"{len(answer.body)} bytes for {len(whole)}"


def _ready(assets: Plane, admin: Plane) -> str:
    ours, theirs = assets.get("/readyz"), admin.get("/readyz")
    expect("status on the asset plane", ours.status, 200)
    expect("status on the admin plane", theirs.status, 200)
    report = json.loads(ours.body)
    expect("the answers agree", report == json.loads(theirs.body), True)
    expect("ready", report["ready"], True)
    return f"ready, generation {report['generation']}"


def expect(what: str, seen: object, expected: object) -> None:
    """Raise Unproven if what was seen is not what should be."""
    if seen != expected:
        raise Unproven(f"{what}: {seen!r}, expected {expected!r}")


def _read(folder: str, name: str, start: int, stop: int | None) -> bytes:
    with open(os.path.join(folder, name), "rb") as file:
        file.seek(start)
        return file.read() if stop is None else file.read(stop - start)
