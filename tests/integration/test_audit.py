"""The audit chain of a running instance, whole whatever happens to its processes; `svc-edge audit verify`."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.live import HOST, Authority, Live, flags, https_origin
from tests.origins import ok
from tests.scrapes import counts, sample
from tests.servers import Server, eventually, run
from tests.wire import Connection, ask
from tests.worlds import World

Serve = Callable[..., Server]
BODY = b"what the origin has " * 100
FRESH = "Cache-Control: max-age=600"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def audited(serve: Serve, authority: Authority, world: World) -> Iterator[Callable[..., Live]]:
    """Start an instance in live mode that keeps an audit chain."""
    with https_origin(authority) as origin:

        def begin(**settings: object) -> Live:
            given = flags(origin, authority, audit__enabled="true", **settings)
            return Live(serve(*given, *world.packs), origin)

        yield begin


def records(*paths: Path) -> list[dict[str, Any]]:
    """Return the records of some files, or of what an instance has written to standard output."""
    texts = (path.read_text() for path in paths if path.exists())
    whole = [text[: text.rfind("\n") + 1] for text in texts]  # the last line may be half there
    lines = [json.loads(line) for text in whole for line in text.splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == "audit" and "this" in line]


def verify(*arguments: object) -> tuple[int, str, str]:
    ended = run("audit", "verify", *arguments)
    return ended.returncode, ended.stdout, ended.stderr


def test_fills_and_rejects_are_records_and_the_chain_holds(
    audited: Callable[..., Live], tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    live = audited(audit__path=path, retry__live_fill__max_retries=0)
    live.origin.answers["/kept.txt"] = ok(BODY, FRESH)
    live.origin.answers["/broken"] = ok(b"", status="500 Internal Server Error")
    assert live.get("kept.txt", X_Corr_ID="kept").status == 200
    assert live.get("kept.txt", X_Corr_ID="hit").status == 200
    assert live.get("broken", X_Corr_ID="broken").status == 502
    assert live.get("hello.txt", "POST", X_Corr_ID="post").status == 405
    assert live.get("absent", X_Corr_ID="absent").status == 404
    eventually(lambda: len(records(path)) == 7, told=lambda: str(records(path)))
    told = {(record["kind"], record["corr_id"]): record for record in records(path)}
    fill = told["fill", "kept"]
    assert (fill["origin_host"], fill["size"], fill["status"]) == (HOST, len(BODY), 200)
    assert fill["hash"] == blake3(BODY).hexdigest()
    failed = told["fill_failed", "broken"]
    assert (failed["reason"], failed["origin_host"]) == ("upstream_5xx", f"{HOST}:{live.origin.port}")
    assert told["reject", "broken"]["reason"] == "upstream_5xx"
    assert told["reject", "post"]["reason"] == "method"
    assert told["fill", "absent"]["status"] == told["reject", "absent"]["status"] == 404
    eventually(lambda: counts(live.server)[sample("audit_records_total", kind="reject")] == 3)
    assert live.server.stop() == 0
    code, out, err = verify(path)
    assert (code, err) == (0, "")
    assert "records: 7" in out
    head = records(path)[-1]["this"]
    assert head in out
    assert verify("--expect", head, path)[0] == 0
    line = 1 + [record["corr_id"] for record in records(path)].index("post")
    path.write_bytes(path.read_bytes().replace(b'"post"', b'"host"'))
    code, _, err = verify(path)
    assert code == 1
    assert f"error: {path}:{line}: no record, or one that was changed" in err


def test_the_chain_outlives_kills_reloads_and_rotation(audited: Callable[..., Live], tmp_path: Path) -> None:
    path, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    live = audited(audit__path=path, ingress__timeout_secs=2)
    is_over = threading.Event()
    refused: Counter[int] = Counter()

    def storm(number: int) -> None:
        while not is_over.is_set():
            try:
                with Connection(live.server.assets) as connection:
                    while not is_over.is_set():
                        refused[connection.ask("/edge/assets/hello.txt", "POST").status] += 1
            except (OSError, AssertionError):
                continue

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(records(path)) > 50)
    os.kill(live.server.sidecar(), signal.SIGKILL)
    eventually(lambda: any(record["kind"] == "resume" for record in records(path)), within=10)
    path.rename(moved)
    live.server.signal(signal.SIGUSR1)
    eventually(lambda: path.exists() and len(records(path)) > 20, within=10)
    live.server.signal(signal.SIGHUP)
    eventually(lambda: live.server.status()["generation"] == 2, within=40)
    eventually(lambda: any(record["reason"] == "restarted" for record in records(path)), within=20)
    is_over.set()
    for thread in threads:
        thread.join()
    assert live.server.stop() == 0
    code, _, err = verify(moved, path)
    assert code == 0, err
    told = records(moved, path)
    assert {record["mode"] for record in told} == {"live"}
    assert [record["reason"] for record in told if record["kind"] == "resume"].count("rotated") == 1
    assert verify(path, moved)[0] == 1
    # The sidecar that was killed takes what it had read and not written; nobody else loses anything.
    total = sum(record["count"] for record in told if record["kind"] in ("reject", "dropped"))
    assert refused[405] * 0.8 < total <= refused[405] * 1.02 + 20


def test_on_standard_output_records_stand_between_other_lines(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 2, "--set", "audit.enabled=true", *world.packs)
    for _ in range(20):
        assert ask(server.assets, "/edge/assets/absent").status == 404
    os.kill(server.sidecar(), signal.SIGKILL)
    eventually(lambda: len(server.events("worker_exit")) == 1)
    for _ in range(20):
        assert ask(server.assets, "/edge/assets/absent").status == 404
    assert server.stop() == 0
    told = records(server.out)
    assert [record["kind"] for record in told].count("reject") == 40
    assert [record["seq"] for record in told] == list(range(1, len(told) + 1))
    code, _, err = verify("--mixed", server.out)
    assert code == 0, err
    assert verify(server.out)[0] == 1
    lines = server.out.read_bytes().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if b'"kind":"reject"' in line)
    changed = tmp_path / "changed"
    changed.write_bytes(b"".join(lines[:first] + lines[first + 1 :]))
    code, _, err = verify("--mixed", changed)
    assert code == 1
    seq = json.loads(lines[first])["seq"]
    assert f"records {seq} to {seq} are missing" in err


def test_a_flood_of_refusals_is_a_number_in_the_chain(serve: Serve, world: World, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    settings = ("--set", "audit.enabled=true", "--set", f"audit.path={path}", "--rps", "1")
    server = serve("--workers", 1, *settings, *world.packs)
    with Connection(server.assets) as connection:
        statuses = Counter(connection.ask("/edge/assets/hello.txt").status for _ in range(500))
    assert server.stop() == 0
    rejects = [record for record in records(path) if record["kind"] == "reject"]
    assert sum(record["count"] for record in rejects) == statuses[429] > 400
    assert verify(path)[0] == 0


def test_under_amnesia_nothing_is_written_to_a_file_and_fills_are_refused(
    audited: Callable[..., Live], tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    live = audited(audit__path=path, security__amnesia="true")
    answer = live.get("anything")
    assert (answer.status, answer["X-Reason"]) == (503, "amnesia")
    assert ask(live.server.admin, "/readyz").status == 503
    eventually(lambda: [one for one in records(live.server.out) if one["reason"] == "amnesia"])
    assert not path.exists()


def test_a_disk_that_cannot_be_written_is_told_and_stops_nothing(
    audited: Callable[..., Live], tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    path.write_text("something else\n")
    live = audited(audit__path=path)
    assert live.get("hello.txt", "POST").status == 405
    told = eventually(lambda: [line for line in live.server.events("audit") if line["level"] == "error"])
    assert "move it away" in told[0]["reason"]
    path.rename(tmp_path / "away")
    live.server.signal(signal.SIGUSR1)
    eventually(lambda: path.exists() and len(records(path)) == 2)
    assert path.read_text().count("405") == 1


def test_verify_says_what_is_not_there(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    assert verify(empty)[0] == 69
    assert verify(tmp_path / "absent")[0] == 69
    assert run("audit", "verify").returncode == 2
