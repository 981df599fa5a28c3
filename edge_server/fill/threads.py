"""Threads: steps that cannot give way, done by a few threads, so that the loop goes on meanwhile.

Process      whichever runs the engine; posted by tasks and threads, and done in threads of their own.
Memory       at most `threads` threads, begun when they are needed, and `waiting` steps that wait for one.
Lifetime     until `close`. A thread that hangs in the kernel holds up only who is behind it in the queue, and
             does not keep the process from ending.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_server.errors import FillUnavailable
from edge_server.fill.loop import Signal

T = TypeVar("T")


class Threads:
    """A bounded pool.

    Args:
        name: of its threads.
        threads: how many there may be.
        waiting: how many steps may wait for one.
    """

    def __init__(self, name: str, threads: int, waiting: int = 1024) -> None:
        self._name = name
        self._max_threads = threads
        self._max_waiting = waiting
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = 0
        self._idle = 0
        self._is_closed = False

    def post(self, step: Callable[[], None], *, is_owed: bool = False) -> None:
        """Have something done soon; it must not raise.

        Args:
            is_owed: it follows from one that was taken, and is never too much.

        Raises:
            FillUnavailable: too much waits, or it is closed.
        """
        with self._changed:
            if not is_owed and (self._is_closed or len(self._waiting) >= self._max_waiting):
                raise FillUnavailable(f"too much waits for {self._name}")
            self._waiting.append(step)
            # NOTE: a thread that was notified is idle until it has run: it is no thread for another step.
            if len(self._waiting) <= self._idle:
                self._changed.notify()
            elif self._threads < self._max_threads:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, step: Callable[[], T], until_s: float, abandoned: Callable[[], None] = lambda: None) -> T:
        """Have something done, and wait for it.

        Args:
            until_s: CLOCK_MONOTONIC until when it is waited for.
            abandoned: called by the thread, once `step` is over, if nobody waits for it any more.

        Raises:
            TimeoutError: it is not over by then; `abandoned` is going to be called.
            FillUnavailable: too much waits.
            BaseException: what `step` has raised.
        """
        awaited = _Awaited(step, abandoned)
        self.post(awaited)
        return awaited.result(until_s)

    def close(self) -> None:
        """End the threads, once what waits has been done; does not wait for it."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._waiting:
                    return
                step = self._waiting.popleft()
            try:
                step()
            except BaseException:
                with self._changed:
                    self._threads -= 1  # this one ends, and tells why
                raise


class _Awaited(Generic[T]):
    """A step, and who waits for it."""

    def __init__(self, step: Callable[[], T], abandoned: Callable[[], None]) -> None:
        self._step = step
        self._abandoned = abandoned
        self._told = Signal()
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._is_done = False
        self._value: T
        self._error: BaseException | None = None

    def __call__(self) -> None:
        if not self._is_abandoned:
            try:
                self._value = self._step()
            except BaseException as error:
                self._error = error
        with self._lock:
            self._is_done = True
            is_abandoned = self._is_abandoned
        if is_abandoned:
            self._abandoned()
        else:
            self._told.tell()

    def result(self, until_s: float) -> T:
        """Return what came of it."""
        self._told.wait(until_s)
        with self._lock:
            if not self._is_done:
                self._is_abandoned = True
                raise TimeoutError("it takes too long")
        if self._error is not None:
            raise self._error
        return self._value
