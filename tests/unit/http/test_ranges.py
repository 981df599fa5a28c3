"""Byte ranges against RFC 9110 section 14, a set of byte numbers, and werkzeug."""

from __future__ import annotations

import itertools

import pytest
import werkzeug.http
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_server.errors import RangeNotSatisfiable
from edge_server.http.ranges import content_range, parse_range, parse_ranges, unsatisfied_range

bounded = settings(max_examples=200, deadline=None, derandomize=True)

Spec = tuple[str, int, int]  # kind ("closed", "open" or "suffix"), first number, second number


def id_of(case: object) -> str | None:
    return case.replace(" ", "_") if isinstance(case, str) else None


@pytest.mark.parametrize(
    ("section", "value", "size", "span"),
    [
        ("14.1.2 first 500 bytes", "bytes=0-499", 10000, (0, 500)),
        ("14.1.2 second 500 bytes", "bytes=500-999", 10000, (500, 1000)),
        ("14.1.2 final 500 bytes", "bytes=-500", 10000, (9500, 10000)),
        ("14.1.2 open end", "bytes=9500-", 10000, (9500, 10000)),
        ("14.1.2 one byte", "bytes=0-0", 10000, (0, 1)),
        ("14.1.2 the last byte", "bytes=-1", 10000, (9999, 10000)),
        ("14.1.2 last position beyond the end", "bytes=9999-20000", 10000, (9999, 10000)),
        ("14.1.2 suffix longer than all", "bytes=-20000", 10000, (0, 10000)),
        ("14.1.2 suffix of an empty object", "bytes=-1", 0, None),
        ("14.1.1 leading zeros", "bytes=000-0009", 10, (0, 10)),
        ("14.1.1 leading zeros beyond nineteen digits", f"bytes={'0' * 40}5-{'0' * 40}7", 10, (5, 8)),
        ("14.1 unit in any case", "ByTeS=1-2", 10, (1, 3)),
        ("5.6.1.2 empty members", "bytes=, ,1-2,\t,", 10, (1, 3)),
        ("5.6.1 space around the list", "bytes= 1-2 ", 10, (1, 3)),
        ("5.5 space around the field", " bytes=1-2\t", 10, (1, 3)),
        ("14.2 another unit", "items=0-1", 10, None),
        ("14.2 another unit of an empty object", "seconds=9-1", 0, None),
        ("14.2 no unit", "=0-1", 10, None),
        ("14.2 an empty field", "", 10, None),
        ("14.2 not a range at all", "0-1", 10, None),
        ("14.2 a unit that starts alike", "bytesx=0-1", 10, None),
        ("14.1.2 nineteen digits", f"bytes=1-{'9' * 19}", 10, (1, 10)),
        ("14.1.2 ten thousand digits", f"bytes=1-{'9' * 10_000}", 10, (1, 10)),
        ("14.1.2 a suffix of ten thousand digits", f"bytes=-{'9' * 10_000}", 10, (0, 10)),
    ],
    ids=id_of,
)
def test_one_range_gives_its_bytes(section: str, value: str, size: int, span: tuple[int, int] | None) -> None:
    assert parse_range(value, size) == span
    assert parse_ranges(value, size) == (None if span is None else [span])


UNSATISFIABLE = [
    ("14.1.2 starts at the end", "bytes=10-", 10),
    ("14.1.2 starts beyond the end", "bytes=10000-20000", 10),
    ("14.1.2 a suffix of nothing", "bytes=-0", 10),
    ("14.1.2 a suffix of many nothings", f"bytes=-{'0' * 30}", 10),
    ("14.1.2 an empty object has no first byte", "bytes=0-", 0),
    ("14.1.2 an empty object has no bytes", "bytes=0-0", 0),
    ("14.1.2 an empty object and an empty suffix", "bytes=-0", 0),
    ("14.1.2 ten thousand digits", f"bytes={'9' * 10_000}-", 10),
    ("14.1.2 ten thousand digits twice", f"bytes={'9' * 10_000}-{'9' * 10_000}", 10),
    ("14.1.1 ends before it starts", "bytes=9-1", 10),
    ("14.1.1 ends before it starts beyond the end", f"bytes=1{'0' * 30}-{'9' * 30}", 10),
    ("14.1.1 letters", "bytes=a-b", 10),
    ("14.1.1 no set", "bytes=", 10),
    ("14.1.1 no set and no equals sign", "bytes", 10),
    ("14.1.1 only commas", "bytes=, ,", 10),
    ("14.1.1 only a dash", "bytes=-", 10),
    ("14.1.1 no dash", "bytes=5", 10),
    ("14.1.1 two dashes", "bytes=1-2-3", 10),
    ("14.1.1 a double suffix", "bytes=--5", 10),
    ("14.1.1 a sign", "bytes=+1-2", 10),
    ("14.1.1 underscores", "bytes=1_0-2_0", 100),
    ("14.1.1 a fraction", "bytes=1.0-2", 10),
    ("14.1.1 hexadecimal", "bytes=0x1-0x2", 10),
    ("14.1.1 digits of another script", "bytes=\u0661-\u0662", 10),
    ("14.1.1 superscript digits", "bytes=\xb9-\xb2", 10),
    ("14.1.1 space inside", "bytes=1 - 2", 10),
    ("14.1 space before the equals sign", "bytes =1-2", 10),
    ("14.1 a line break", "bytes=1-2\n", 10),
    ("14.1 a second equals sign", "bytes==1-2", 10),
    ("14.1.1 a semicolon", "bytes=1-2;3-4", 10),
    ("14.1.1 one member does not parse", "bytes=1-2,x", 10),
    ("14.1.1 one member ends before it starts", "bytes=1-2,9-1", 10),
]


