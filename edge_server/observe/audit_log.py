"""The audit log: the one writer of an instance's chain.

Process      the sidecar. `add` from any of its threads; `advance` from the one that reads reports.
Memory       QUEUE_MAX records that are not in the chain yet. What comes beyond that is counted, and stands in
             the chain as one record `dropped`, so that the chain tells the truth.
Consistency  a record is chained when it is about to be written, and the next batch waits until it is out; a
             process that is killed leaves at most a torn line, which its successor tells of.
Lifetime     from the moment that the predecessor has let go of the lock (shm/reports.py) until `close`. The
             chain goes on where its file ends; in an empty file, and on standard output, where the
             shared head says.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from edge_server.errors import ResourceError
from edge_server.observe import log_file
from edge_server.observe.audit import NO_HASH, RESTARTED, ROTATED, TORN, Record, make, torn_facts
from edge_server.observe.audit_file import Output
from edge_server.observe.log_file import STDOUT
from edge_server.observe.logs import log, timestamp
from edge_server.shm.reports import Reports

QUEUE_MAX = 8192
_SYNC_S = 1.0
_RETRY_S = 1.0
_CLOSING_S = 2.0


class AuditLog:
    """See above.

    Args:
        path: of a file, or ``stdout``.
        mode: edge.mode, as every log line has it.
        count: called with the kind of each record that is written.
    """

    def __init__(
        self,
        path: str,
        reports: Reports,
        mode: str,
        count: Callable[[str], None],
        standard: Callable[[], Output] = Output.standard,
    ) -> None:
        self._path = path
        self._reports = reports
        self._mode = mode
        self._count = count
        self._standard = standard
        self._queue: deque[Mapping[str, object]] = deque()
        self._lock = threading.Lock()
        self._dropped = 0
        self._output: Output | None = None
        self._seq = 0
        self._head = NO_HASH
        self._unsaid: list[Record] = []  # in the batch that is being written
        self._turns = 0
        self._is_unsynced = False
        self._next_s = 0.0  # of the next try, or sync
        self._told = ""

    def add(self, kind: str, **fields: object) -> None:
        """Have a record written; one that there is no room for is counted."""
        with self._lock:
            if len(self._queue) >= QUEUE_MAX:
                self._dropped += int(str(fields.get("count", 1)))
            else:
                self._queue.append({"ts": timestamp(), "kind": kind, **fields})

    def drop(self, count: int) -> None:
        """Tell of so many records that were lost before they came here."""
        with self._lock:
            self._dropped += count

    def advance(self) -> None:
        """Write what can be written now; never raises."""
        try:
            if self._is_open() and self._finish_batch():
                while self._begin_batch() and self._finish_batch():
                    pass
                self._sync()
        except OSError as error:
            self._tell_trouble(error.strerror or str(error))

    def close(self) -> None:
        """Write out what is there, as far as that is possible soon, and let go of the file."""
        until_s = time.monotonic() + _CLOSING_S
        while time.monotonic() < until_s:
            self.advance()
            if self._output is None or (self._output.is_settled and not self._queue and not self._dropped):
                break
            time.sleep(0.01)
        if self._output is not None:
            self._sync(is_last=True)
            self._output.close()
            self._output = None

    def _is_open(self) -> bool:
        """Open the output, or open it again after SIGUSR1; return whether there is one."""
        is_due = self._turns != log_file.turns()
        if self._output is not None and not (is_due and self._output.is_settled):
            return True
        if self._output is None and not is_due and time.monotonic() < self._next_s:
            return False
        self._turns = log_file.turns()
        if self._output is not None and (self._path == STDOUT or self._output.is_still(self._path)):
            return True
        try:
            opened = self._standard() if self._path == STDOUT else Output.open(self._path)
        except ResourceError as error:
            self._next_s = time.monotonic() + _RETRY_S
            self._tell_trouble(str(error))
            return self._output is not None
        self._take_up(opened)
        return True

    def _take_up(self, opened: Output) -> None:
        """Go on where the output ends."""
        before, self._output = self._output, opened
        last, torn = opened.tail.last, opened.tail.torn
        if last is not None:
            self._seq, self._head = last.seq, last.this
        elif before is None:
            seq, digest = self._reports.head
            self._seq, self._head = seq, digest.hex()
        reason = RESTARTED if last is not None or self._path == STDOUT else ROTATED
        if before is not None:
            before.close()
        size, digest_of_torn = torn_facts(torn) if torn else (0, "")
        kind = "resume" if self._seq else "begin"
        reason = TORN if torn else reason if self._seq else ""
        told = {"ts": timestamp(), "kind": kind, "reason": reason, "size": size, "hash": digest_of_torn}
        with self._lock:
            self._queue.appendleft(told)
        if torn:
            log(
                "audit", "warning", reason=f"{size} torn bytes at the end of the chain were left, and told of"
            )
        self._told = ""

    def _begin_batch(self) -> bool:
        """Chain what waits, and give it to the output; return whether there was anything."""
        output = self._output
        assert output is not None
        batch = bytearray()
        while len(batch) < output.batch_bytes:
            record = self._next()
            if record is None or (batch and len(batch) + len(record.line) > output.batch_bytes):
                self._put_back(record)
                break
            batch += record.line
            self._seq, self._head = record.seq, record.this
            self._unsaid.append(record)
        if batch:
            output.write(bytes(batch))
        return bool(batch)

    def _next(self) -> Record | None:
        """Return the next record, made for the place that it would have now; it is still in the queue."""
        with self._lock:
            if self._queue:
                fields = self._queue.popleft()
            elif self._dropped:
                fields = {"ts": timestamp(), "kind": "dropped", "count": self._dropped}
                self._dropped = 0
            else:
                return None
        return make(self._seq + 1, self._head, {"mode": self._mode, **fields})

    def _put_back(self, record: Record | None) -> None:
        if record is not None:
            with self._lock:
                self._queue.appendleft(record.fields)

    def _finish_batch(self) -> bool:
        """Return whether the batch is out; then its records count, and the head is theirs."""
        assert self._output is not None
        if not self._output.write():
            return False
        if self._unsaid:
            for record in self._unsaid:
                self._count(str(record.fields["kind"]))
            self._unsaid.clear()
            self._reports.head = (self._seq, bytes.fromhex(self._head))
            self._is_unsynced = True
            self._told = ""
        return True

    def _sync(self, *, is_last: bool = False) -> None:
        now_s = time.monotonic()
        if self._is_unsynced and (is_last or now_s >= self._next_s):
            assert self._output is not None
            self._output.sync()
            self._is_unsynced, self._next_s = False, now_s + _SYNC_S

    def _tell_trouble(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            log("audit", "error", reason=f"records cannot be written: {trouble}")
