"""What systemd is told: ready, stopping, alive. Follows sd_notify(3), one datagram each.

Does nothing where $NOTIFY_SOCKET is not set, and never fails: a service manager that is
gone is no reason to stop serving.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager that started this process; made from its environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._beat_every_s = _watchdog_s(environ) / 2
        self._next_beat_s = 0.0

    def ready(self, status: str) -> None:
        """Say that start-up, or a reload, is over."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in one line how the service is."""
        self._send(f"STATUS={status}")

    def reloading(self, status: str, now_s: float) -> None:
        """Say that a reload has begun, which `ready` ends; `now_s` is monotonic, as sd_notify(3) wants it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(now_s * 1e6)}", f"STATUS={status}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1", "STATUS=draining")

    def beat(self, now_s: float) -> None:
        """Say that the loop turns, twice per watchdog interval; `now_s` is monotonic."""
        if self._beat_every_s and now_s >= self._next_beat_s:
            self._next_beat_s = now_s + self._beat_every_s
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass


def _address(name: str) -> str | None:
    """Return the socket's address; a leading @ stands for the abstract namespace."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return the watchdog interval meant for this process, 0 for none (sd_watchdog_enabled(3))."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    interval_us = environ.get("WATCHDOG_USEC", "")
    return int(interval_us) / 1e6 if interval_us.isdigit() else 0.0
