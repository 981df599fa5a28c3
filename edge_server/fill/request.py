"""What is asked of the engine, and what it answers.

Process      whichever runs the engine; made and read by its threads and by who submits.
Lifetime     a fill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edge_server.errors import Rejection
from edge_server.fill.blocks import Block
from edge_server.fill.fields import Field
from edge_server.fill.receiving import Sink
from edge_server.fill.storing import Known

NO_DIGEST = bytes(32)


class Request(NamedTuple):
    """What is wanted.

    Attributes:
        key: as `asset_key` returns it.
        variant_fields: the client's fields that an origin may see, as `fields.forwarded` returns them.
        cache_control: value of the client's Cache-Control, or nothing.
        has_authorization: whether the client sent credentials; they are not passed on.
        deadline_s: when there must be an answer, monotonic seconds.
        corr_id: for logs.
        known: validators of the stored response, if it is to be revalidated.
        variant: `vary.variant_of` the request, where the key is known to vary; requests of
            different variants do not wait for each other.
        block: bytes of an object that is too large to be fetched whole, half-open; with it, the
            tag of `known` names the version that the block must be of.
        tags: fields of our own that let the origin's log be followed.
    """

    key: str
    variant_fields: Mapping[str, str]
    cache_control: str
    has_authorization: bool
    deadline_s: float
    corr_id: str
    known: Known | None = None
    variant: str = ""
    block: Block | None = None
    tags: tuple[Field, ...] = ()


class Fetched(NamedTuple):
    """What an origin answered, whole and verified.

    Attributes:
        status: 200; 304 for `not_modified`; 404 or 410; 206 for a `block`, unless the origin sent
            all of it (`blocks.part_of` the fields says which part, and of how much).
        fields: all fields of the answer; without Content-Encoding where that was undone.
        sink: the body, with status 200 and 206; to be committed or aborted by the `done` with `is_first`.
        digest: BLAKE3-256 of the sink's bytes; zeros without one.
        size: bytes in the sink.
        url_host: what answered in the end, as A-labels.
        request_ms, response_ms: wall clock, Unix ms, for the age of the response.
        not_modified: what is stored is still right.
        attempts: how many it took.
        is_first: whether this `done` is that of the request which was fetched with.
    """

    status: int
    fields: list[Field]
    sink: Sink | None
    digest: bytes
    size: int
    url_host: str
    request_ms: int
    response_ms: int
    not_modified: bool
    attempts: int
    is_first: bool = True


Done = Callable[["Fetched | Rejection"], None]
