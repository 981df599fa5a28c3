"""`svc-edge demo --live` as a person runs it."""

from __future__ import annotations

from pathlib import Path

from edge_server.demo.live_proof import prove_live
from edge_server.demo.origin import Origin
from edge_server.demo.proof import Plane
from tests.servers import Server, run


def test_the_live_demo_proves_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = run("demo", "--live", "--once", "--folder", tmp_path, within=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "one request to the origin" in ended.stdout
    assert "FAILED" not in ended.stdout
    assert ended.stdout.rstrip().endswith("the server drained and ended with 0")


def test_the_live_proof_fails_where_nothing_is_filled(serve: object, tmp_path: Path) -> None:
    assert callable(serve)
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "a.txt").write_bytes(b"a")
    server = serve(pack)
    assert isinstance(server, Server)
    origin = Origin(str(tmp_path))
    planes = Plane(str(server.assets)), Plane(str(server.admin))
    try:
        proven = {line.what: line.is_proven for line in prove_live(*planes, origin)}
    finally:
        origin.close()
        for plane in planes:
            plane.close()
    assert [what for what, is_proven in proven.items() if is_proven] == [
        "what the origin does not have: 404",
        "readyz: 200",
    ]
