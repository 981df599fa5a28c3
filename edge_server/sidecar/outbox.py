"""The outbox: answers to workers, whatever the channels take at the moment.

Process      the sidecar; any of its threads sends.
Memory       at most KEPT packets a channel: a worker that reads none of them is stuck, and is killed by its
             supervisor; its clients go with it.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Mapping

KEPT = 8192


class Outbox:
    """Packets that are still to be sent, in order.

    Args:
        channels: the sidecar's ends, by the worker's identity.
    """

    def __init__(self, channels: Mapping[str, socket.socket]) -> None:
        self._channels = channels
        self._waiting: dict[str, deque[bytes]] = {name: deque(maxlen=KEPT) for name in channels}
        self._lock = threading.Lock()

    def send(self, identity: str, packet: bytes) -> None:
        """Send now, or with a later `flush`."""
        with self._lock:
            waiting = self._waiting[identity]
            waiting.append(packet)
            self._drain(identity, waiting)

    def post(self, identity: str, packet: bytes) -> None:
        """Send with the next `flush`."""
        with self._lock:
            self._waiting[identity].append(packet)

    def flush(self) -> None:
        """Send what has waited, as far as the channels take it."""
        with self._lock:
            for identity, waiting in self._waiting.items():
                self._drain(identity, waiting)

    def _drain(self, identity: str, waiting: deque[bytes]) -> None:
        channel = self._channels[identity]
        while waiting:
            try:
                channel.send(waiting[0])
            except BlockingIOError:
                return
            waiting.popleft()
