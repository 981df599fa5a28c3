"""The error tree: everything this package raises on purpose derives from EdgeError.

The edge of each role translates: the command line to exit codes, worker and
sidecar to the reasons of ``http/reasons.py``. Knows no process and does no I/O.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of what this package raises on purpose; ends a process with `exit_code`."""

    exit_code = 1


class ConfigError(EdgeError):
    """A setting that cannot be used: names key, value, file and line, and the remedy."""

    exit_code = 78  # EX_CONFIG of sysexits.h


class PackError(EdgeError):
    """A pack that cannot be mounted.

    Args:
        pack: the pack's path as configured.
        reason: what is wrong, in words an operator can act on.
        offset: byte position in the archive where it was found, if there is one.
    """

    exit_code = 78

    def __init__(self, pack: str, reason: str, offset: int | None = None) -> None:
        self.pack = pack
        self.reason = reason
        self.offset = offset
        place = "" if offset is None else f" at byte {offset}"
        super().__init__(f"pack {pack}{place}: {reason}")


class ResourceError(EdgeError):
    """A port, shared memory or another thing of the machine that is not to be had."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class NoRoom(EdgeError):
    """Something fits neither tier of the store, or its record not into the fill index."""


class BodyGone(EdgeError, KeyError):
    """The body of a record is not there, or not as it was stored."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class Miss(EdgeError):
    """No answer is here, or none that may be given without asking the origin.

    Args:
        key: of the asset.
        cause: ``cold``, ``stale``, or ``bypass`` where only the request forbids what is here.
        rounds: how often the request has been parked for it.
    """

    def __init__(self, key: str, cause: str, rounds: int = 0) -> None:
        super().__init__(f"{cause} miss")
        self.key = key
        self.cause = cause
        self.rounds = rounds


class Cold(EdgeError):
    """Bytes of an answer are in no memory, and reading them would wait for a disk.

    Args:
        descriptor: of the file; open as long as its owner has it.
        offset, length: what is wanted now.
        more: bytes behind that will be wanted soon.
    """

    def __init__(self, descriptor: int, offset: int, length: int, more: int = 0) -> None:
        super().__init__(f"{length} bytes at {offset} are cold")
        self.descriptor = descriptor
        self.offset = offset
        self.length = length
        self.more = more


class Unhashed(EdgeError):
    """An entry has no digest yet, and is too big to be hashed while others wait.

    Args:
        entry: its number in the catalog.
        length: of it, in bytes.
    """

    def __init__(self, entry: int, length: int) -> None:
        super().__init__(f"entry {entry} is not hashed yet")
        self.entry = entry
        self.length = length


class MessageInvalid(EdgeError):
    """A packet of a channel that is too long, or not one that its reader knows."""


class Rejection(EdgeError):
    """A refused request. Subclasses fix `status` and `reason` (contract, section 1).

    Args:
        detail: for the log only; it never reaches a client.
        headers: response fields that the refusal must carry, e.g. Content-Range.
    """

    status = 500
    reason = "internal"

    def __init__(self, detail: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail or self.reason)
        self.headers = headers


class InternalError(Rejection):
    """A defect of this program: 500, logged with its cause."""


class Refused(Rejection):
    """A refusal whose reason another process has given.

    Args:
        reason: of ``http/reasons.py``.
        retry_after_s: what its origin asks for; 0 for what the reason says.
    """

    def __init__(self, reason: str, detail: str = "", retry_after_s: int = 0) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class BadRequest(Rejection):
    status, reason = 400, "bad_request"


class DecompressCap(Rejection):
    """What an origin sent becomes larger than may be inflated here."""

    status, reason = 400, "decompress_cap"


class RatioCap(Rejection):
    """What an origin sent grows further than may be inflated here."""

    status, reason = 400, "ratio_cap"


class NotAllowed(Rejection):
    """A host off the allow-list, or an address that no fill may connect to."""

    status, reason = 403, "not_allowed"


class NotFound(Rejection):
    status, reason = 404, "not_found"


class MethodNotAllowed(Rejection):
    status, reason = 405, "method"


class NotAcceptable(Rejection):
    status, reason = 406, "not_acceptable"


class PreconditionFailed(Rejection):
    status, reason = 412, "precondition"


class RangeNotSatisfiable(Rejection):
    status, reason = 416, "invalid_range"


class PackUnreadable(Rejection):
    """The file behind an entry is gone, changed, short, or fails to read.

    Args:
        what: what happened, without a path: it is logged.
        path: the file, for people at a terminal.
    """

    status, reason = 503, "pack_io"

    def __init__(self, what: str, path: str = "") -> None:
        super().__init__(f"{path}: {what}" if path else what)
        self.what = what


class Busy(Rejection):
    """A queue of this instance is full."""

    status, reason = 429, "busy"


class UpstreamClientError(Rejection):
    """The origin answered with a 4xx other than 404 and 410."""

    status, reason = 502, "upstream_4xx"


class UpstreamServerError(Rejection):
    """The origin answered with a 5xx."""

    status, reason = 502, "upstream_5xx"


class EtagInvalid(Rejection):
    """The origin's ``b3:`` entity tag is not the hash of what it sent."""

    status, reason = 502, "etag_invalid"


class IntegrityError(Rejection):
    """What the origin sent is not whole, not what it declares, or not what was asked for."""

    status, reason = 502, "integrity"


class TooLarge(IntegrityError):
    """An object over `fill.max_object_bytes`; it was not fetched to its end."""


class AnotherVersion(IntegrityError):
    """A part of an object that is not the one which the parts before it are of."""


class FillTimeout(Rejection):
    """The budget of the request was over before the origin had answered."""

    status, reason = 503, "timeout"


class Amnesia(Rejection):
    """A fill, while amnesia is on and a setting names a disk."""

    status, reason = 503, "amnesia"


class FillUnavailable(Rejection):
    """The origin cannot be reached, or nobody here can fetch at present."""

    status, reason = 503, "fill_unavailable"


class StoreUnavailable(FillUnavailable):
    """The store takes no more, or its disk takes too long. Says nothing of the origin, and another attempt
    does not help."""
