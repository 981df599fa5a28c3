"""The extension behind `edge_server.guard`; see there for process, ownership and threads.

"The request being answered" is the one whose application call is on the stack.
"""

from collections.abc import Callable, Iterable
from typing import Any

def install(server_run: Any, /) -> None:
    """Lead bjoern's calls to the guard; once a process image, before the fork or after it.

    Args:
        server_run: ``_bjoern.server_run``, by which bjoern's object is found in memory.

    Raises:
        ImportError: its calls are not where they are expected; nothing may be served then.
    """

def configure(
    *,
    header_timeout_s: float,
    body_timeout_s: float,
    idle_timeout_s: float,
    parked_timeout_s: float,
    min_send_rate: int,
    max_connections: int,
    max_head_bytes: int,
    max_target_bytes: int,
    max_fields: int,
    max_body_bytes: int,
    warm_bytes: int,
    corr_prefix: str,
) -> None:
    """Set the limits. `corr_prefix` begins the correlation ids of the guard's own answers."""

def checked(
    app: Callable[[dict[str, Any], Callable[..., Any]], bytes | Iterable[bytes]], /
) -> Callable[[dict[str, Any], Callable[..., Any]], bytes | Iterable[bytes]]:
    """Return `app` with a start_response that raises ValueError for CR, LF or NUL in a header."""

class File:
    """A file that bodies are sent from, with the identity that its bytes must have.

    Args:
        descriptor: for reading; owned from now on, and closed when neither this object nor
            a body that is being sent needs it any more.
        size, mtime_ns, min_links: what fstat(2) must say of the file, before and while it is sent.

    What is asked for again and again is kept as warm blocks of 256 KiB, at most `warm_bytes` in
    all; they go with the object.
    """

    def __init__(self, descriptor: int, size: int, mtime_ns: int, min_links: int, /) -> None: ...
    def send(self, offset: int, length: int, /) -> bool | None:
        """Announce the body of the request being answered: bytes that Python never sees.

        The application then gives a Content-Length of `length` to start_response and returns
        ``b""``. Up to 16 KiB go out with the head; more is sent in pieces, from a warm block
        without copying, and else from the file, which is looked at after each read.

        Returns:
            True; or False if the bytes cannot be had unchanged, or None if reading the first of them
            would wait for a disk, and nothing is planned then. A change that comes later cuts the
            connection; bytes that are cold later make it wait (`on_cold`).

        Raises:
            RuntimeError: no request is being answered.
        """

    def at_hand(self, offset: int, length: int, /) -> bool:
        """Return whether these bytes can be read without waiting for a disk, or may be waited for.

        True also where the file system cannot tell, and for what is outside of the file.

        Raises:
            RuntimeError: no request is being answered.
        """

def may_wait() -> None:
    """Let the reads that begin the answer to the current request wait for a disk.

    Raises:
        RuntimeError: no request is being answered.
    """

def on_cold(function: Callable[[], None], /) -> None:
    """Call `function` from the loop when something is to be read ahead; it then asks `cold` what.

    Without it, a body of which the next bytes are cold is read by this process, however long that takes.
    """

def cold() -> list[tuple[int, int, int, int]]:
    """Return what is to be read ahead; for the function of `on_cold` only.

    Returns:
        ``(token, descriptor, offset, length)`` each. A connection rests until `go_on` or `give_up` is called
        with its token; 0 is nobody's. Descriptors are the guard's, and good until the function returns.
    """

def go_on(token: int, may_wait: bool, /) -> bool:
    """Have a connection that rests go on with its body.

    Args:
        may_wait: whether the next piece may be read whatever it takes.

    Returns:
        False if it does not rest any more.
    """

def give_up(token: int, /) -> bool:
    """Cut a connection that rests, as its bytes do not come; return False if it does not rest any more."""

def send_fields(lines: bytes, /) -> None:
    """Add header lines to the request being answered, besides those given to start_response.

    They cost the application and bjoern nothing per field. Content-Length is not among them.

    Args:
        lines: each one CR LF, a name, a colon and a value; made once by `header_lines`.

    Raises:
        ValueError: they would end the head.
        RuntimeError: no request is being answered.
    """

def send_memory(body: Any, /) -> None:
    """Announce a body that is copied now from a buffer; otherwise as `File.send`.

    Raises:
        RuntimeError: no request is being answered.
    """

def park() -> int:
    """Put the request being answered aside; return a token for `resume`.

    What the application answers is swallowed. The connection is only watched for its client's
    leaving; what the client sends meanwhile waits.

    Raises:
        RuntimeError: no request is being answered.
    """

