from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.observe.spans import Context, Share, new_span_id, new_trace_id, parse

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "context"),
    [
        (f"00-{TRACE}-{PARENT}-01", Context(TRACE, PARENT, True)),
        (f"00-{TRACE}-{PARENT}-00", Context(TRACE, PARENT, False)),
        (f"00-{TRACE}-{PARENT}-ff", Context(TRACE, PARENT, True)),
        (f"01-{TRACE}-{PARENT}-01-more", Context(TRACE, PARENT, True)),
        (f"01-{TRACE}-{PARENT}-01", Context(TRACE, PARENT, True)),
        (f"00-{TRACE}-{PARENT}-01-more", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}-1", None),
        (f"00-{TRACE}-{PARENT}-01\r\nX: y", None),
        (f"01-{TRACE}-{PARENT}-01-" + "x" * 1000, None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_read_as_w3c_trace_context_section_3_2_says(
    value: str | None, context: Context | None
) -> None:
    assert parse(value) == context


@given(st.text())
def test_no_text_breaks_the_reader(value: str) -> None:
    parse(value)


@pytest.mark.parametrize("is_sampled", [True, False])
def test_what_is_passed_on_is_read_again(is_sampled: bool) -> None:
    context = Context(new_trace_id(), new_span_id(), is_sampled)
    assert parse(context.traceparent) == context


@pytest.mark.parametrize(("share", "taken"), [(0.0, 0), (0.01, 10), (0.5, 500), (1.0, 1000)])
def test_a_share_is_taken_evenly(share: float, taken: int) -> None:
    one = Share(share)
    assert sum(one.takes() for _ in range(1000)) == pytest.approx(taken, abs=1)
