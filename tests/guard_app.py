"""A process that serves a WSGI application under the guard alone, for tests of the guard's API.

What a request is to do stands in its target: ``/raise``, ``/park?name=a&times=2``. What a test
asks for meanwhile goes over a socketpair whose end here is under ``guard.watch``: one JSON
object a packet, ``{"do": "connections"}``, answered by one.

    python -m tests.guard_app LISTENER CONTROL LIMITS    two descriptors, and JSON
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from edge_server import guard
from tests.servers import Place

LIMITS = {
    "header_timeout_s": 5.0,
    "body_timeout_s": 5.0,
    "idle_timeout_s": 30.0,
    "parked_timeout_s": 30.0,
    "min_send_rate": 0,
    "max_connections": 5000,
    "max_head_bytes": 16 << 10,
    "max_target_bytes": 8 << 10,
    "max_fields": 100,
    "max_body_bytes": 1 << 20,
    "warm_bytes": 32 << 20,
}
WITHIN_S = 10.0
STARTS_WITHIN_S = 30.0

StartResponse = Callable[..., Any]
Query = Mapping[str, str]


class GuardApp:
    """The process, seen from a test. A context manager; its end must be an exit that was asked for."""

    def __init__(
        self, host: str = "127.0.0.1", environ: Mapping[str, str] | None = None, **limits: float
    ) -> None:
        # A pipe that nobody reads would stop the process.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind((host, 0))
            listener.listen(4096)
            listener.setblocking(False)
            self.place = Place(*listener.getsockname()[:2])
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                kept = (listener.fileno(), theirs.fileno())
                command = [sys.executable, "-m", __name__, *map(str, kept), json.dumps({**LIMITS, **limits})]
                self.process = subprocess.Popen(
                    command, pass_fds=kept, stderr=self._errors, env={**os.environ, **(environ or {})}
                )
        self._control.settimeout(STARTS_WITHIN_S)
        assert json.loads(self._control.recv(1 << 20)) == "ready"
        self._control.settimeout(WITHIN_S)

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, what: str, **arguments: object) -> Any:
        """Have the process do something in its loop; return what came of it."""
        self._control.send(json.dumps({"do": what, **arguments}).encode())
        return json.loads(self._control.recv(1 << 20))

    def connections(self) -> dict[str, int]:
        """Return the client connections by state, without those states that none is in."""
        return {state: count for state, count in self.do("connections").items() if count}

    def counters(self) -> dict[str, int]:
        """Return the guard's counters."""
        told: dict[str, int] = self.do("counters")
        return told

    def end(self) -> str:
        """End the process; return what it wrote to standard error."""
        self._control.close()
        self.process.wait(timeout=WITHIN_S)
        with self._errors:
            self._errors.seek(0)
            error = self._errors.read().decode()
        assert self.process.returncode == 0, (self.process.returncode, error)
        return error

    def __enter__(self) -> GuardApp:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.process.kill()
            self.process.wait()
            self._errors.close()
        elif self.process.returncode is None:
            self.end()