@pytest.mark.parametrize(("section", "value", "size"), UNSATISFIABLE, ids=id_of)
def test_what_does_not_parse_or_exist_is_refused_with_the_size(section: str, value: str, size: int) -> None:
    for parse in (parse_range, parse_ranges):
        with pytest.raises(RangeNotSatisfiable) as refusal:
            parse(value, size)
        assert refusal.value.headers == (("Content-Range", f"bytes */{size}"),)
        assert (refusal.value.status, refusal.value.reason) == (416, "invalid_range")


@pytest.mark.parametrize(
    "value", ["bytes=0-1,4-5", "bytes=0-0,0-0", "bytes=-1,0-", "bytes=0-1,99-"], ids=id_of
)
def test_several_ranges_are_refused_where_one_is_expected(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable, match="several"):
        parse_range(value, 10)


@pytest.mark.parametrize(
    ("section", "value", "size", "spans"),
    [
        ("15.3.7.2 apart", "bytes=0-1,4-5", 10, [(0, 2), (4, 6)]),
        ("15.3.7.2 in the order asked for", "bytes=4-5,0-1", 10, [(4, 6), (0, 2)]),
        ("15.3.7.2 overlapping", "bytes=0-5,3-8", 10, [(0, 9)]),
        ("15.3.7.2 touching", "bytes=0-4,5-8", 10, [(0, 9)]),
        ("15.3.7.2 one byte between", "bytes=0-4,6-8", 10, [(0, 5), (6, 9)]),
        ("15.3.7.2 one inside another", "bytes=2-3,0-9", 10, [(0, 10)]),
        ("15.3.7.2 merged ones stand where the first did", "bytes=8-9,0-1,7-8", 10, [(7, 10), (0, 2)]),
        ("15.3.7.2 merged with a later one", "bytes=0-5,8-9,3-6", 10, [(0, 7), (8, 10)]),
        ("15.3.7.2 joined by a later one", "bytes=0-1,6-7,2-5", 10, [(0, 8)]),
        ("14.1.2 first and last byte", "bytes=0-0,-1", 10000, [(0, 1), (9999, 10000)]),
        ("14.1.2 one exists", "bytes=100-,5-6", 10, [(5, 7)]),
        ("14.1.2 empty object, a suffix among them", "bytes=0-0,-5", 0, None),
        ("5.6.1 any space around commas", "bytes=0-1 ,\t4-5", 10, [(0, 2), (4, 6)]),
    ],
    ids=id_of,
)
def test_several_ranges_are_coalesced(
    section: str, value: str, size: int, spans: list[tuple[int, int]] | None
) -> None:
    assert parse_ranges(value, size) == spans


def test_as_many_parts_as_allowed_pass_and_one_more_does_not() -> None:
    value = "bytes=" + ",".join(f"{10 * place}-{10 * place}" for place in range(16))
    assert len(parse_ranges(value, 1000) or ()) == 16
    with pytest.raises(RangeNotSatisfiable, match="too many parts"):
        parse_ranges(value + ",990-", 1000)
    assert parse_ranges("bytes=0-0,2-2", 1000, max_parts=2) == [(0, 1), (2, 3)]
    with pytest.raises(RangeNotSatisfiable, match="too many parts"):
        parse_ranges("bytes=0-0,2-2", 1000, max_parts=1)


