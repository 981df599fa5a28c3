"""The proof that misses are filled right: requests, what the origin was asked, and what must hold.

Talks HTTP to the asset plane and looks at the demo's own origin; knows nothing of the server's inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import blake3

from edge_server.demo.origin import GREETING, SLOW, Origin
from edge_server.demo.proof import Answer, Checked, Plane, expect, walk

CLIENTS = 200

_GREETING = "/edge/assets/greeting.txt"
_SLOW = "/edge/assets/slow.bin"


def prove_live(assets: Plane, admin: Plane, origin: Origin) -> Iterator[Checked]:
    """Yield one line for each thing that must hold; a failure is a line, too."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("a miss: filled over HTTPS, 200", lambda: _miss(assets, origin)),
        ("the second request: a hit, the same ETag", lambda: _hit(assets, origin)),
        ("a range of it: 206, without the origin", lambda: _range(assets, origin)),
        ("a host off the list: 403", lambda: _refused(assets, "@example.org/x", 403, "not_allowed")),
        ("what the origin does not have: 404", lambda: _refused(assets, "absent", 404, "not_found")),
        ("a hash that is not of the bytes: 502", lambda: _refused(assets, "lying.txt", 502, "etag_invalid")),
        (f"{CLIENTS} clients at once: one request to the origin", lambda: _storm(assets, origin)),
        ("readyz: 200", lambda: _ready(admin)),
    ]
    return walk(checks)


def _miss(assets: Plane, origin: Origin) -> str:
    answer = assets.get(_GREETING)
    _expect_greeting(answer)
    expect("Cache-Status", answer.field("Cache-Status"), "svc-edge; fwd=miss; stored")
    expect("requests to the origin", origin.asked["/greeting.txt"], 1)
    return answer.field("Cache-Status")


def _hit(assets: Plane, origin: Origin) -> str:
    answer = assets.get(_GREETING)
    _expect_greeting(answer)
    expect("Cache-Status", answer.field("Cache-Status"), "svc-edge; hit")
    expect("requests to the origin", origin.asked["/greeting.txt"], 1)
    return f"{answer.field('ETag')[:20]}…, Age {answer.field('Age')}"


def _range(assets: Plane, origin: Origin) -> str:
    answer = assets.get(_GREETING, Range="bytes=6-9")
    expect("status", answer.status, 206)
    expect("body", answer.body, GREETING[6:10])
    expect("requests to the origin", origin.asked["/greeting.txt"], 1)
    return answer.field("Content-Range")


def _refused(assets: Plane, path: str, status: int, reason: str) -> str:
    answer = assets.get(f"/edge/assets/{path}")
    expect("status", answer.status, status)
    expect("X-Reason", answer.field("X-Reason"), reason)
    return f"{status} {reason}"


def _storm(assets: Plane, origin: Origin) -> str:
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: _ask_alone(assets), range(CLIENTS)))
    expect("statuses", {answer.status for answer in answers}, {200})
    expect("the bytes are the origin's", {answer.body for answer in answers} == {SLOW}, True)
    expect("requests to the origin", origin.asked["/slow.bin"], 1)
    return f"{len(answers)} answers, {origin.asked['/slow.bin']} request"


def _ask_alone(assets: Plane) -> Answer:
    with closing(Plane(assets.url.removeprefix("http://"))) as alone:
        return alone.get(_SLOW)


def _ready(admin: Plane) -> str:
    answer = admin.get("/readyz")
    expect("status", answer.status, 200)
    return answer.body.decode().strip()


def _expect_greeting(answer: Answer) -> None:
    expect("status", answer.status, 200)
    expect("the bytes are the origin's", answer.body == GREETING, True)
    expect("ETag", answer.field("ETag"), f'"b3:{blake3.blake3(GREETING).hexdigest()}"')
