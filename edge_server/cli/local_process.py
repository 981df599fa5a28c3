"""A pid that an instance tells, looked at on this machine: is there such a process of this service?

Reads only what every user may read. It is enough to show and to sample a process, not to signal one, for
which `drill/instance.py` is stricter.
"""

from __future__ import annotations

import psutil

_TITLE = "svc-edge"  # what `supervisor/spawn.py` calls processes


def find(pid: int) -> psutil.Process | None:
    """Return the process if it is one of this service; None where the pid means another one here, or none."""
    try:
        process = psutil.Process(pid)
        return process if "".join(process.cmdline()[:1]).startswith(_TITLE) else None
    except psutil.Error:
        return None
