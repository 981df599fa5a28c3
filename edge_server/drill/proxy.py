"""A TCP proxy that makes a network worse: delay, jitter, resets. Portable; needs no privilege.

Process      any with an asyncio loop: the drill's own, or ``svc-edge drill proxy``.
Memory       at most `_CHUNK_BYTES` times `_CHUNKS_HELD` in flight a direction and connection; who
             sends faster is read slower.
Lifetime     from `start` to `close`, which ends every connection.

What the server sends is delayed, so a delay is added once to each round trip; bytes keep their
order and are never changed. An error is a reset of the connection in place of passing on what
the client has just sent, as a failing link does it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from dataclasses import dataclass

from edge_server.config.addresses import Address

_CHUNK_BYTES = 64 << 10
_CHUNKS_HELD = 64
_CONNECT_WITHIN_S = 5.0
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, 0 seconds

_Chunk = tuple[float, bytes]  # loop time when it may pass, bytes; empty bytes are the end


@dataclass(frozen=True)
class Trouble:
    """What is done to traffic.

    Attributes:
        delay_s, jitter_s: each piece from the server waits ``delay_s`` plus or minus up to ``jitter_s``.
        error_rate: share of the client's pieces, about one a request, that become a reset.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    error_rate: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.jitter_s <= self.delay_s and 0 <= self.error_rate <= 1):
            raise ValueError("0 <= jitter <= delay and 0 <= error rate <= 1 must hold")


class Proxy:
    """Listens on a loopback address and passes connections on.

    Attributes:
        trouble: may be set at any time; what has not been delayed yet obeys the new one.
        address: where it listens; known after `start`.
        accepted, resets: connections so far, and those that it has reset on purpose.
    """

    def __init__(self, to: Address, trouble: Trouble | None = None, seed: int | None = None) -> None:
        self.trouble = trouble or Trouble()
        self.address = Address("", 0)
        self.accepted = 0
        self.resets = 0
        self._to = to
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, listen: Address) -> None:
        """Listen; port 0 picks one.

        Raises:
            ValueError: not a loopback address.
            OSError: the address is not to be had.
        """
        if not listen.is_loopback:
            raise ValueError(f"{listen} is not a loopback address")
        self._server = await asyncio.start_server(self._serve, listen.host, listen.port, limit=_CHUNK_BYTES)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = Address(host, port)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.accepted += 1
        try:
            await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # close() ends it; a cancelled handler would be logged as a defect
        finally:
            self._running.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            opening = asyncio.open_connection(self._to.host, self._to.port, limit=_CHUNK_BYTES)
            there_reader, there_writer = await asyncio.wait_for(opening, _CONNECT_WITHIN_S)
        except (OSError, asyncio.TimeoutError):
            _reset(writer)
            return
        ways = [
            asyncio.ensure_future(self._to_server(reader, there_writer, writer)),
            asyncio.ensure_future(self._to_client(there_reader, writer)),
        ]
        try:
            await asyncio.gather(*ways)
        except OSError:
            _reset(writer)  # whoever was cut off on the other side is cut off on this one
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            there_writer.close()

    async def _to_server(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, here: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self._random.random() < self.trouble.error_rate:
                self.resets += 1
                _reset(here)
                raise ConnectionResetError("injected")
            there.write(data)
            await there.drain()
        there.write_eof()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[_Chunk] = asyncio.Queue(_CHUNKS_HELD)
        reading = asyncio.ensure_future(self._stamp(reader, queue))
        loop = asyncio.get_running_loop()
        try:
            while (chunk := await queue.get())[1]:
                due_s, data = chunk
                if (wait_s := due_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
            await reading  # raises what ended it
            writer.write_eof()
        finally:
            reading.cancel()

    async def _stamp(self, reader: asyncio.StreamReader, queue: asyncio.Queue[_Chunk]) -> None:
        """Read, and say of each piece when it may pass: never before the one in front of it."""
        loop = asyncio.get_running_loop()
        last_s = 0.0
        try:
            while data := await reader.read(_CHUNK_BYTES):
                trouble = self.trouble
                jitter_s = self._random.uniform(-trouble.jitter_s, trouble.jitter_s)
                last_s = max(last_s, loop.time() + trouble.delay_s + jitter_s)
                await queue.put((last_s, data))
        except OSError:
            await queue.put((last_s, b""))
            raise
        await queue.put((last_s, b""))


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that its client gets RST and not an end that looks orderly."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()
