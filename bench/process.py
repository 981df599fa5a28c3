"""A server under measurement: started, waited for, read through /proc, ended by its pid.

Lifetime     a context manager; leaving it sends SIGTERM and, after a grace, SIGKILL.
Accounting   CPU from /proc/PID/task/*/schedstat (nanoseconds on the CPU, exact where
             the ticks of /proc/PID/stat are not), memory from /proc/PID/smaps_rollup.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from bench import BenchError

POLL_S = 0.001
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0


class Memory(NamedTuple):
    """Memory of one process in bytes. Shared pages count in `pss` divided by who maps them."""

    pss: int
    rss: int
    private: int
    shared_memory: int  # the part of pss that is /dev/shm


class Server:
    """One running server.

    Args:
        name: what tables call it.
        command: what to execute.
        log: the file that gets its stdout and stderr.
        port: where it answers on 127.0.0.1.
        worker_title: beginning of the process title of its workers.
        is_ready: tells from its log whether it serves.
        cpu: the CPU that all its processes are bound to; None leaves them free.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Sequence[str],
        log: Path,
        port: int,
        worker_title: str,
        is_ready: Callable[[str], bool],
        cpu: int | None,
    ) -> None:
        self.name = name
        self.port = port
        self.ready_s = 0.0
        self._command = [*(("taskset", "-c", str(cpu)) if cpu is not None else ()), *command]
        self._log = log
        self._worker_title = worker_title
        self._is_ready = is_ready

    def __enter__(self) -> Server:
        with self._log.open("wb") as log:
            began = time.monotonic()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._await_ready(began)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; a grace first, then by force, with the processes it started."""
        if self._process.poll() is not None:
            return
        family = [self._process.pid, *(child.pid for child in self._children())]
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            for pid in family:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            self._process.wait(STOP_WITHIN_S)

    def workers(self) -> list[int]:
        """Return the pids of its worker processes, in order.

        Raises:
            BenchError: there is none.
        """
        pids = sorted(child.pid for child in self._children() if self._is_worker(child))
        if not pids:
            raise BenchError(f"{self.name} has no worker process; its log ends with:\n{self.log_tail()}")
        return pids

    def processes(self) -> list[int]:
        """Return the pids of everything the server runs, workers included."""
        return [self._process.pid, *sorted(child.pid for child in self._children())]

    def log_tail(self, lines: int = 10) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _await_ready(self, began: float) -> None:
        while not self._is_ready(self._log.read_text(errors="replace")):
            if self._process.poll() is not None:
                code = self._process.returncode
                raise BenchError(f"{self.name} ended with {code} while starting:\n{self.log_tail()}")
            if time.monotonic() - began > READY_WITHIN_S:
                raise BenchError(f"{self.name} is not ready after {READY_WITHIN_S:.0f} s:\n{self.log_tail()}")
            time.sleep(POLL_S)
        self.ready_s = time.monotonic() - began

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _is_worker(self, child: psutil.Process) -> bool:
        try:
            return " ".join(child.cmdline()).startswith(self._worker_title)
        except psutil.NoSuchProcess:
            return False


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the nanoseconds that all threads of these processes have spent on a CPU."""
    return _schedstat(pids, 0)


def waited_ns(pids: Sequence[int]) -> int:
    """Return the nanoseconds that these threads were ready to run and others had the CPU."""
    return _schedstat(pids, 1)


def _schedstat(pids: Sequence[int], column: int) -> int:
    tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[column]) for task in tasks)


def memory(pid: int) -> Memory:
    """Return what the kernel accounts to a process now."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _unit = line.split()
        sizes[name] = int(value) * 1024
    private = sizes["Private_Clean:"] + sizes["Private_Dirty:"]
    return Memory(sizes["Pss:"], sizes["Rss:"], private, sizes["Pss_Shmem:"])


def free_port() -> int:
    """Return a loopback port that nothing uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens on this loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
