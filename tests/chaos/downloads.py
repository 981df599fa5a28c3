"""Downloads that take their time."""

from __future__ import annotations

import threading
import time

from blake3 import blake3

from tests.servers import Place
from tests.wire import Connection

SLOW_READS = 24  # pieces in which a slow client reads, with a pause after each


class SlowDownload(threading.Thread):
    """A client that reads a large body with pauses.

    Attributes:
        digest: of what it has got.
        error: what ended it early.
    """

    def __init__(self, place: Place, path: str, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.digest = b""
        self.error: Exception | None = None
        self.has_begun = threading.Event()
        self._pause_s = pause_s
        self._place = place
        self._path = path

    def run(self) -> None:
        try:
            with Connection(self._place, receive_buffer=65536) as connection:
                connection.send(f"/edge/assets/{self._path}")
                length = connection.body_length(connection.read_head(), "GET")
                hasher = blake3()
                for number in range(SLOW_READS):
                    end = length * (number + 1) // SLOW_READS
                    hasher.update(connection.read_exactly(end - length * number // SLOW_READS))
                    self.has_begun.set()
                    time.sleep(self._pause_s)
                self.digest = hasher.digest()
        except (OSError, AssertionError) as error:
            self.error = error
            self.has_begun.set()

    def is_of(self, data: bytes) -> bool:
        """Whether it has got exactly these bytes."""
        return self.digest == blake3(data).digest()
