"""Messages: what crosses the channels between workers and the sidecar, a packet each.

Process      an Ask is sent by a worker and read by the sidecar, a Done the other way.
Memory       compact JSON, at most PACKET_BYTES; a channel is a SOCK_SEQPACKET pair, so a packet comes whole
             or not at all.
Consistency  a ticket is unique over all workers that ever had a channel, so an answer to a worker that has
             died says nothing to its successor. Deadlines are CLOCK_MONOTONIC, the same in all processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from edge_server.errors import MessageInvalid

PACKET_BYTES = 8 << 10

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class Kind(str, Enum):
    """What a worker asks for."""

    FILL = "fill"  # somebody waits for it
    REVALIDATE = "revalidate"  # nobody waits: what is stored was served stale


class Outcome(str, Enum):
    """What came of an Ask."""

    STORED = "stored"  # the response stands in the fill index
    REVALIDATED = "revalidated"  # the stored one has been confirmed by its origin
    STALE = "stale"  # the origin fails, and the stored one may stand in for it
    PASSED = "passed"  # it stands there under an id of its own, for those who wait only
    REFUSED = "refused"  # there is none, for the reason that is given
    AGAIN = "again"  # the sidecar leaves: ask its successor


class Ask(NamedTuple):
    """One miss.

    Attributes:
        ticket: names it in the answer.
        key: the asset's key.
        fields: of the request, those that may select content; names in lower case.
        cache_control: value of the request's Cache-Control, or nothing.
        has_authorization: whether the request had such a field.
        deadline_s: CLOCK_MONOTONIC until when an answer is of use.
        corr_id: of the first request that waits.
        range: value of its Range field, where it is to be answered with 206; or nothing.
        trace: a traceparent that the fill's span goes on with; nothing where tracing is off.
    """

    ticket: int
    kind: Kind
    key: str
    fields: Mapping[str, str]
    cache_control: str
    has_authorization: bool
    deadline_s: float
    corr_id: str
    range: str = ""
    trace: str = ""

    def pack(self) -> bytes:
        """Return the packet.

        Raises:
            MessageInvalid: it would be longer than PACKET_BYTES.
        """
        return _bounded([*self[:1], self.kind.value, *self[2:]])

    @classmethod
    def unpack(cls, packet: bytes) -> Ask:
        """Return what `pack` made a packet of.

        Raises:
            MessageInvalid: it is no such packet.
        """
        message = _list(packet, 10)
        ticket, kind, key, fields, control, has_authorization, deadline_s, corr_id, wanted, trace = message
        try:
            return cls(
                int(ticket),
                Kind(kind),
                str(key),
                {str(name): str(value) for name, value in fields.items()},
                str(control),
                bool(has_authorization),
                float(deadline_s),
                str(corr_id),
                str(wanted),
                str(trace),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise MessageInvalid(f"no Ask: {error}") from error


class Done(NamedTuple):
    """What came of an Ask.

    Attributes:
        outcome: an Outcome; a REFUSED one has a reason of ``http/reasons.py``.
        key_id: under which the response stands in the fill index; nothing where there is none.
        retry_after_s: what the origin asks for, or 0.
    """

    ticket: int
    outcome: Outcome
    key_id: bytes = b""
    reason: str = ""
    retry_after_s: int = 0

    def pack(self) -> bytes:
        """Return the packet."""
        return _bounded([self.ticket, self.outcome.value, self.key_id.hex(), self.reason, self.retry_after_s])

    @classmethod
    def unpack(cls, packet: bytes) -> Done:
        """Return what `pack` made a packet of.

        Raises:
            MessageInvalid: it is no such packet.
        """
        ticket, outcome, key_id, reason, retry_after_s = _list(packet, 5)
        try:
            return cls(int(ticket), Outcome(outcome), bytes.fromhex(key_id), str(reason), int(retry_after_s))
        except (ValueError, TypeError) as error:
            raise MessageInvalid(f"no Done: {error}") from error


def _bounded(message: list[Any]) -> bytes:
    packet = _encode(message).encode("ascii")
    if len(packet) > PACKET_BYTES:
        raise MessageInvalid(f"{len(packet)} bytes, more than {PACKET_BYTES}")
    return packet


def _list(packet: bytes, length: int) -> list[Any]:
    try:
        message = json.loads(packet)
    except ValueError as error:
        raise MessageInvalid(f"no JSON: {error}") from error
    if not isinstance(message, list) or len(message) != length:
        raise MessageInvalid("not a list of the right length")
    return message
