"""Memory pressure with a bound: a child of the drill that holds memory and keeps touching it.

Process      a child, ``python -m edge_server.drill.balloon BYTES``; it ends when its standard
             input does, so also when the drill is killed.
Memory       the bytes asked for, at most half of what the machine has available at the start. Before
             anything is taken the child makes itself the first that the kernel would kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import select
import sys

import psutil

from edge_server.errors import ResourceError

FULL = b"full\n"

_TOUCH_EVERY_S = 0.25
_FULL_WITHIN_S = 30.0
_END_WITHIN_S = 10.0


class Balloon:
    """The child, from the drill's side."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._child: asyncio.subprocess.Process | None = None

    async def inflate(self) -> None:
        """Start the child and wait until it holds all of it.

        Raises:
            ResourceError: that is more than half of the available memory, or it was not to be had.
        """
        available = psutil.virtual_memory().available
        if self._size > available // 2:
            raise ResourceError(f"a balloon of {self._size} bytes is more than half of {available} available")
        command = (sys.executable, "-m", "edge_server.drill.balloon", str(self._size))
        pipe = asyncio.subprocess.PIPE
        self._child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert self._child.stdout is not None
        try:
            told = await asyncio.wait_for(self._child.stdout.readline(), _FULL_WITHIN_S)
        except asyncio.TimeoutError:
            told = b""
        if told != FULL:
            await self.burst()
            raise ResourceError(f"a balloon of {self._size} bytes could not be filled")

    def resident_bytes(self) -> int:
        """Return how much the child holds now; 0 when it is gone."""
        if self._child is None:
            return 0
        try:
            return int(psutil.Process(self._child.pid).memory_info().rss)
        except psutil.Error:
            return 0

    async def burst(self) -> None:
        """End the child, which gives back everything. Without effect when there is none."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            await asyncio.wait_for(child.wait(), _END_WITHIN_S)
        except asyncio.TimeoutError:
            child.kill()
            await child.wait()


def main(size: int) -> None:
    """Hold `size` bytes until standard input ends."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # proc(5): the first to be killed; raising it needs no privilege
    with mmap.mmap(-1, size) as held:
        pages = len(range(0, size, mmap.PAGESIZE))
        turn, has_told = 0, False
        while True:
            turn = turn % 255 + 1
            held[:: mmap.PAGESIZE] = bytes([turn]) * pages
            if not has_told:
                sys.stdout.buffer.write(FULL)
                sys.stdout.buffer.flush()
                has_told = True
            if select.select([0], [], [], _TOUCH_EVERY_S)[0]:
                return


if __name__ == "__main__":
    main(int(sys.argv[1]))