def test_parts_are_counted_after_coalescing_and_ranges_before() -> None:
    assert parse_ranges("bytes=" + ",".join(["0-9"] * 128), 1000) == [(0, 10)]
    with pytest.raises(RangeNotSatisfiable, match="too many ranges"):
        parse_ranges("bytes=" + ",".join(["0-9"] * 129), 1000)
    with pytest.raises(RangeNotSatisfiable):
        parse_ranges("bytes=" + ",".join(["0-9"] * 5000), 1000)
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-9" + "," * 16_000, 1000)


def test_content_range_counts_from_zero_to_the_last_byte() -> None:
    assert content_range(0, 500, 1234) == "bytes 0-499/1234"
    assert content_range(1233, 1234, 1234) == "bytes 1233-1233/1234"
    assert unsatisfied_range(0) == "bytes */0"


def text_of(spec: Spec) -> str:
    kind, first, second = spec
    return {"closed": f"{first}-{second}", "open": f"{first}-", "suffix": f"-{first}"}[kind]


def bytes_of(spec: Spec, size: int) -> set[int]:
    kind, first, second = spec
    if kind == "closed":
        return set(range(first, min(second + 1, size)))
    return set(range(first, size)) if kind == "open" else set(range(max(0, size - first), size))


numbers = st.integers(0, 60)
specs = st.one_of(
    st.tuples(st.just("closed"), numbers, numbers).map(lambda s: (s[0], min(s[1:]), max(s[1:]))),
    st.tuples(st.just("open"), numbers, st.just(0)),
    st.tuples(st.just("suffix"), numbers, st.just(0)),
)
commas = st.sampled_from([",", ", ", " ,", ",\t,", " , ,"])
units = st.sampled_from(["bytes=", "Bytes=", "BYTES=", "bytes=,"])


@bounded
@given(st.lists(specs, min_size=1, max_size=12), commas, units, st.integers(0, 50))
def test_coalescing_covers_exactly_the_union(wanted: list[Spec], comma: str, unit: str, size: int) -> None:
    value = unit + comma.join(text_of(spec) for spec in wanted)
    union = set().union(*(bytes_of(spec, size) for spec in wanted))
    has_suffix = any(kind == "suffix" and first for kind, first, _ in wanted)
    if not union:
        if size == 0 and has_suffix:
            assert parse_ranges(value, size) is None
        else:
            with pytest.raises(RangeNotSatisfiable):
                parse_ranges(value, size)
        return
    spans = parse_ranges(value, size)
    assert spans is not None
    covered = [number for start, stop in spans for number in range(start, stop)]
    assert len(covered) == len(union)
    assert set(covered) == union
    ordered = sorted(spans)
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(ordered))
    firsts = [min(i for i, spec in enumerate(wanted) if bytes_of(spec, size) & set(range(*s))) for s in spans]
    assert firsts == sorted(firsts)


@bounded
@given(specs, units, st.integers(0, 50))
def test_one_range_is_what_the_list_of_one_is(spec: Spec, unit: str, size: int) -> None:
    value = unit + text_of(spec)
    try:
        span = parse_range(value, size)
    except RangeNotSatisfiable:
        with pytest.raises(RangeNotSatisfiable):
            parse_ranges(value, size)
    else:
        assert parse_ranges(value, size) == (None if span is None else [span])


hostile = st.one_of(
    st.text(alphabet="bytes=0123456789-, \t", max_size=60).map(lambda text: "bytes=" + text),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=40),
    st.integers(0, 10**30).map(lambda number: f"bytes={number}-{number * 3}"),
)


@bounded
@given(hostile, st.integers(0, 2**63))
@example("bytes=" + "9" * 5000 + "-", 5)
@example("bytes=-" + "9" * 5000, 5)
def test_any_span_lies_inside_whatever_the_field_says(value: str, size: int) -> None:
    try:
        span, spans = parse_range(value, size), parse_ranges(value, size)
    except RangeNotSatisfiable:
        return
    for start, stop in [*([span] if span else []), *(spans or [])]:
        assert 0 <= start < stop <= size


@bounded
@given(specs, st.integers(1, 50))
def test_werkzeug_reads_the_same_bytes(spec: Spec, size: int) -> None:
    kind, first, _second = spec
    if kind == "suffix" and not 0 < first <= size:
        return  # werkzeug refuses a suffix longer than the object, against section 14.1.2
    parsed = werkzeug.http.parse_range_header(f"bytes={text_of(spec)}")
    expected = None if parsed is None else parsed.range_for_length(size)
    try:
        assert parse_range(f"bytes={text_of(spec)}", size) == expected
    except RangeNotSatisfiable:
        assert expected is None
