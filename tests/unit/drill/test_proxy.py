"""The proxy between a real client and a real server on the loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from edge_server.config.addresses import Address
from edge_server.drill.proxy import Proxy, Trouble

WITHIN_S = 20
LOOPBACK = Address("127.0.0.1", 0)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


def through(trouble: Trouble, talk: Talk, server: Talk = echo) -> Proxy:
    """Let `talk` speak with `server` through a proxy; return the proxy as it was at the end."""

    async def run() -> Proxy:
        listening = await asyncio.start_server(server, "127.0.0.1", 0)
        proxy = Proxy(Address(*listening.sockets[0].getsockname()), trouble, seed=1)
        await proxy.start(LOOPBACK)
        reader, writer = await asyncio.open_connection(proxy.address.host, proxy.address.port)
        try:
            await asyncio.wait_for(talk(reader, writer), WITHIN_S)
        finally:
            writer.close()
            await proxy.close()
            listening.close()
        return proxy

    return asyncio.run(run())


def test_bytes_pass_unchanged_in_order_and_in_any_amount() -> None:
    sent = bytes(range(256)) * 4096 * 8  # 8 MiB: more than everything on the way can hold
    received = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        while data := await reader.read(1 << 16):
            received.extend(data)
        await sending

    through(Trouble(0.002, 0.002), talk)
    assert received == sent


def test_an_answer_comes_no_sooner_than_the_delay() -> None:
    took: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(5):
            began_s = time.monotonic()
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            took.append(time.monotonic() - began_s)

    through(Trouble(0.050, 0.010), talk)
    assert min(took) >= 0.040


def test_without_trouble_nothing_is_delayed_on_purpose() -> None:
    took: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(20):
            began_s = time.monotonic()
            writer.write(b"hello")
            await reader.readexactly(5)
            took.append(time.monotonic() - began_s)

    proxy = through(Trouble(), talk)
    assert min(took) < 0.040
    assert (proxy.accepted, proxy.resets) == (1, 0)


def test_an_error_is_a_reset_and_is_counted() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(5)

    assert through(Trouble(error_rate=1.0), talk).resets == 1


def test_some_of_many_requests_are_reset_at_the_rate_asked_for() -> None:
    answered: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while len(answered) < 500:
                writer.write(b"x")
                answered.append(await reader.readexactly(1))
        except ConnectionResetError:
            pass

    assert through(Trouble(error_rate=0.1), talk).resets == 1
    assert 0 < len(answered) < 100


def test_a_server_that_ends_is_an_end_for_the_client() -> None:
    async def goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"goodbye")
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"goodbye"

    through(Trouble(0.01), talk, goodbye)


def test_where_nobody_listens_the_client_is_reset() -> None:
    async def run() -> None:
        closed = await asyncio.start_server(echo, "127.0.0.1", 0)
        to = Address(*closed.sockets[0].getsockname())
        closed.close()
        proxy = Proxy(to)
        await proxy.start(LOOPBACK)
        reader, writer = await asyncio.open_connection(proxy.address.host, proxy.address.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), WITHIN_S)
        writer.close()
        await proxy.close()

    asyncio.run(run())


def test_closing_ends_connections_that_are_open() -> None:
    async def run() -> None:
        has_come = asyncio.Event()

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(5))
            has_come.set()
            await reader.read()
            writer.close()

        listening = await asyncio.start_server(tell, "127.0.0.1", 0)
        proxy = Proxy(Address(*listening.sockets[0].getsockname()), Trouble(5.0))
        await proxy.start(LOOPBACK)
        reader, writer = await asyncio.open_connection(proxy.address.host, proxy.address.port)
        writer.write(b"hello")
        await asyncio.wait_for(has_come.wait(), WITHIN_S)
        began_s = time.monotonic()
        await proxy.close()
        assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
        assert time.monotonic() - began_s < 5.0
        writer.close()
        listening.close()

    asyncio.run(run())


def test_the_proxy_serves_this_machine_only() -> None:
    with pytest.raises(ValueError, match="loopback"):
        asyncio.run(Proxy(Address("127.0.0.1", 1)).start(Address("0.0.0.0", 0)))


@pytest.mark.parametrize("given", [(0.01, 0.02, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.1), (0.0, 0.0, -0.1)])
def test_trouble_that_makes_no_sense_is_refused(given: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Trouble(*given)
