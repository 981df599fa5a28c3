"""nginx and svc-edge, one worker each on the same CPU in turn, under the same load.

``python -m bench`` builds its own world of files, checks what both servers answer
by content, loads them with wrk in alternating rounds, and prints one table. It knows
svc-edge only from outside: its command, its settings, its log and ``/proc``.
"""

from __future__ import annotations


class BenchError(Exception):
    """A figure that must not be printed: a wrong answer, a dead server, a missing tool."""


class MissingToolsError(BenchError):
    """A command this machine does not have; the message says which package has it."""
