"""Building a generation: in a child, so that the supervisor goes on watching meanwhile.

Process      the builder: forked by the supervisor for one generation, which ends it with
             itself. It loads the configuration, mounts and verifies the packs, and lays the
             catalog out in segments that carry the supervisor's name.
Hands over   through a socket: a dot now and then as a sign of life, the first ones with the
             descriptors of the archives; then one pickle of `Built`, or of why there is none.
             The supervisor unpickles only what its own child has sent.
Lifetime     one that crashes, or is silent for too long, is a failed reload: what it has left in
             /dev/shm is removed, and nothing else has changed.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

from edge_server.config.load import Loaded
from edge_server.config.schema import Config
from edge_server.errors import EdgeError
from edge_server.observe.logs import log
from edge_server.packs.mount import mount
from edge_server.packs.reader import Pack, PackSpec
from edge_server.shm.catalog import Catalog, Manifest, segment_names
from edge_server.shm.segment import discard
from edge_server.supervisor import pinning
from edge_server.supervisor.signals import name_of

SILENT_S = 120.0  # longer than any pack is silent while it is read; verification tells of itself

_DOT = b"."
_DESCRIPTORS_A_DOT = 200  # the kernel takes 253 (SCM_MAX_FD)
_READ_BYTES = 1 << 16

Load = Callable[[], Loaded]


class Built(NamedTuple):
    """What a builder hands over, besides descriptors."""

    config: Config
    warnings: tuple[str, ...]
    cpus: tuple[int | None, ...]
    manifest: Manifest


class BuildError(EdgeError):
    """There is no new generation; the text says why."""


class Build:
    """One builder, as the supervisor sees it.

    Args:
        name: of the catalog that it builds.
        fork: forks a child that lives a function; returns its pid.
        live: what the child does with its end of the socket.
        silent_s: how long it may give no sign of life.
    """

    def __init__(
        self,
        name: str,
        fork: Callable[[Callable[[], int]], int],
        live: Callable[[socket.socket], int],
        now_s: float,
        silent_s: float = SILENT_S,
    ) -> None:
        self._name = name
        self._silent_s = silent_s
        self._last_s = now_s
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._code: int | None = None
        self._is_silent = False
        self._channel, theirs = socket.socketpair()
        with theirs:
            self.pid = fork(lambda: self._live(live, theirs))
        self._channel.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when `receive` has something; -1 once all has come."""
        return self._channel.fileno()

    @property
    def is_reaped(self) -> bool:
        """Whether it has been reaped."""
        return self._code is not None

    @property
    def is_over(self) -> bool:
        """Whether it has been reaped and all that it sent has come."""
        return self._code is not None and self._channel.fileno() < 0

    def receive(self, now_s: float) -> None:
        """Take what has come, and kill a builder that has been silent for too long."""
        try:
            while self._channel.fileno() >= 0:
                data, descriptors, _, _ = socket.recv_fds(self._channel, _READ_BYTES, _DESCRIPTORS_A_DOT)
                self._descriptors += descriptors
                self._received += data
                self._last_s = now_s
                if not data:
                    self._channel.close()
        except BlockingIOError:
            pass
        except OSError:
            self._channel.close()
        if now_s - self._last_s > self._silent_s and not self._is_silent and self._code is None:
            self._is_silent = True
            os.kill(self.pid, signal.SIGKILL)

    def saw_exit(self, code: int) -> None:
        """Note that it has been reaped; `code` as of os.waitstatus_to_exitcode."""
        self._code = code

    def take(self) -> tuple[Built, Catalog]:
        """Return what has been built, which belongs to the caller.

        Raises:
            BuildError: there is none; nothing of it is left.
        """
        assert self.is_over
        try:
            built = self._unpack()
            catalog = Catalog.adopt(built.manifest, self._descriptors)
        except BaseException:
            self.discard()
            raise
        self._descriptors = []
        return built, catalog

    def abandon(self) -> None:
        """Kill it and forget what it has built; it is still to be reaped."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
        self.receive(self._last_s)
        self.discard()

    def discard(self) -> None:
        """Remove what it has left; to be repeated once it has been reaped, if it was not before."""
        self._channel.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        discard(segment_names(self._name))

    def _live(self, live: Callable[[socket.socket], int], theirs: socket.socket) -> int:
        self._channel.close()
        return live(theirs)

    def _unpack(self) -> Built:
        if self._is_silent:
            raise BuildError(f"the builder gave no sign of life for {self._silent_s:g} s and was killed")
        sent = self._received.lstrip(_DOT)
        if self._code != 0 or not sent:
            assert self._code is not None
            how = name_of(-self._code) if self._code < 0 else f"exit code {self._code}"
            raise BuildError(f"the builder ended with {how}")
        built = pickle.loads(sent)
        if isinstance(built, str):
            raise BuildError(built)
        assert isinstance(built, Built)
        return built


def build(channel: socket.socket, load: Load, *, number: int, name: str, slots: int, spread: int) -> int:
    """Live as the builder of generation `number`; return the exit code.

    Args:
        channel: its end of the socket.
        name: of the catalog.
        slots: how many worker slots there are.
        spread: as of `pinning.assign`.
    """
    told: Built | str
    descriptors: list[int] = []
    try:
        loaded = load()
        catalog = Catalog.build(mounted(loaded.config, _alive(channel)), generation=number, name=name)
        descriptors = list(catalog.descriptors.values())
        cpus = tuple(plan_cpus(loaded.config, slots, spread))
        told = Built(loaded.config, loaded.warnings, cpus, catalog.manifest)
    except EdgeError as error:
        told = str(error)
    except Exception as error:
        log("reload", "error", reason=repr(error), traceback=traceback.format_exc())
        told = f"defect: {error!r}"
    for start in range(0, len(descriptors), _DESCRIPTORS_A_DOT):
        socket.send_fds(channel, [_DOT], descriptors[start : start + _DESCRIPTORS_A_DOT])
    channel.sendall(pickle.dumps(told))
    return 0


def mounted(config: Config, alive: Callable[[], None] = lambda: None) -> list[Pack]:
    """Return the packs of a configuration, mounted and verified, and log what happens to them.

    Args:
        alive: called now and then meanwhile.

    Raises:
        PackError: one cannot be mounted.
    """

    def on_event(event: str, fields: Mapping[str, object]) -> None:
        told = dict(fields)
        log(event, str(told.pop("level", "info")), **told)
        alive()

    specs = [PackSpec(source.path, source.name, source.verify) for source in config.edge.packs]
    return mount(specs, verify=config.edge.verify, on_event=on_event)


def plan_cpus(config: Config, slots: int, spread: int) -> list[int | None]:
    """Return the CPU of each worker slot.

    Raises:
        ConfigError: a CPU that is asked for may not be used.
    """
    if not pinning.is_permitted():
        return [None] * slots
    return pinning.assign(config.workers.pin, slots, pinning.usable_cpus(), spread=spread)


def _alive(channel: socket.socket) -> Callable[[], None]:
    return lambda: channel.sendall(_DOT)
