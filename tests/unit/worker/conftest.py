"""A worker's WSGI callable over a small mounted world, without bjoern or processes."""

from __future__ import annotations

import gzip
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_server import guard
from edge_server.config.schema import Config, Cors, Http, Ingress
from edge_server.http.cors import CorsPolicy
from edge_server.http.dates import DateClock
from edge_server.http.headers import NO_STORE, SECURITY_FIELDS
from edge_server.observe.logs import AccessLog
from edge_server.observe.tally import Tally
from edge_server.packs.mount import mount
from edge_server.packs.reader import NO_FILE, Entry, Pack, PackSpec, TileSet
from edge_server.packs.source import source_file
from edge_server.packs.tile_ids import zxy_to_id
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.scoreboard import Gate, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.worker import files, hitpath, refusals
from edge_server.worker.admission import Admission
from edge_server.worker.app import make_app
from edge_server.worker.assets import Assets
from edge_server.worker.corr_ids import bind_corr_ids
from edge_server.worker.errands import Errands
from edge_server.worker.hitpath import HitPath, bind_hit_path
from edge_server.worker.refusals import Refusals
from tests.wsgi_client import BIG, TILE, Client, PlannedBodies

BOMB = b"\0" * (4 << 20)


def tile_pack(path: Path) -> Pack:
    """An archive with gzip tiles 0/0/0, 1/0/0 (garbage) and 1/1/1 (a bomb), and zooms 0 to 1."""
    tiles = {(0, 0, 0): gzip.compress(TILE), (1, 0, 0): b"no gzip at all", (1, 1, 1): gzip.compress(BOMB)}
    path.write_bytes(b"".join(tiles.values()))
    lengths = [len(data) for data in tiles.values()]
    ids = [zxy_to_id(*address) for address in tiles]
    assert ids == sorted(ids)
    tileset = TileSet(
        name="maps/world",
        file=0,
        extensions=("mvt", "pbf"),
        media_type="application/vnd.mapbox-vector-tile",
        coding="gzip",
        min_zoom=0,
        max_zoom=1,
        tilejson={"name": "World", "minzoom": 0, "maxzoom": 1},
        first_ids=np.array(ids, dtype=np.uint64),
        run_lengths=np.ones(3, dtype=np.uint32),
        offsets=np.cumsum([0, *lengths[:-1]]).astype(np.uint64),
        lengths=np.array(lengths, dtype=np.uint32),
    )
    entries = [
        Entry("maps/world.pmtiles", 0, 0, sum(lengths), "application/vnd.pmtiles", is_archive=True),
        Entry("maps/world/metadata.json", NO_FILE, 0, 2, "application/json", inline=b"{}"),
    ]
    return Pack("maps/world", "pmtiles", str(path), [source_file(str(path), path.stat())], entries, [tileset])


@pytest.fixture
def make_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    planned = PlannedBodies()
    monkeypatch.setattr(files, "File", planned.file)
    monkeypatch.setattr(hitpath, "arrived", time.monotonic)
    monkeypatch.setattr(hitpath, "send_fields", planned.send_fields)
    monkeypatch.setattr(refusals, "send_fields", planned.send_fields)
    monkeypatch.setattr(hitpath, "pressure", lambda: 0)
    catalogs: list[Catalog | Scoreboard | Ledger] = []
    sockets: list[socket.socket] = []
    root = tmp_path / "assets"
    root.mkdir()
    (root / "a.txt").write_bytes(b"hello, edge")
    (root / "empty.bin").write_bytes(b"")
    (root / "big.bin").write_bytes(BIG)
    (root / "näme ü.txt").write_bytes(b"unicode")
    (root / "style.css").write_bytes(b"body{margin:0}" * 20)
    (root / "style.css.gz").write_bytes(gzip.compress(b"body{margin:0}" * 20))
    os.utime(root / "a.txt", (1_700_000_000, 1_700_000_000))

    def make(
        *,
        http: Http | None = None,
        cors: Cors | None = None,
        ingress: Ingress | None = None,
        capacity: int = 64,
        max_files: int = 64,
        may_repeat: bool = False,
    ) -> Client:
        config = replace(Config(), http=http or Http(), cors=cors or Cors(), ingress=ingress or Ingress())
        packs = [
            *mount([PackSpec(str(root))], verify="none", on_event=lambda *_: None),
            tile_pack(tmp_path / "w"),
        ]
        catalog = Catalog.build(packs, generation=1, name=segment_name(f"test-{len(catalogs)}"))
        scoreboard = Scoreboard.create(1, segment_name(f"test-{len(catalogs)}-scores"))
        scoreboard.generation = 1
        scoreboard.missing_gates = Gate(0)
        ledger = Ledger.create(1, segment_name(f"test-{len(catalogs)}-admission"))
        catalogs.extend((catalog, scoreboard, ledger))
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sockets.extend((near, far))
        state, tally, access_log, clock = HitPath(capacity), Tally(), AccessLog(0), DateClock()
        policy = CorsPolicy(config.cors.allow_origins)
        shared = policy if config.cors.allow_origins else None
        app = make_app(scoreboard=scoreboard, cors=policy, clock=clock, tally=tally, access_log=access_log)
        callable_app = bind_hit_path(
            state,
            Assets(
                catalog,
                config,
                "127.0.0.1:8080",
                max_files=max_files,
                make_room=state.cache.grow_old,
            ),
            app,
            tally=tally,
            access_log=access_log,
            new_corr_id=bind_corr_ids("0123456789abcdef"),
            clock=clock,
            cors=shared,
            generation=scoreboard.generation_word,
            admission=Admission(config.ingress, scoreboard, scoreboard.row(0), ledger, 0),
            refusals=Refusals(tally=tally, access_log=access_log, clock=clock, cors=shared),
            may_repeat=may_repeat,
            errands=Errands(near, [], catalog, config.ingress.timeout_secs),
            live=None,
            enable_multi_range=config.http.enable_multi_range,
            empty_tile_lines=guard.header_lines([NO_STORE, *SECURITY_FIELDS]),
        )
        return Client(callable_app, root, state, tally, scoreboard, catalog, planned)

    yield make
    for end in sockets:
        end.close()
    for catalog in catalogs:
        if isinstance(catalog, Catalog):
            catalog.close()
            catalog.unlink()
        else:
            catalog.segment.unlink()


@pytest.fixture
def get(make_client: Callable[..., Client]) -> Client:
    """A client of a worker with the default configuration."""
    return make_client()
