"""The faults: each injects itself, proves that it took place, and puts everything back.

Process      the drill. What outlives a fault that is interrupted: nothing. A worker that was
             stopped is continued, a balloon ends with its standard input, the proxy with the loop.

A fault returns when it is over, which for one with a victim is when a successor serves or when
nobody came in time. What the clients lost to it is decided by `Outcome.explains`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_server.config.addresses import Address
from edge_server.drill.balloon import Balloon
from edge_server.drill.clients import Client
from edge_server.drill.instance import Grip, Instance
from edge_server.drill.journal import Journal, Loss
from edge_server.drill.proxy import Proxy
from edge_server.drill.result import Settings
from edge_server.errors import ResourceError

SETTLED_S = 1.2  # a process that dies younger is not replaced at once, on purpose
HEARTBEAT_SLACK_S = 2.0  # beyond the timeout, until a stopped worker must have been killed
_PROXY_EMPTY_WITHIN_S = 5.0
_NOTICED_S = 0.5  # how much earlier than the drill a client may learn of a death

Place = tuple[str, int]


@dataclass(frozen=True)
class Means:
    """What faults work with.

    Attributes:
        heartbeat_s: after how long the instance kills a worker that does not beat; None if never.
    """

    instance: Instance
    clients: Sequence[Client]
    journal: Journal
    settings: Settings
    heartbeat_s: float | None


@dataclass
class Outcome:
    """What a fault did.

    Attributes:
        began_s, cleared_s: monotonic seconds; a kill is cleared as soon as it is done.
        proofs: words and whether they held: what shows that it took place.
        replaced_s: seconds from `cleared_s` until a successor served; None where none did.
        victim: what the correlation ids of the killed worker begin with, if any client knew it.
        killed_s: when a worker was killed; None where none was.
        resets: connections that the proxy has reset.
        is_proxied: whether some clients went through the proxy.
    """

    began_s: float
    cleared_s: float = 0.0
    proofs: list[tuple[str, bool]] = field(default_factory=list)
    has_victim: bool = False
    replaced_s: float | None = None
    victim: str = ""
    killed_s: float | None = None
    resets: int = 0
    is_proxied: bool = False

    def explains(self, loss: Loss) -> bool:
        """Whether a request was lost because it was on the process that was killed, or behind the proxy."""
        if loss.is_proxied:
            return self.is_proxied
        if self.killed_s is None or loss.ended_s < self.killed_s - _NOTICED_S:
            return False
        if loss.process:
            return loss.process == self.victim
        return loss.began_s <= self.killed_s


def why_not(name: str, heartbeat_s: float | None) -> str:
    """Return why a fault cannot be injected into this instance; empty where it can."""
    if name == "stop-worker" and heartbeat_s is None:
        return "this instance does not kill workers that stop beating (workers.heartbeat_timeout)"
    return ""


async def inject(name: str, means: Means, hold_s: float) -> Outcome:
    """Inject a fault by name, and return when it is over.

    Raises:
        ResourceError: it cannot be injected here.
    """
    return await _FAULTS[name](means, hold_s)


async def _kill_worker(means: Means, hold_s: float) -> Outcome:
    return await _kill(means, await _place(means.instance, "worker", first=True))


async def _kill_sidecar(means: Means, hold_s: float) -> Outcome:
    return await _kill(means, await _place(means.instance, "sidecar", first=True))


async def _kill(means: Means, found: tuple[Place, int]) -> Outcome:
    place, pid = found
    grip = means.instance.grip(pid)
    try:
        await _settle(grip)
        outcome = Outcome(time.monotonic(), has_victim=True)
        # From here to the signal nothing is awaited, so no client learns of a process in between.
        if place[0] == "worker":
            outcome.victim = _process_of(grip, means.clients)
            outcome.killed_s = time.monotonic()
        outcome.began_s = outcome.cleared_s = time.monotonic()
        grip.send(signal.SIGKILL)
        outcome.proofs.append((f"process {pid} was killed", await grip.ended(5.0) is not None))
    finally:
        grip.close()
    await _await_successor(means, place, pid, outcome)
    return outcome


async def _stop_worker(means: Means, hold_s: float) -> Outcome:
    assert means.heartbeat_s is not None
    place, pid = await _place(means.instance, "worker", first=False)
    grip = means.instance.grip(pid)
    allowed_s = means.heartbeat_s + HEARTBEAT_SLACK_S
    try:
        await _settle(grip)
        victim = _process_of(grip, means.clients)
        outcome = Outcome(time.monotonic(), has_victim=True, victim=victim)
        grip.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(0.05)
            outcome.proofs.append((f"process {pid} was stopped", grip.is_stopped()))
            ended_s = await grip.ended(allowed_s)
        finally:
            _continue(grip)
    finally:
        grip.close()
    outcome.cleared_s = time.monotonic() if ended_s is None else ended_s
    outcome.killed_s = ended_s
    words = f"the supervisor killed it within {allowed_s:.1f} s"
    outcome.proofs.append((words, ended_s is not None))
    await _await_successor(means, place, pid, outcome)
    return outcome


async def _latency(means: Means, hold_s: float) -> Outcome:
    """Every second client goes through a proxy that delays and resets."""
    outcome = Outcome(time.monotonic(), is_proxied=True)
    proxy = Proxy(means.settings.through or means.instance.assets, means.settings.trouble)
    await proxy.start(Address("127.0.0.1", 0))
    behind = means.clients[::2]
    try:
        for client in behind:
            client.through = proxy.address
        await asyncio.sleep(hold_s)
    finally:
        for client in behind:
            client.through = None
        await _empty(proxy, behind)
        await proxy.close()
    outcome.cleared_s, outcome.resets = time.monotonic(), proxy.resets
    rows = means.journal.between(outcome.began_s, outcome.cleared_s)
    delayed = [row.latency_s for row in rows if row.is_proxied and row.status]
    least_s = means.settings.trouble.delay_s - means.settings.trouble.jitter_s
    words = f"{proxy.accepted} connections were delayed by {least_s * 1000:g} ms or more"
    outcome.proofs.append((words, bool(delayed) and min(delayed) >= least_s))
    return outcome


async def _memory(means: Means, hold_s: float) -> Outcome:
    outcome = Outcome(time.monotonic())
    balloon = Balloon(means.settings.balloon_bytes)
    try:
        await balloon.inflate()
        await asyncio.sleep(hold_s)
        held = balloon.resident_bytes()
    finally:
        await balloon.burst()
    outcome.cleared_s = time.monotonic()
    words = f"{held >> 20} MiB were held"
    outcome.proofs.append((words, held >= means.settings.balloon_bytes))
    return outcome


_FAULTS: Mapping[str, Callable[[Means, float], Awaitable[Outcome]]] = {
    "kill-worker": _kill_worker,
    "kill-sidecar": _kill_sidecar,
    "stop-worker": _stop_worker,
    "latency": _latency,
    "memory": _memory,
}


async def _place(instance: Instance, kind: str, *, first: bool) -> tuple[Place, int]:
    """Return the first or last place of a kind, and the pid that serves there."""
    found = sorted(item for item in (await instance.serving()).items() if item[0][0] == kind)
    if not found:
        raise ResourceError(f"the instance has no {kind} that serves")
    return found[0 if first else -1]


async def _settle(grip: Grip) -> None:
    young_s = SETTLED_S - grip.age_s(time.time())
    if young_s > 0:
        await asyncio.sleep(young_s)


def _process_of(grip: Grip, clients: Sequence[Client]) -> str:
    """Return what the correlation ids of a worker begin with; empty where no client talks to it."""
    ports = grip.client_ports()
    return next((client.process for client in clients if client.process and client.local_port in ports), "")


async def _await_successor(means: Means, place: Place, pid: int, outcome: Outcome) -> None:
    back_s = await means.instance.until(
        lambda serving: serving.get(place, pid) != pid, means.settings.limits.ready_within_s
    )
    outcome.replaced_s = None if back_s is None else max(0.0, back_s - outcome.cleared_s)


def _continue(grip: Grip) -> None:
    try:
        grip.send(signal.SIGCONT)
    except ResourceError:
        pass  # it has been killed, which is what was waited for


async def _empty(proxy: Proxy, behind: Sequence[Client]) -> None:
    deadline_s = time.monotonic() + _PROXY_EMPTY_WITHIN_S
    while any(client.is_asking_through(proxy.address) for client in behind):
        if time.monotonic() > deadline_s:
            return
        await asyncio.sleep(0.01)
