"""svc-edge as its manual says to run it: metrics, correlation ids and sampled logs on.

Started by its command with a settings file; known to be serving by its ``ready`` log line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.process import Server, free_port


def edge(
    packs: Sequence[Path], folder: Path, *, cpu: int | None = None, workers: int = 1, verify: str = "none"
) -> Server:
    """Return a svc-edge for these packs, to be entered; `folder` gets its settings and log."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        "bind_addr": f"127.0.0.1:{port}",
        "metrics_addr": "127.0.0.1:0",
        "edge": {"mode": "offline", "packs": [str(pack) for pack in packs], "verify": verify},
        "workers": {"count": workers},
        "log": {"format": "json"},
    }
    config = folder / "svc-edge.json"
    config.write_text(json.dumps(settings, indent=2))
    command = [sys.executable, "-m", "edge_server", "serve", "--config", str(config)]
    return Server(
        "svc-edge",
        command=command,
        log=folder / "log",
        port=port,
        worker_title="svc-edge: worker",
        is_ready=says_ready,
        cpu=cpu,
    )


def live_edge(port: int, slow_port: int, pack: Path, folder: Path) -> Server:
    """Return a svc-edge that fills ``fast/`` and ``slow/`` from origins on the loopback and mounts a pack.

    Args:
        port, slow_port: of the origins, without TLS.
        pack: a folder, mounted below ``packed/``.
        folder: made; gets its settings and log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own_port = free_port()
    origins = {"fast/": f"http://127.0.0.1:{port}/fast", "slow/": f"http://127.0.0.1:{slow_port}"}
    settings = {
        "bind_addr": f"127.0.0.1:{own_port}",
        "metrics_addr": "127.0.0.1:0",
        "edge": {
            "mode": "live",
            "packs": [{"path": str(pack), "name": "packed", "verify": "none"}],
            "allow": [f"127.0.0.1:{port}", f"127.0.0.1:{slow_port}"],
            "origins": [{"prefix": prefix, "url": url} for prefix, url in origins.items()],
        },
        "fill": {"allow_private": ["127.0.0.0/8"], "insecure_http": True},
        "workers": {"count": 2},
    }
    config = folder / "svc-edge.json"
    config.write_text(json.dumps(settings, indent=2))
    return Server(
        "svc-edge",
        command=[sys.executable, "-m", "edge_server", "serve", "--config", str(config)],
        log=folder / "log",
        port=own_port,
        worker_title="svc-edge: worker",
        is_ready=says_ready,
        cpu=None,
    )


def says_ready(log: str) -> bool:
    """Whether a log of JSON lines has its ``ready`` event; other and unfinished lines are passed over."""
    return any(_event(line) == "ready" for line in log.splitlines() if "ready" in line)


def _event(line: str) -> object:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record.get("event") if isinstance(record, dict) else None
