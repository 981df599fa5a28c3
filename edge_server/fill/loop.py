"""The loop: many fills in one thread, each of which gives way where it would wait.

Process      whichever runs the engine. One thread runs the loop; `Loop.call`, `Loop.spawn` and `Signal.tell`
             may be used from any.
Memory       a greenlet for each task; a descriptor that is watched has one registration, edge-triggered.
Lifetime     `run` returns when it is told to; tasks that wait then go on with the next `run`.

A fill makes a dozen system calls, and a thread for each fill gives up the interpreter at every one of
them: what a switch of threads costs is most of what a fill costs then (docs/PERFORMANCE.md). A task is
written like a thread, and may be run as one: outside of a loop, waiting is the kernel's `poll`.
"""

from __future__ import annotations

import math
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any

from greenlet import getcurrent, greenlet

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_ENDS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_EVENTS_A_TURN = 64


class Task(greenlet):
    """What runs in a loop; waits for one thing at a time.

    Attributes:
        loop: that it runs in.
        until_s: CLOCK_MONOTONIC until when it waits.
        waits_for: what it waits for, so that nothing else resumes it.
    """

    def __init__(self, loop: Loop, run: Callable[[], None], hub: greenlet) -> None:
        super().__init__(run, hub)
        self.loop = loop
        self.until_s = 0.0
        self.waits_for: object = None


class Loop:
    """See above."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._calls: deque[Callable[[], None]] = deque()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._fresh: set[int] = set()  # registered in this turn: what it has for them was their predecessors'
        self._waiting: set[Task] = set()
        self._next_s = math.inf  # nobody's waiting is over before
        self._hub: greenlet | None = None
        self._thread = 0
        self._is_woken = False
        self._lock = threading.Lock()  # of the descriptor that wakes it
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        self._watched[self._wake] = self._on_wake

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the thread of this loop."""
        return get_ident() == self._thread

    def run(self, is_over: Callable[[], bool], period_s: float) -> None:
        """Run what there is to run, in this thread, until `is_over`, asked at least once a period."""
        self._hub, self._thread = getcurrent(), get_ident()
        try:
            while not is_over():
                self._turn(period_s)
        finally:
            self._thread = 0

    def call(self, step: Callable[[], None]) -> None:
        """Have the loop's thread call something soon; it must not wait."""
        self._calls.append(step)
        if not self.is_here and not self._is_woken:
            with self._lock:
                if self._wake >= 0:
                    self._is_woken = True
                    os.eventfd_write(self._wake, 1)

    def spawn(self, run: Callable[[], None]) -> None:
        """Begin a task soon; it must not raise."""
        self.call(lambda: self.begin(run))

    def begin(self, run: Callable[[], None]) -> None:
        """Begin a task now, in what the loop calls; it must not raise."""
        assert self._hub is not None
        assert getcurrent() is self._hub
        Task(self, run, self._hub).switch()

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Call something whenever a descriptor is readable; it must not wait."""
        self._watched[descriptor] = lambda _: on_readable()
        self._poll.register(descriptor, select.EPOLLIN)

    def close(self) -> None:
        """Let go of the descriptors; it does not run any more, and what is called is not done."""
        with self._lock:
            self._poll.close()
            os.close(self._wake)
            self._wake = -1

    def resume(self, task: Task, waits_for: object) -> None:
        """Have a task go on if it still waits for this; from the loop's hub."""
        if task.waits_for is waits_for and task in self._waiting:
            self._waiting.discard(task)
            task.waits_for = None
            task.switch(True)

    def suspend(self, waits_for: object, until_s: float) -> bool:
        """Have the current task give way until `resume`; return False if `until_s` came first."""
        task = getcurrent()
        assert isinstance(task, Task)
        assert self._hub is not None
        task.waits_for, task.until_s = waits_for, until_s
        self._waiting.add(task)
        self._next_s = min(self._next_s, until_s)
        return bool(self._hub.switch())

    def watch_edges(self, descriptor: int, on_event: Callable[[int], None]) -> None:
        """Register a socket, edge-triggered; to be undone by `forget` before it is closed."""
        self._watched[descriptor] = on_event
        self._fresh.add(descriptor)
        self._poll.register(descriptor, _EDGES)

    def forget(self, descriptor: int) -> None:
        """Undo `watch` or `watch_edges`."""
        if self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def _turn(self, period_s: float) -> None:
        calls = self._calls
        for _ in range(len(calls)):
            calls.popleft()()
        wait_s = 0.0 if calls else max(0.0, min(period_s, self._next_s - monotonic()))
        events_now = self._poll.poll(wait_s, _EVENTS_A_TURN)
        self._fresh.clear()
        for descriptor, events in events_now:
            on_event = self._watched.get(descriptor)
            if on_event is not None and descriptor not in self._fresh:
                on_event(events)
        if monotonic() >= self._next_s:
            self._resume_late()

    def _resume_late(self) -> None:
        now_s = monotonic()
        for task in [task for task in self._waiting if task.until_s <= now_s]:
            if task in self._waiting and task.until_s <= now_s:
                self._waiting.discard(task)
                task.waits_for = None
                task.switch(False)
        self._next_s = min((task.until_s for task in self._waiting), default=math.inf)

    def _on_wake(self, events: int) -> None:
        # NOTE: in this order: who has not written meanwhile has called before this turn is over.
        os.eventfd_read(self._wake)
        self._is_woken = False


