"""The instance under the drill: what its admin plane tells, and signals to its children alone.

Process      the drill. Signals workers and sidecar of this instance, and nothing else: the
             supervisor is who listens on the admin address and is the parent of every process in
             ``/api/status``; a signal goes through a pidfd whose process is looked at after it was
             opened, so that no pid that was reused in between is ever signalled.
Errors       ResourceError where there is no such instance on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import psutil

from edge_server.config.addresses import Address, parse_address
from edge_server.drill.answers import BadAnswer, fetch
from edge_server.errors import ResourceError

Status = dict[str, Any]
Serving = dict[tuple[str, int], int]  # place, e.g. ("worker", 0), to the pid that serves there

NO_ANSWER = (OSError, EOFError, BadAnswer, asyncio.TimeoutError)
_POLL_S = 0.02
_POLL_WITHIN_S = 1.0


class Instance:
    """One running instance on this machine, made by `find`.

    Attributes:
        admin, assets: its planes.
        supervisor: its pid.
        first: what ``/api/status`` answered when it was found.
    """

    def __init__(self, admin: Address, assets: Address, supervisor: int, first: Status) -> None:
        self.admin = admin
        self.assets = assets
        self.supervisor = supervisor
        self.first = first

    @classmethod
    async def find(cls, admin: Address) -> Instance:
        """Return the instance whose admin plane this is.

        Raises:
            ResourceError: none answers there, or its processes are not on this machine, or not
                visible to this user.
        """
        try:
            status = await read_status(admin)
        except NO_ANSWER as error:
            raise ResourceError(f"no instance answers at {admin}: {error or 'not in time'}") from error
        assets = parse_address(status["addresses"]["assets"]).from_here
        return cls(admin, assets, supervisor_of(admin, status), status)

    async def status(self) -> Status:
        """Return what ``/api/status`` answers now; raises one of `NO_ANSWER`."""
        return await read_status(self.admin, _POLL_WITHIN_S)

    async def metrics(self) -> bytes:
        """Return what ``/metrics`` answers now; raises one of `NO_ANSWER`."""
        return (await fetch(self.admin, "/metrics", within_s=10)).body

    async def is_ready(self, plane: Address) -> bool:
        """Whether ``/readyz`` of a plane answers 200, within a second."""
        try:
            return (await fetch(plane, "/readyz", within_s=_POLL_WITHIN_S)).status == 200
        except NO_ANSWER:
            return False

    async def serving(self) -> Serving:
        """Return the places whose process serves; raises one of `NO_ANSWER`."""
        status = await self.status()
        return {
            ("worker" if kind == "workers" else "sidecar", told["slot"]): told["pid"]
            for kind in ("workers", "sidecars")
            for told in status[kind]
            if told["state"] == "serving"
        }

    async def until(self, holds: Callable[[Serving], bool], within_s: float) -> float | None:
        """Return the monotonic time when something first holds of `serving`; None if not in time."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while loop.time() < deadline_s:
            try:
                if holds(await self.serving()):
                    return loop.time()
            except NO_ANSWER:
                pass
            await asyncio.sleep(_POLL_S)
        return None

    def grip(self, pid: int) -> Grip:
        """Return a hold on a child of the supervisor.

        Raises:
            ResourceError: it is none, or is gone.
        """
        return Grip(pid, self.supervisor)


class Grip:
    """A child of the instance, held by pidfd; `close` when it is not needed any more.

    Attributes:
        pid: of the process.
    """

    def __init__(self, pid: int, supervisor: int) -> None:
        try:
            self._fd = os.pidfd_open(pid)
        except OSError as error:
            raise ResourceError(f"process {pid} is gone: {error.strerror}") from error
        self.pid = pid
        self._supervisor = supervisor
        if not self._is_child():
            os.close(self._fd)
            raise ResourceError(f"process {pid} is not a child of the supervisor {supervisor}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal.

        Raises:
            ResourceError: it is no child of the supervisor any more, or may not be signalled.
        """
        if not self._is_child():
            raise ResourceError(f"process {self.pid} is not a child of the supervisor {self._supervisor}")
        try:
            signal.pidfd_send_signal(self._fd, number)
        except OSError as error:
            raise ResourceError(f"process {self.pid} cannot be signalled: {error.strerror}") from error

    async def ended(self, within_s: float) -> float | None:
        """Return the monotonic time when it ended; None if it has not in time."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._fd, ended.set)  # pidfd_open(2): readable when the process has ended
        try:
            await asyncio.wait_for(ended.wait(), within_s)
            return loop.time()
        except asyncio.TimeoutError:
            return None
        finally:
            loop.remove_reader(self._fd)

    def client_ports(self) -> set[int]:
        """Return the ports of the clients that it has a connection with."""
        try:
            return {end.raddr.port for end in _connections(psutil.Process(self.pid)) if end.raddr}
        except psutil.Error:
            return set()

    def is_stopped(self) -> bool:
        """Whether it is stopped by a signal."""
        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False

    def age_s(self, now_s: float) -> float:
        """Return how long ago it was started, to 10 ms; `now_s` is wall time."""
        try:
            return now_s - float(psutil.Process(self.pid).create_time())
        except psutil.Error:
            return 0.0

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)

    def _is_child(self) -> bool:
        # The pidfd was opened first: what has this pid now, and is alive, is what it stands for.
        try:
            return bool(psutil.Process(self.pid).ppid() == self._supervisor)
        except psutil.Error:
            return False


async def read_status(admin: Address, within_s: float = 5.0) -> Status:
    """Return what ``/api/status`` answers.

    Raises:
        BadAnswer: it is not that of an instance; otherwise one of `NO_ANSWER`.
    """
    answer = await fetch(admin, "/api/status", within_s=within_s)
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("service") != "svc-edge":
        raise BadAnswer("what answers is not svc-edge")
    return document


def supervisor_of(admin: Address, status: Status) -> int:
    """Return the pid of the process that owns an instance.

    Raises:
        ResourceError: the processes of `status` have no common parent that listens on `admin`: they
            run in another PID namespace or on another machine, or this user may not look.
    """
    pids = [told["pid"] for kind in ("workers", "sidecars") for told in status[kind] if told["pid"]]
    try:
        (parent,) = {psutil.Process(pid).ppid() for pid in pids}
        listens_on = {end.laddr.port for end in _connections(psutil.Process(parent)) if not end.raddr}
    except (psutil.Error, ValueError):
        parent, listens_on = 0, set()
    if admin.port not in listens_on:
        raise ResourceError(
            f"the processes of the instance at {admin} are not to be found here: the drill must run on the "
            "same machine, in the same container and as the same user, without a proxy in between"
        )
    return parent


def _connections(process: psutil.Process) -> list[Any]:
    """psutil 6.0 renamed the method."""
    read = getattr(process, "net_connections", None) or process.connections
    return list(read("tcp"))
