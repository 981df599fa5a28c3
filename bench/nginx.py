"""nginx as a competent operator would set it up for the same job.

One worker, sendfile, no access log, long-lived connections, and the response fields that
svc-edge sends too. Tiles are files, stored gzipped and labelled so. It has its own prefix
and touches nothing of an nginx that the machine may run otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench import MissingToolsError
from bench.machine import find_tool
from bench.process import Server, accepts, free_port
from bench.world import World

_CONFIG = """\
{user}daemon off;
worker_processes 1;
worker_cpu_affinity {cpu_mask};
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    types {{ application/x-protobuf mvt; }}
    default_type application/octet-stream;
    add_header Cache-Control "public, max-age=31536000, immutable";
    add_header X-Content-Type-Options nosniff;
    add_header Referrer-Policy no-referrer;
    add_header X-Corr-ID $request_id;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /edge/assets/ {{
            alias {assets}/;
        }}
        location /edge/assets/tiles/ {{
            alias {tiles}/;
            add_header Cache-Control "public, max-age=31536000, immutable";
            add_header X-Content-Type-Options nosniff;
            add_header Referrer-Policy no-referrer;
            add_header X-Corr-ID $request_id;
            add_header Content-Encoding gzip;
            add_header Vary Accept-Encoding;
        }}
    }}
}}
"""


def nginx(world: World, folder: Path, cpu: int) -> Server:
    """Return an nginx for this world, to be entered; `folder` becomes its prefix."""
    path = find_tool("nginx")
    if path is None:
        raise MissingToolsError("nginx is not installed; the package is nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            # A worker that gives up root could not read a private temporary folder.
            user="user root;\n" if os.geteuid() == 0 else "",
            cpu_mask=format(1 << cpu, "b"),
            port=port,
            assets=world.assets,
            tiles=world.root / "tiles",
        )
    )
    command = [path, "-p", str(folder), "-c", str(config)]
    return Server(
        "nginx",
        command=command,
        log=folder / "log",
        port=port,
        worker_title="nginx: worker process",
        is_ready=lambda _log: accepts(port),
        cpu=cpu,
    )