class Readiness:
    """When a socket, which does not block, may be tried again. Made by the task or thread that uses it.

    In a loop edges are told once, so who waits has tried before, or knows from `is_empty` that it is useless.

    Attributes:
        has_ended: the other end has said its last: it is to be tried, and never waited for.
        is_empty: nothing has come since all that had come was taken; who takes says so, in a loop only.
    """

    __slots__ = ("_fd", "_loop", "_poll", "_task", "has_ended", "is_empty")

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self._loop = current_loop()
        self._task: Task | None = None
        self.has_ended = False
        self.is_empty = False
        self._poll = select.poll() if self._loop is None else None
        if self._loop is not None:
            self._loop.watch_edges(self._fd, self._on_event)

    @property
    def is_in_loop(self) -> bool:
        """Whether a loop tells of what comes."""
        return self._loop is not None

    def wait(self, until_s: float, *, to_write: bool = False) -> bool:
        """Give way until it is worth a try; return False if `until_s` came first."""
        if self._loop is not None:
            self._task = getcurrent()  # type: ignore[assignment]  # only tasks have a loop
            return self._loop.suspend(self, until_s)
        assert self._poll is not None
        self._poll.register(self._fd, select.POLLOUT if to_write else select.POLLIN)
        # NOTE: rounded up, as it would be asked in vain again and again otherwise.
        return bool(self._poll.poll(max(0, math.ceil(1000 * (until_s - monotonic())))))

    def close(self) -> None:
        """Tell before the socket is closed."""
        if self._loop is not None:
            self._loop.forget(self._fd)

    def _on_event(self, events: int) -> None:
        assert self._loop is not None
        self.is_empty = False
        if events & _ENDS:
            self.has_ended = True
        if self._task is not None:
            self._loop.resume(self._task, self)


class Signal:
    """Something that one task or thread waits for, and any other tells."""

    def __init__(self) -> None:
        task: Any = getcurrent()
        self._task: Task | None = task if isinstance(task, Task) else None
        self._told = threading.Event()

    def tell(self) -> None:
        """End the waiting, now or before it begins."""
        self._told.set()
        task = self._task
        if task is not None:
            task.loop.call(lambda: task.loop.resume(task, self))

    def wait(self, until_s: float) -> bool:
        """Give way until it is told; return False if `until_s` came first."""
        if self._task is None:
            return self._told.wait(None if until_s == math.inf else max(0.0, until_s - monotonic()))
        while not self._told.is_set():
            if not self._task.loop.suspend(self, until_s):
                return self._told.is_set()
        return True

    def clear(self) -> None:
        """Have the next `wait` wait."""
        self._told.clear()


def current_loop() -> Loop | None:
    """Return the loop that the caller is a task of; None in an ordinary thread."""
    task: Any = getcurrent()
    return task.loop if isinstance(task, Task) else None


def give_way() -> None:
    """Let the other tasks have their turn; nothing in an ordinary thread."""
    loop = current_loop()
    if loop is not None:
        signal = Signal()
        signal.tell()
        loop.suspend(signal, math.inf)
