from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from falcon import testing

from edge_server.http.reasons import REASONS
from edge_server.observe import logs, readiness
from edge_server.roles import Brief
from edge_server.shm.reload_record import Result
from edge_server.shm.scoreboard import Field, Gate, Scoreboard
from edge_server.sidecar import admin, main, status_page
from edge_server.sidecar import status as status_module
from edge_server.sidecar.admin import make_app
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.traffic import Traffic

READ = ["/", "/metrics", "/healthz", "/readyz", "/api/status", "/api/packs"]
POSTED = ["/api/drain", "/api/undrain", "/api/reload"]


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(
        admin, "log", lambda event, level="info", **fields: lines.append({"event": event, **fields})
    )
    monkeypatch.setattr(logs._Process, "_log", None)
    return lines


@pytest.fixture
def client(brief: Brief) -> testing.TestClient:
    row = brief.scoreboard.row(brief.row)
    traffic = Traffic(brief.metrics_dir, brief.scoreboard)
    app = make_app(main._plane(brief, row, Hashing(brief.catalog), traffic))
    return testing.TestClient(app, headers={"Host": "127.0.0.1:9909"})


@pytest.fixture
def supervisor(scoreboard: Scoreboard, brief: Brief) -> Iterator[None]:
    """Does with drain requests what the supervisor does."""
    done = threading.Event()
    row = scoreboard.row(brief.row)

    def act() -> None:
        known = 0
        while not done.is_set():
            word = row.get(Field.DRAIN_REQUEST)
            if word != known:
                known = word
                scoreboard.is_operator_drain = bool(word & 1)
            time.sleep(0.005)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.parametrize("path", READ)
def test_every_answer_carries_the_common_fields(client: testing.TestClient, path: str) -> None:
    answer = client.simulate_get(path)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content) > 0
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Date"].endswith("GMT")
    assert answer.headers["X-Corr-ID"]


@pytest.mark.parametrize("path", READ)
def test_head_is_get_without_its_body(client: testing.TestClient, path: str) -> None:
    answer = client.simulate_head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.headers["Content-Type"] == client.simulate_get(path).headers["Content-Type"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [(method, path, "GET, HEAD") for path in READ for method in ("POST", "DELETE", "OPTIONS")]
    + [(method, path, "POST") for path in POSTED for method in ("GET", "HEAD", "PUT", "OPTIONS")],
)
def test_other_methods_are_refused_with_those_allowed(
    client: testing.TestClient, method: str, path: str, allow: str
) -> None:
    answer = client.simulate_request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
    assert answer.headers["X-Reason"] == "method"


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [("GET", "/nothing", "not_found"), ("POST", "/metrics", "method"), ("GET", "/api/status/x", "not_found")],
)
def test_a_refusal_is_a_problem_document(
    client: testing.TestClient, method: str, path: str, reason: str
) -> None:
    answer = client.simulate_request(method, path, headers={"X-Corr-ID": "probe-1"})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Reason"] == reason
    assert answer.json == {
        "type": "about:blank",
        "title": REASONS[reason].title,
        "status": answer.status_code,
        "reason": reason,
        "corr_id": "probe-1",
    }


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<script>", ""])
def test_a_correlation_id_that_is_not_sane_is_replaced(client: testing.TestClient, given: str) -> None:
    assert client.simulate_get("/healthz", headers={"X-Corr-ID": given}).headers["X-Corr-ID"] != given


def test_a_defect_is_a_500_that_tells_nothing_and_is_logged(
    client: testing.TestClient, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, object]]
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("inner details")

    monkeypatch.setattr(status_page, "render", fail)
    answer = client.simulate_get("/")
    assert (answer.status_code, answer.headers["X-Reason"]) == (500, "internal")
    assert "inner details" not in answer.text
    assert "inner details" in str(logged[0]["traceback"])


@pytest.mark.parametrize("gates", [Gate(0), Gate.WORKERS_UP, Gate.NOT_DRAINING | Gate.SIDECAR_UP])
def test_readyz_is_the_common_report(client: testing.TestClient, scoreboard: Scoreboard, gates: Gate) -> None:
    scoreboard.missing_gates = gates
    told = readiness.report(scoreboard)
    answer = client.simulate_get("/readyz")
    assert (answer.status_code, answer.content) == (told.status, told.body)
    assert answer.headers.get("Retry-After") == ("1" if gates else None)


def test_status_tells_what_runs_and_names_no_file(client: testing.TestClient, scoreboard: Scoreboard) -> None:
    scoreboard.missing_gates = Gate.PACKS_VERIFIED
    answer = client.simulate_get("/api/status")
    status = answer.json
    assert status["mode"] == "offline"
    assert (status["generation"], status["slots"]) == (7, 3)
    assert (status["ready"], status["gates"]["packs_verified"]) == (False, False)
    assert status["gates"]["config_valid"] is True
    (worker,) = status["workers"]
    assert (worker["slot"], worker["identity"], worker["state"], worker["cpu"]) == (0, "0a", "serving", 1)
    assert worker["pss_bytes"] > 0
    assert [sidecar["identity"] for sidecar in status["sidecars"]] == ["sidecar-a"]
    assert status["addresses"] == {"assets": "127.0.0.1:8080", "admin": "127.0.0.1:9909"}
    assert status["packs"] == client.simulate_get("/api/packs").json
    assert "/secret" not in answer.text


