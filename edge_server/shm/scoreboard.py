"""The scoreboard: how the instance is, and one row per process, read by everyone.

Process      the header is written by the supervisor; a row by the process that has its
             identity, and by the supervisor only while no process has it.
Memory       one segment per supervisor: a header of 256 bytes, then rows of 256 bytes, so
             that no two rows share a cache line or the pair that is prefetched with it; at its
             end the reload record (reload_record.py).
Consistency  each field is one aligned 8-byte store in native byte order; a reader may see
             fields of different moments.
Lifetime     created before the first fork, unlinked by the supervisor when it exits.

Every slot has two rows, letters a and b: a process that drains and the one that replaces
it are alive together and never write the same row. The sidecar has the last two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from enum import IntEnum, IntFlag
from functools import reduce
from operator import or_

from edge_server.errors import ResourceError
from edge_server.shm.reload_record import RECORD_BYTES, ReloadRecord
from edge_server.shm.segment import Segment

MAGIC = int.from_bytes(b"edgescor", "little")
VERSION = 2
HEADER_BYTES = 256
ROW_BYTES = 256
LETTERS = ("a", "b")
SIDECAR_SLOT = -1

_WORD = 8
_HEADER_WORDS = HEADER_BYTES // _WORD
_ROW_WORDS = ROW_BYTES // _WORD


class Gate(IntFlag):
    """What readiness waits for; a bit set in `missing_gates` is a gate that does not hold."""

    CONFIG_VALID = 1 << 0
    PACKS_VERIFIED = 1 << 1
    CAS_REACHABLE = 1 << 2
    ALLOW_LIST = 1 << 3
    AMNESIA_OK = 1 << 4
    WORKERS_UP = 1 << 5
    SHEDDER_STABLE = 1 << 6
    NOT_DRAINING = 1 << 7
    SIDECAR_UP = 1 << 8


ALL_GATES = reduce(or_, Gate)


class WorkerState(IntEnum):
    """What the process of a row is doing; EMPTY is a row that no process has."""

    EMPTY = 0
    STARTING = 1
    SERVING = 2
    DRAINING = 3
    STOPPED = 4


class Head(IntEnum):
    """Words of the header, as indices into its u64 array."""

    MAGIC = 0
    VERSION = 1
    GENERATION = 2
    SUPERVISOR_PID = 3
    SLOTS = 4
    STARTED_NS = 5  # CLOCK_MONOTONIC
    IS_STOPPING = 8
    MISSING_GATES = 9
    IS_DEGRADED = 10
    IS_OPERATOR_DRAIN = 11


class Field(IntEnum):
    """Words of a row, as indices into its u64 array."""

    PID = 0
    STATE = 1  # a WorkerState
    BEAT_NS = 2  # CLOCK_MONOTONIC when the loop last turned
    REQUESTS = 3
    INFLIGHT = 4
    PARKED = 5
    BYTES_OUT = 6
    LOOP_LAG_NS = 7
    CONNECTIONS = 8
    GENERATION = 9
    CPU = 10  # number of the CPU it is pinned to, plus one; 0 is not pinned
    DRAIN_REQUEST = 11  # of the sidecar: CLOCK_MONOTONIC of an operator's request, lowest bit 1 to drain
    READING = 12  # connections of which a request is arriving, or none has come yet
    IDLE = 13  # connections that wait for their next request
    CLOSING = 14  # connections that have been answered for the last time
    QUEUED = 15  # connections that wait at the slot's socket to be accepted
    WAITED_NS = 16  # how long requests wait when it lasts: the least over the turns of a tick
    SHED = 17  # requests refused as busy since the process began
    ASKED_NS = 18  # CLOCK_MONOTONIC of what it asks for: a worker its successor, the sidecar a reload
    FILLING_NS = 19  # of the sidecar: CLOCK_MONOTONIC since when it takes fills; 0 while it does not
    FILL_QUEUE = 20  # of the sidecar: fills that wait for their turn
    ERRANDS_NS = 21  # of the sidecar: CLOCK_MONOTONIC since when it runs errands; 0 while it does not


class Row:
    """One row, bound to its memory.

    Attributes:
        slot: worker slot; SIDECAR_SLOT for the sidecar.
        letter: ``a`` or ``b``.
        identity: ``3a``, ``sidecar-b``: what the process is called in metrics files.
        words: 32 u64, indexed by `Field`; ``row.words[4] = n`` is one store.
    """

    __slots__ = ("identity", "letter", "slot", "words")

    def __init__(self, slot: int, letter: str, words: memoryview) -> None:
        self.slot = slot
        self.letter = letter
        self.identity = identity_of(slot, letter)
        self.words = words

    def get(self, field: Field) -> int:
        """Return one field."""
        value: int = self.words[field]
        return value

    def set(self, field: Field, value: int) -> None:
        """Store one field, ``0 <= value < 2**64``."""
        self.words[field] = value

    @property
    def state(self) -> WorkerState:
        """What the process of this row is doing."""
        return WorkerState(self.words[Field.STATE])

    @property
    def pid(self) -> int:
        """The process of this row; 0 for none."""
        return self.get(Field.PID)

    def begin(self, pid: int, generation: int, cpu: int | None) -> None:
        """Take the row for a process that has just been forked: STARTING, counters at zero."""
        self.clear()
        self.words[Field.PID] = pid
        self.words[Field.GENERATION] = generation
        self.words[Field.CPU] = 0 if cpu is None else cpu + 1
        self.words[Field.BEAT_NS] = time.monotonic_ns()
        self.words[Field.STATE] = WorkerState.STARTING

    def show_connections(self, states: Mapping[str, int]) -> None:
        """Store how many connections are in each state, as `edge_server.guard.connections` names them."""
        words = self.words
        words[Field.READING] = states["fresh"] + states["head"] + states["body"]
        words[Field.INFLIGHT] = states["busy"]
        words[Field.PARKED] = states["parked"]
        words[Field.IDLE] = states["idle"]
        words[Field.CLOSING] = states["linger"]
        words[Field.CONNECTIONS] = sum(states.values())

    def clear(self) -> None:
        """Mark the row EMPTY, then zero what is left in it."""
        self.words[Field.STATE] = WorkerState.EMPTY
        for index in range(_ROW_WORDS):
            self.words[index] = 0


class Scoreboard:
    """The header as attributes, the rows as `Row`; made by `create` or `attach`.

    Attributes:
        reloads: the reload record.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._words = segment.buf.cast("Q")
        self._rows = [self._bind(index) for index in range(2 * (self.slots + 1))]
        end = HEADER_BYTES + len(self._rows) * ROW_BYTES
        self.reloads = ReloadRecord(segment.buf[end : end + RECORD_BYTES])

    @classmethod
    def create(cls, slots: int, name: str) -> Scoreboard:
        """Return a new scoreboard for `slots` worker slots with every gate missing.

        Raises:
            ResourceError: the segment cannot be created.
        """
        segment = Segment.create(name, _size(slots))
        words = segment.buf.cast("Q")
        words[Head.SLOTS] = slots
        words[Head.SUPERVISOR_PID] = os.getpid()
        words[Head.STARTED_NS] = time.monotonic_ns()
        words[Head.MISSING_GATES] = int(ALL_GATES)
        words[Head.IS_DEGRADED] = 1
        words[Head.VERSION] = VERSION
        words[Head.MAGIC] = MAGIC
        return cls(segment)

    @classmethod
    def attach(cls, name: str) -> Scoreboard:
        """Return another instance's scoreboard for reading.

        Raises:
            ResourceError: there is none of that name, or it is not one of this version.
        """
        segment = Segment.attach(name)
        words = segment.buf.cast("Q") if len(segment.buf) % _WORD == 0 else None
        if words is None or len(words) < _HEADER_WORDS or words[Head.MAGIC] != MAGIC:
            raise ResourceError(f"shared memory {name} is not a scoreboard")
        if words[Head.VERSION] != VERSION:
            raise ResourceError(f"scoreboard {name} has version {words[Head.VERSION]}, not {VERSION}")
        if len(segment.buf) < _size(words[Head.SLOTS]):
            raise ResourceError(f"scoreboard {name} is shorter than its header says")
        return cls(segment)

    def row(self, index: int) -> Row:
        """Return the row with this index."""
        return self._rows[index]

    def rows(self) -> Iterator[Row]:
        """Yield every row: workers by slot and letter, then the sidecar."""
        return iter(self._rows)

    def row_index(self, slot: int, letter: str) -> int:
        """Return the index of the row for `slot` (SIDECAR_SLOT allowed) and `letter`."""
        assert SIDECAR_SLOT <= slot < self.slots
        return 2 * (self.slots if slot == SIDECAR_SLOT else slot) + LETTERS.index(letter)

    @property
    def slots(self) -> int:
        """Number of worker slots."""
        return self._get(Head.SLOTS)

    @property
    def supervisor_pid(self) -> int:
        """Process that owns this instance."""
        return self._get(Head.SUPERVISOR_PID)

    @property
    def started_ns(self) -> int:
        """CLOCK_MONOTONIC when the instance started."""
        return self._get(Head.STARTED_NS)

    @property
    def generation(self) -> int:
        """The loaded configuration with its packs that is being served; 0 before the first."""
        return self._get(Head.GENERATION)

    @generation.setter
    def generation(self, value: int) -> None:
        self._words[Head.GENERATION] = value

    @property
    def generation_word(self) -> memoryview:
        """The generation as an array of one u64, for those who compare it at every request."""
        return self._words[Head.GENERATION : Head.GENERATION + 1]

    @property
    def missing_gates(self) -> Gate:
        """The gates that do not hold; none of them means ready."""
        return Gate(self._get(Head.MISSING_GATES))

    @missing_gates.setter
    def missing_gates(self, value: Gate) -> None:
        self._words[Head.MISSING_GATES] = int(value)

    @property
    def is_degraded(self) -> bool:
        """Whether less is running than was configured."""
        return bool(self._words[Head.IS_DEGRADED])

    @is_degraded.setter
    def is_degraded(self, value: bool) -> None:
        self._words[Head.IS_DEGRADED] = value

    @property
    def is_operator_drain(self) -> bool:
        """Whether an operator asked for the instance to be taken out of rotation."""
        return bool(self._words[Head.IS_OPERATOR_DRAIN])

    @is_operator_drain.setter
    def is_operator_drain(self, value: bool) -> None:
        self._words[Head.IS_OPERATOR_DRAIN] = value

    @property
    def is_stopping(self) -> bool:
        """Whether the instance is draining in order to exit."""
        return bool(self._words[Head.IS_STOPPING])

    @is_stopping.setter
    def is_stopping(self, value: bool) -> None:
        self._words[Head.IS_STOPPING] = value

    def close(self) -> None:
        """Drop this process's mapping; rows handed out must not be used again."""
        for row in self._rows:
            row.words.release()
        self.reloads.release()
        self._words.release()
        self.segment.close()

    def _get(self, word: Head) -> int:
        value: int = self._words[word]
        return value

    def _bind(self, index: int) -> Row:
        start = _HEADER_WORDS + index * _ROW_WORDS
        half, odd = divmod(index, 2)
        slot = SIDECAR_SLOT if half == self.slots else half
        return Row(slot, LETTERS[odd], self._words[start : start + _ROW_WORDS])


def _size(slots: int) -> int:
    return HEADER_BYTES + 2 * (slots + 1) * ROW_BYTES + RECORD_BYTES


def identity_of(slot: int, letter: str) -> str:
    """Return the name of a process among all live ones: ``3a``, ``sidecar-b``."""
    return f"sidecar-{letter}" if slot == SIDECAR_SLOT else f"{slot}{letter}"
