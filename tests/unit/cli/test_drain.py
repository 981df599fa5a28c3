"""Asking an instance to drain: what is sent, and what its answers mean."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.cli import main as cli


class Instance(http.server.HTTPServer):
    """An admin plane that answers every POST as it was told to."""

    status, body, reason = 200, {"draining": True}, ""
    asked: list[tuple[str, str | None]]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Instance

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        body = json.dumps(self.server.body).encode()
        self.send_response(self.server.status)
        if self.server.reason:
            self.send_header("X-Reason", self.server.reason)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("command", "path", "is_draining", "told"),
    [("drain", "/api/drain", True, "draining\n"), ("undrain", "/api/undrain", False, "not draining\n")],
)
def test_the_instance_is_asked_and_its_answer_told(
    instance: Instance,
    command: str,
    path: str,
    is_draining: bool,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    instance.body = {"draining": is_draining}
    assert cli.main([command, "--metrics", instance.address]) == 0
    assert instance.asked == [(path, None)]
    assert capsys.readouterr().out == told


def test_an_instance_that_listens_everywhere_is_asked_on_this_machine(instance: Instance) -> None:
    assert cli.main(["drain", "--metrics", f"0.0.0.0:{instance.server_port}"]) == 0


def test_the_token_is_sent_where_there_is_one(instance: Instance, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    assert cli.main(["drain", "--metrics", instance.address, "--set", f"admin.token_file={token}"]) == 0
    assert instance.asked == [("/api/drain", "Bearer s3cret")]
    token.unlink()
    assert cli.main(["drain", "--metrics", instance.address, "--set", f"admin.token_file={token}"]) == 78


@pytest.mark.parametrize(
    ("command", "status", "reason", "words"),
    [
        pytest.param("drain", 403, "not_allowed", "not done: 403 not_allowed", id="refused"),
        pytest.param("drain", 202, "", "not done: 202", id="not-confirmed"),
        pytest.param("undrain", 202, "", "is admin.drain_file still there?", id="a-file-holds-it"),
    ],
)
def test_what_is_not_done_is_an_error(
    instance: Instance,
    command: str,
    status: int,
    reason: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    instance.status, instance.reason = status, reason
    assert cli.main([command, "--metrics", instance.address]) == 1
    assert words in capsys.readouterr().err


def test_where_nobody_listens_no_instance_is_found(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    address = instance.address
    instance.socket.close()
    assert cli.main(["drain", "--metrics", address]) == 69
    assert f"no instance answers at {address}" in capsys.readouterr().err


def test_a_port_that_was_picked_at_the_start_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drain", "--metrics", "127.0.0.1:0"]) == 2
    assert "--metrics HOST:PORT" in capsys.readouterr().err
