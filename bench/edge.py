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


def says_ready(log: str) -> bool:
    """Whether a log of JSON lines has its ``ready`` event; other and unfinished lines are passed over."""
    return any(_event(line) == "ready" for line in log.splitlines() if "ready" in line)


def _event(line: str) -> object:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record.get("event") if isinstance(record, dict) else None