@pytest.mark.parametrize(("without_effect", "told"), [((), 5.0), (("workers.heartbeat_timeout",), None)])
def test_status_tells_whether_a_worker_that_hangs_is_killed(
    client: testing.TestClient,
    without_effect: tuple[str, ...],
    told: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_module, "WITHOUT_EFFECT", without_effect)
    assert client.simulate_get("/api/status").json["heartbeat_timeout_s"] == told


def test_packs_are_told_with_their_sizes(client: testing.TestClient) -> None:
    assert client.simulate_get("/api/packs").json == [
        {
            "name": "site",
            "kind": "directory",
            "entries": 1,
            "tiles": 0,
            "bytes": 0,
            "min_zoom": None,
            "max_zoom": None,
            "verified": "full",
            "tilejson": None,
            "preview": None,
        }
    ]


def test_drain_and_undrain_are_done_by_the_supervisor(
    client: testing.TestClient, supervisor: None, scoreboard: Scoreboard
) -> None:
    for path, wanted in (("/api/drain", True), ("/api/drain", True), ("/api/undrain", False)):
        answer = client.simulate_post(path)
        assert (answer.status_code, answer.json) == (200, {"draining": wanted, "wanted": wanted})
        assert scoreboard.is_operator_drain == wanted


def test_a_drain_that_is_not_yet_done_is_accepted(
    client: testing.TestClient, scoreboard: Scoreboard, brief: Brief, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "CONFIRM_S", 0.02)
    answer = client.simulate_post("/api/drain")
    assert (answer.status_code, answer.json) == (202, {"draining": False, "wanted": True})
    assert scoreboard.row(brief.row).get(Field.DRAIN_REQUEST) & 1


def test_a_reload_is_asked_of_the_supervisor_and_not_waited_for(
    client: testing.TestClient, scoreboard: Scoreboard, brief: Brief
) -> None:
    scoreboard.reloads.start(7, 0)
    scoreboard.reloads.begin()
    answer = client.simulate_post("/api/reload")
    assert (answer.status_code, answer.json) == (202, {"after": 1})
    first = scoreboard.row(brief.row).get(Field.ASKED_NS)
    assert first > 0
    client.simulate_post("/api/reload")
    assert scoreboard.row(brief.row).get(Field.ASKED_NS) > first


def test_the_last_reload_is_told_by_status_page_and_metrics(
    client: testing.TestClient, scoreboard: Scoreboard
) -> None:
    scoreboard.reloads.start(7, 5_000_000_000)
    scoreboard.reloads.begin()
    assert client.simulate_get("/api/status").json["last_reload"]["running"]
    scoreboard.reloads.end(Result.FAILED, 7, 9_000_000_000, "no <such> pack")
    assert client.simulate_get("/api/status").json["last_reload"] == {
        "result": "failed",
        "reason": "no <such> pack",
        "at": "1970-01-01T00:00:09.000+00:00",
        "generation": 7,
        "number": 1,
        "running": False,
    }
    assert "no &lt;such&gt; pack" in client.simulate_get("/").text
    metrics = client.simulate_get("/metrics").text
    assert "edge_config_last_reload_successful 0.0" in metrics
    assert "edge_config_last_reload_success_timestamp_seconds 5.0" in metrics


def test_two_requests_are_never_the_same_word(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "CONFIRM_S", 0.0)
    row = brief.scoreboard.row(brief.row)
    drain = admin.Drain(brief.scoreboard, row)
    words = set()
    for _ in range(5):
        drain.ask(True)
        words.add(row.get(Field.DRAIN_REQUEST))
    assert len(words) == 5
    assert all(word & 1 for word in words)


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"X-Forwarded-For": "10.0.0.1"}],
    ids=["page elsewhere", "rebound name", "proxied"],
)
@pytest.mark.parametrize("path", POSTED)
def test_who_may_not_drain_is_refused_and_logged(
    client: testing.TestClient,
    scoreboard: Scoreboard,
    brief: Brief,
    path: str,
    headers: dict[str, str],
    logged: list[dict[str, object]],
) -> None:
    answer = client.simulate_post(path, headers={"Host": "127.0.0.1:9909", **headers})
    assert (answer.status_code, answer.headers["X-Reason"]) == (403, "not_allowed")
    row = scoreboard.row(brief.row)
    assert (row.get(Field.DRAIN_REQUEST), row.get(Field.ASKED_NS)) == (0, 0)
    (line,) = logged
    assert (line["event"], line["route"], line["reason"]) == ("reject", path, "not_allowed")
    assert "evil" not in json.dumps(line)


def test_the_page_escapes_what_it_shows_and_allows_its_own_script_only(client: testing.TestClient) -> None:
    answer = client.simulate_get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "0a" in answer.text
    assert "site" in answer.text
