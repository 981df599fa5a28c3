"""Run a command as systemd would under the filters of a unit, where there is no systemd to do it.

    python -m tests.deploy.confine UNIT COMMAND...

What the unit says in SystemCallFilter, MemoryDenyWriteExecute and RestrictAddressFamilies becomes seccomp
filters, by libseccomp, which systemd uses too, and groups of calls are asked of systemd-analyze. A call that
is not allowed ends the process with SIGSYS, whatever SystemCallErrorNumber says, so that none is overlooked.

Source: systemd.exec(5), seccomp_init(3), seccomp_rule_add(3).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7  # enum scmp_compare
PROT_WRITE, PROT_EXEC = 2, 4
EAFNOSUPPORT = 97
FAMILIES = 46  # AF_MAX of linux/socket.h
PR_SET_NO_NEW_PRIVS = 38


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def settings(unit: Path, name: str) -> list[str]:
    """Return what a unit says of a setting, in order."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@cache
def members(name: str) -> frozenset[str]:
    """Return the calls of a group, or the one call of that name."""
    if not name.startswith("@"):
        return frozenset([name])
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in told.stdout.splitlines()[1:]]
    return expanded(word for word in words if word and not word.startswith("#"))


def expanded(names: Iterable[str]) -> frozenset[str]:
    """Return the calls of all of these groups and names."""
    return frozenset().union(*map(members, names))


def allowed(unit: Path) -> frozenset[str]:
    """Return the calls that a unit allows: its first filter lists them, later ones add and take away."""
    found: frozenset[str] = frozenset()
    for value in settings(unit, "SystemCallFilter"):
        calls = expanded(value.lstrip("~").split())
        found = found - calls if value.startswith("~") else found | calls
    return found


class Filter:
    """One filter of libseccomp."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._library.seccomp_init.argtypes = [ctypes.c_uint32]
        self._library.seccomp_load.argtypes = [ctypes.c_void_p]
        self._library.seccomp_rule_add_array.argtypes = [
            *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)),
        ]
        self._context = self._library.seccomp_init(default)
        assert self._context

    def add(self, action: int, call: str, *comparisons: Comparison) -> None:
        """Say what is done at a call; one that this processor does not have is left out."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (Comparison * max(1, len(comparisons)))(*comparisons)
        done = self._library.seccomp_rule_add_array(self._context, action, number, len(comparisons), array)
        assert done == 0, (call, done)

    def load(self) -> None:
        """Put it into force, for this process and what it starts."""
        assert self._library.seccomp_load(self._context) == 0


def confine(unit: Path) -> None:
    """Put the filters of a unit into force for the calling process."""
    calls = Filter(KILL_PROCESS)
    for call in sorted(allowed(unit)):
        calls.add(ALLOW, call)
    others = Filter(ALLOW)
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        others.add(KILL_PROCESS, "mmap", Comparison(2, MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            others.add(KILL_PROCESS, call, Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
    (families,) = settings(unit, "RestrictAddressFamilies")
    kept = {getattr(socket, name) for name in families.split()}
    for family in range(FAMILIES):
        if family not in kept:
            others.add(ERRNO | EAFNOSUPPORT, "socket", Comparison(0, EQUAL, family))
    assert ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    others.load()
    calls.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
