"""Work done by a process of its own, which counts as a process of an instance does."""

from __future__ import annotations

import os
from collections.abc import Callable

from edge_server.observe.metrics import name_process


def in_child(identity: str, work: Callable[[], None]) -> None:
    """Fork, do some work under an identity, and wait for its end, which must be a good one."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            name_process(identity)
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
