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

_BARE = """\
{user}daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{body}
}}
"""
_ORIGIN = """\
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {files};
        rewrite "^/fast/[0-9]*([0-9]{{4}})$" /fast/$1;
        add_header Cache-Control "public, max-age=3600";
    }}
"""
_CACHE = """\
    proxy_cache_path stored levels=2 keys_zone=stored:16m max_size=768m use_temp_path=off;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        location /edge/assets/ {{
            proxy_pass http://origin/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache stored;
            proxy_cache_lock on;
        }}
    }}
"""


def nginx_origin(files: Path, folder: Path) -> Server:
    """Return an origin that serves a folder with one worker, to be entered; `folder` becomes its prefix.

    Of a name below ``fast/`` the last four digits count.
    """
    port = free_port()
    return _bare("origin", _ORIGIN.format(port=port, files=files), folder, port, workers=1)


def nginx_cache(origin_port: int, folder: Path) -> Server:
    """Return an nginx that caches what it fetches, with two workers, to be entered; it stores in `folder`."""
    port = free_port()
    return _bare("nginx", _CACHE.format(port=port, origin=origin_port), folder, port, workers=2)


def _bare(name: str, body: str, folder: Path, port: int, *, workers: int) -> Server:
    path = find_tool("nginx")
    if path is None:
        raise MissingToolsError("nginx is not installed; the package is nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(_BARE.format(user=user, workers=workers, body=body))
    return Server(
        name,
        command=[path, "-p", str(folder), "-c", str(config)],
        log=folder / "log",
        port=port,
        worker_title="nginx: worker process",
        is_ready=lambda _log: accepts(port),
        cpu=None,
    )


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