def resume(token: int, /) -> bool:
    """Give a parked request to the application again.

    Returns:
        False if it is not parked any more: resumed before, or its client is gone.
    """

def replay_of() -> int:
    """Return the token of the parking after which the request being answered was given again.

    0 for a request that has not been parked, or is now.

    Raises:
        RuntimeError: no request is being answered.
    """

def peer() -> tuple[str, int]:
    """Return address and port of the client of the request being answered, IPv6 too.

    Raises:
        RuntimeError: no request is being answered.
    """

def arrived() -> float:
    """Return when the first byte of the request being answered was read, as time.monotonic().

    Raises:
        RuntimeError: no request is being answered.
    """

def pressure() -> int:
    """Return what speaks against answering the current request; 0 for nothing.

    Bits: 1, more requests are being answered or parked than the room set by `press_at`;
    2, this one is late (it has waited longer than the patience since its turn of the loop
    began) and late requests are to be shed; 4, it was let in before and parked, and the
    other bits are not looked at.

    Late requests are to be shed when there have been some for an interval without a turn in
    which nobody was late, and until there was none for an interval.

    Costs no system call: the time is that at which the request was given to the application.

    Raises:
        RuntimeError: no request is being answered.
    """

def press_at(room: int, patience_s: float, interval_s: float, /) -> None:
    """Set from when on `pressure` says so: requests at once; seconds of waiting, and for how long."""

def load() -> tuple[int, int, bool]:
    """Return requests being answered, requests parked, and whether late requests are to be shed."""

def least_wait() -> float:
    """Return the least, over the turns since the last call, of the longest wait in a turn; in seconds.

    It is what stands: a turn in which nobody waited long makes it small.
    """

def watch(descriptor: int, function: Callable[[], None], /) -> None:
    """Call `function` from the loop whenever `descriptor` is readable; for two descriptors at most.

    Raises:
        RuntimeError: the loop does not run yet, or two others are watched.
    """

def tick(function: Callable[[], None], /) -> None:
    """Call `function` from the loop about ten times a second."""

def stop_accepting() -> None:
    """Leave new connections in the kernel's queue, for whoever has the socket next."""

def close_after_answers() -> None:
    """Let every connection end with its next answer, which says so."""

def close_idle(seconds: float, /) -> int:
    """Close connections that have asked nothing for so long; return how many."""

def connections() -> dict[str, int]:
    """Return the client connections by state: fresh, head, body, busy, parked, idle, linger."""

def counters() -> dict[str, int]:
    """Return what happened since the process began, and `warm_bytes`: how many are kept now."""

def refusals() -> tuple[list[tuple[int, str, tuple[str, int], str, float]], list[tuple[int, str, int]]]:
    """Return what the guard answered by itself since the last call, oldest first.

    Returns:
        ``(status, reason, (address, port), correlation id, seconds since its first byte)`` of
        each of the last ones; and ``(status, reason, count)`` of those that were too many to keep.
    """

def repeat(kinds: int, bounds: tuple[float, ...], sample_every: int, /) -> None:
    """Let answers be repeated without asking the application, where it wants that (`remember`).

    Args:
        kinds: of answers, to be counted apart; at most 16.
        bounds: upper bounds of the latencies to be counted, in seconds, ascending; at most 16.
        sample_every: which of the repeated answers are told one by one; 0 for none.

    Raises:
        ValueError: too many of them.
    """

def remember(kind: int, etag: str, file: File | None, seconds: float, /) -> None:
    """Have the answer to the request being answered given again to the same bytes.

    Nothing of it may depend on more than the head of its request, but for Date, X-Corr-ID and the
    connection. Does nothing where the request has content or the connection ends with it, for HEAD,
    and where the answer turns out to be chunked or larger than 64 KiB without being a file's. A file is
    looked at each time; the answer is forgotten with the `File`.

    Args:
        kind: below `kinds` of `repeat`.
        etag: for the samples.
        file: what the answer was made from, where its body is not sent from a `File`; None for nothing
            that can change.
        seconds: for how long it may be repeated; 0 for as long as it is kept.

    Raises:
        RuntimeError: no request is being answered.
    """

def repeated() -> tuple[
    list[tuple[tuple[int, ...], float, int]],
    list[tuple[int, tuple[str, int], str, str, float, int]],
]:
    """Return what was repeated since the last call.

    Returns:
        For each kind how many had a latency within each bound and beyond the last one, the sum of
        the latencies, and the bytes of the bodies. And the samples: ``(kind, (address, port),
        correlation id, etag, latency, bytes)``, at most 256.
    """

def forget() -> None:
    """Forget every answer that was to be repeated."""