class Inside:
    """The process, seen from inside: the application, the control socket, the tick."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._files: dict[tuple[str, ...], guard.File] = {}
        self._calls: dict[str, int] = {}
        self._cold: list[tuple[int, int, int, int]] = []
        self._asked = 0
        self._tokens: dict[str, int] = {}
        self._ticks: list[float] = []
        self._does_tick_fail = False

    def tick(self) -> None:
        if not self._ticks:
            guard.watch(self._control.fileno(), self.obey)
            self._control.send(json.dumps("ready").encode())
        self._ticks.append(time.monotonic())
        if self._does_tick_fail:
            raise RuntimeError("this tick was told to fail")

    def obey(self) -> None:
        """Do what the test asks for; end with it."""
        packet = self._control.recv(1 << 16)
        if not packet:
            os._exit(0)
        asked = json.loads(packet)
        told = getattr(self, f"do_{asked.pop('do')}")(**asked)
        self._control.send(json.dumps(told).encode())

    def do_connections(self) -> dict[str, int]:
        return guard.connections()

    def do_counters(self) -> dict[str, int]:
        return guard.counters()

    def do_repeat(self, sample_every: int = 0) -> None:
        guard.repeat(2, (0.0005, 0.5), sample_every)

    def do_hear_of_cold(self) -> None:
        guard.on_cold(lambda: self._cold.extend(guard.cold()))

    def do_cold(self) -> list[tuple[int, int, int, int]]:
        """Return what has been told to be cold since the last call."""
        told, self._cold = self._cold, []
        return told

    def do_go_on(self, token: int, may_wait: bool = False) -> bool:
        return guard.go_on(token, may_wait)

    def do_give_up(self, token: int) -> bool:
        return guard.give_up(token)

    def do_repeated(self) -> object:
        return guard.repeated()

    def do_forget_answers(self) -> None:
        guard.forget()

    def do_asked(self) -> int:
        """Return how often the application was called."""
        return self._asked

    def do_close_files(self) -> None:
        self._files.clear()

    def do_refusals(self) -> object:
        return guard.refusals()

    def do_resume(self, name: str) -> bool:
        return guard.resume(self._tokens[name])

    def do_resume_token(self, token: int) -> object:
        return guard.resume(token)

    def do_resume_all(self) -> int:
        """Resume whatever is parked; return how many were."""
        return sum(guard.resume(token) for token in self._tokens.values())

    def do_token(self, name: str) -> int:
        return self._tokens[name]

    def do_forget(self) -> None:
        """Forget which requests were parked, and whatever else is kept for tests to ask for."""
        self._tokens.clear()
        self._calls.clear()
        del self._ticks[1:]
        gc.collect()

    def do_sanitizer(self, function: str) -> int:
        """Call a function of the sanitizer that this process was started with."""
        called = getattr(ctypes.CDLL(None), function)
        called.restype = ctypes.c_size_t
        return int(called())

    def do_ticks(self) -> list[float]:
        return self._ticks

    def do_press_at(self, room: int, patience_s: float, interval_s: float) -> None:
        guard.press_at(room, patience_s, interval_s)

    def do_load(self) -> tuple[int, int, bool]:
        return guard.load()

    def do_least_wait(self) -> float:
        return guard.least_wait()

    def do_fail_ticks(self, does: bool) -> None:
        self._does_tick_fail = does

    def do_fail_watch(self) -> None:
        self._control.send(b'"failing"')
        raise RuntimeError("this watcher was told to fail")

    def do_stop_accepting(self) -> None:
        guard.stop_accepting()

    def do_close_after_answers(self) -> None:
        guard.close_after_answers()

    def do_close_idle(self, seconds: float) -> int:
        return guard.close_idle(seconds)

    def do_outside(self) -> list[str]:
        """Call what only makes sense while a request is answered; return what each raises."""
        return [
            _raised(guard.park),
            _raised(guard.peer),
            _raised(guard.arrived),
            _raised(guard.pressure),
            _raised(guard.replay_of),
            _raised(guard.may_wait),
            _raised(lambda: guard.remember(0, "", None, 0)),
            _raised(lambda: guard.send_memory(b"")),
            _raised(lambda: guard.File(os.open(os.devnull, os.O_RDONLY), 0, 0, 0).send(0, 0)),
            _raised(lambda: guard.File(os.open(os.devnull, os.O_RDONLY), 0, 0, 0).at_hand(0, 0)),
        ]

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        self._asked += 1
        answer = getattr(self, f"answer_{environ['PATH_INFO'].strip('/')}")
        if "remember" in query:
            made_from = self._file(query) if "from" in query else None
            guard.remember(int(query["remember"]), '"tag"', made_from, float(query.get("for", 0)))
        return answer(query, environ, start_response)

    def answer_text(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with a text that the target gives, as any application would."""
        body = query.get("text", "hello").encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return body

    def answer_file(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with bytes of a file; ``links=0``: even if it is replaced, ``wait=1``: even if cold."""
        file = self._file(query)
        length = int(query["length"]) if "length" in query else os.stat(query["path"]).st_size
        if "wait" in query:
            guard.may_wait()
        is_sent = file.send(int(query.get("start", 0)), length)
        if not is_sent:
            told = [("X-Cold", "1")] if is_sent is None else []
            start_response("503 Service Unavailable", [("Content-Length", "0"), *told])
        else:
            start_response("200 OK", [("Content-Length", query.get("announced", str(length)))])
        return query.get("own", "").encode()

    def _file(self, query: Query) -> guard.File:
        """Return the file of a target, as it was when it was first asked for in this way."""
        path = query.get("path", query.get("from", ""))
        key = (path, *(query.get(name, "") for name in ("size", "mtime", "links")))
        if key not in self._files:
            descriptor = os.open(path, os.O_RDONLY)
            now = os.fstat(descriptor)
            size, mtime_ns = int(query.get("size", now.st_size)), int(query.get("mtime", now.st_mtime_ns))
            self._files[key] = guard.File(descriptor, size, mtime_ns, int(query.get("links", 1)))
        return self._files[key]

    def answer_pressed(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with what speaks against the request, after keeping everybody waiting for `ms`."""
        pressed = guard.pressure()
        until_s = time.monotonic() + int(query.get("ms", 0)) / 1000
        while time.monotonic() < until_s:
            pass
        return self.answer_text({"text": str(pressed)}, environ, start_response)

    def answer_replay(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with the parking that this request comes from."""
        return self.answer_text({"text": str(guard.replay_of())}, environ, start_response)

    def answer_memory(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with a buffer that is overwritten as soon as it was announced."""
        length = int(query["length"])
        buffer = bytearray(pattern(length))
        guard.send_memory(memoryview(buffer))
        buffer[:] = bytes(length)
        start_response("200 OK", [("Content-Length", str(length))])
        return b""

    def answer_body(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Answer with a body of one length that announces another."""
        headers = [("Content-Length", query["announced"])] if "announced" in query else []
        start_response(query.get("status", "200 OK"), headers)
        body = pattern(int(query["given"]))
        kind = query.get("as", "bytes")
        if kind == "bytes":
            return body
        pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
        return pieces if kind == "list" else iter(pieces)

    def answer_wrapped(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Answer with a file in bjoern's wsgi.file_wrapper."""
        headers = [("Content-Length", query["announced"])] if "announced" in query else []
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](open(query["path"], "rb"), 1000)

    def answer_head(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with the status and a field that the target gives."""
        field = (query.get("name", "X-Field"), query.get("value", "value"))
        start_response(query.get("status", "200 OK"), [("Content-Length", "2"), field])
        return b"ok"

    def answer_fields(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with header lines that go past bjoern."""
        guard.send_fields(guard.header_lines([("X-One", "1"), ("X-Two", query.get("value", "2"))]))
        return self.answer_text(query, environ, start_response)

    def answer_raise(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Fail in one of the places where an application can."""
        when = query["when"]
        if when == "before":
            raise LookupError("told to fail")
        if when == "planned":
            guard.send_memory(b"secret")
            guard.send_fields(b"\r\nX-Secret: 1")
            raise LookupError("told to fail")
        if when == "silent":
            return b"no head"
        if when == "parked":
            guard.park()
            raise LookupError("told to fail")
        start_response("200 OK", [("Content-Length", "3000")])
        if when == "after":
            raise LookupError("told to fail")
        return _failing(0 if when == "first" else 1)

    def answer_park(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Park so many times under a name, then answer with the number of calls."""
        name = query["name"]
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        if calls > int(query.get("times", 1)):
            if "pressed" in query:
                return self.answer_pressed({}, environ, start_response)
            if "replay" in query:
                return self.answer_text({"text": str(guard.replay_of())}, environ, start_response)
            return self.answer_text({"text": f"{name} {calls}"}, environ, start_response)
        if "planned" in query:
            guard.send_memory(b"stale " * 10)
            guard.send_fields(b"\r\nX-Stale: 1")
        self._tokens[name] = guard.park()
        if "at-once" in query:
            resumed = [guard.resume(self._tokens[name]) for _ in range(2)]
            assert resumed == [True, False]
        if "twice" in query:
            self._tokens[name] = guard.park()
        if "open" in query:
            start_response("200 OK", [])
            return iter([b"never", b"to be seen"])
        if query.get("silent"):
            start_response("200 OK", [("Content-Length", "0")])
            return b""
        start_response("200 OK", [("Content-Length", "14")])
        return b"never to be seen"

    def answer_who(self, query: Query, environ: dict[str, Any], start_response: StartResponse) -> bytes:
        """Answer with what the guard knows of the client."""
        told = {
            "peer": guard.peer(),
            "remote": environ["REMOTE_ADDR"],
            "arrived": guard.arrived(),
            "now": time.monotonic(),
        }
        return self.answer_text({"text": json.dumps(told)}, environ, start_response)


def pattern(length: int) -> bytes:
    """Return bytes in which every place is recognised by its neighbours."""
    words = b"".join(at.to_bytes(4, "big") for at in range(length // 4 + 1))
    return words[:length]


def _failing(pieces: int) -> Iterator[bytes]:
    for _ in range(pieces):
        yield pattern(1000)
    raise LookupError("told to fail")


def _raised(function: Callable[[], object]) -> str:
    try:
        return f"returned {function()!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main(listener: str, control: str, limits: str) -> None:
    inside = Inside(socket.socket(fileno=int(control)))
    served = socket.socket(fileno=int(listener))
    guard.serve(served, inside, guard.Limits(**json.loads(limits)), inside.tick)


if __name__ == "__main__":
    main(*sys.argv[1:])
