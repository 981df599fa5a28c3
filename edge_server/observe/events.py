"""The events of the log, each declared once, and the types of the fields that lines have.

docs/LOGS.md tells each with an example; tests hold every line of a mixed run, and every call in the code,
against this. Knows no process and does no I/O.
"""

from __future__ import annotations

EVENTS = {
    "start": "an instance begins: mode, addresses, packs; as a warning, what an operator should know",
    "ready": "the instance takes requests",
    "request": "a request was answered; sampled by log.access_sample",
    "reject": "a request was refused, and why; always told",
    "live_fill": "an origin was asked; failures always, the others sampled by log.access_sample",
    "park": "a request waits for a fill; at level debug",
    "pack_mount": "a pack was mounted",
    "pack_verify": "how far the verification of a pack is",
    "ready_changed": "readiness changed, and which gates are missing",
    "worker_exit": "a worker, or the sidecar, ended",
    "worker_starved": "a process is not let run by others on its CPU",
    "reload": "a reload began, failed or was taken over",
    "drain": "a drain began or ended",
    "audit": "a record of the audit chain; as an error, why records cannot be written",
    "logs_reopened": "log.file was opened again after SIGUSR1",
    "log_dropped": "so many lines were dropped, as nobody read them",
    "trace_export": "spans cannot be delivered to otel.endpoint; and that they can again",
    "digest_failed": "an entry could not be hashed",
    "cas_disk": "the disk tier of the store cannot be used, or can be again",
    "cas_memory": "the memory tier of the store does not take a body",
    "cas_damaged": "a stored body was not what its name says, and was removed",
    "defect": "something that should not happen; please report it",
}

# What the contract names; fields beside these belong to single events.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "ts": str,
    "level": str,
    "service": str,
    "event": str,
    "route": str,
    "method": str,
    "status": int,
    "reason": str,
    "corr_id": str,
    "peer_addr": str,
    "latency_ms": (int, float),
    "bytes_out": int,
    "etag": str,
    "hash": str,
    "mode": str,
    "host": str,
    "attempt": int,
    "slot": int,
    "pid": int,
}
ON_EVERY_LINE = ("ts", "level", "service", "event", "latency_ms", "mode")
