"""Preconditions against RFC 9110 section 13, an oracle of the decision list, and werkzeug."""

from __future__ import annotations

import itertools

import pytest
import werkzeug.http
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http.dates import http_date
from edge_server.http.preconditions import evaluate, if_range_holds, parse_entity_tags

bounded = settings(max_examples=200, deadline=None, derandomize=True)

TAG = '"b3:' + "0f" * 32 + '"'
OTHER = '"b3:' + "ee" * 32 + '"'
NOW = 784111777
EARLIER, SAME, LATER = http_date(NOW - 1), http_date(NOW), http_date(NOW + 1)


def id_of(case: object) -> str | None:
    return case.replace(" ", "_") if isinstance(case, str) and case[:3] in ("13.", "8.8", "5.6") else None


@pytest.mark.parametrize(
    ("section", "fields", "status"),
    [
        ("13.2.2 no condition", {}, 200),
        ("13.1.1 the tag", {"if_match": TAG}, 200),
        ("13.1.1 another tag", {"if_match": OTHER}, 412),
        ("13.1.1 any", {"if_match": "*"}, 200),
        ("13.1.1 any with space", {"if_match": " *\t"}, 200),
        ("13.1.1 among others", {"if_match": f"{OTHER}, {TAG}"}, 200),
        ("13.1.1 weak never matches strongly", {"if_match": f"W/{TAG}"}, 412),
        ("13.1.1 malformed", {"if_match": "b3"}, 412),
        ("13.1.1 empty", {"if_match": ""}, 412),
        ("13.1.1 any is no member of a list", {"if_match": f"{OTHER}, *"}, 412),
        ("13.1.4 unmodified", {"if_unmodified_since": SAME}, 200),
        ("13.1.4 unmodified since later", {"if_unmodified_since": LATER}, 200),
        ("13.1.4 modified", {"if_unmodified_since": EARLIER}, 412),
        ("13.1.4 no date is ignored", {"if_unmodified_since": "yesterday"}, 200),
        ("13.1.2 the tag", {"if_none_match": TAG}, 304),
        ("13.1.2 the tag with space", {"if_none_match": f" {TAG} "}, 304),
        ("13.1.2 another tag", {"if_none_match": OTHER}, 200),
        ("13.1.2 any", {"if_none_match": "*"}, 304),
        ("13.1.2 weak matches weakly", {"if_none_match": f"W/{TAG}"}, 304),
        ("13.1.2 last of a list", {"if_none_match": f'"", W/"x,y",\t{TAG}'}, 304),
        ("13.1.2 inside another tag", {"if_none_match": f'"a,{TAG[1:-1]},b"'}, 200),
        ("13.1.2 malformed", {"if_none_match": TAG[:-1]}, 200),
        ("13.1.2 unquoted", {"if_none_match": TAG[1:-1]}, 200),
        ("13.1.2 empty", {"if_none_match": ""}, 200),
        ("13.1.3 unmodified", {"if_modified_since": SAME}, 304),
        ("13.1.3 unmodified since later", {"if_modified_since": LATER}, 304),
        ("13.1.3 modified", {"if_modified_since": EARLIER}, 200),
        ("13.1.3 no date is ignored", {"if_modified_since": "0"}, 200),
        ("13.1.3 two dates are ignored", {"if_modified_since": f"{SAME}, {SAME}"}, 200),
        (
            "13.1.4 If-Match rules out If-Unmodified-Since",
            {"if_match": TAG, "if_unmodified_since": EARLIER},
            200,
        ),
        (
            "13.1.3 If-None-Match rules out If-Modified-Since",
            {"if_none_match": OTHER, "if_modified_since": SAME},
            200,
        ),
        ("13.2.2 412 before 304", {"if_match": OTHER, "if_none_match": TAG}, 412),
        ("13.2.2 412 of a date before 304", {"if_unmodified_since": EARLIER, "if_none_match": TAG}, 412),
        ("13.2.2 304 after If-Match holds", {"if_match": TAG, "if_none_match": TAG}, 304),
        ("13.2.2 304 of a date after If-Match holds", {"if_match": "*", "if_modified_since": LATER}, 304),
    ],
    ids=id_of,
)
def test_the_conditions_lead_to_the_status(section: str, fields: dict[str, str], status: int) -> None:
    assert evaluate(TAG, NOW, **fields) == status


@pytest.mark.parametrize("field", ["if_unmodified_since", "if_modified_since"])
@pytest.mark.parametrize("date", [EARLIER, SAME, LATER, "x"])
def test_dates_are_ignored_without_a_modification_date(field: str, date: str) -> None:
    assert evaluate(TAG, None, **{field: date}) == 200


def test_a_weak_current_tag_matches_weakly_and_never_strongly() -> None:
    weak = f"W/{TAG}"
    assert evaluate(weak, None, if_none_match=TAG) == 304
    assert evaluate(weak, None, if_none_match=weak) == 304
    assert evaluate(weak, None, if_match=weak) == 412
    assert evaluate(weak, None, if_match=TAG) == 412
    assert evaluate(weak, None, if_match="*") == 200


@pytest.mark.parametrize(
    ("section", "value", "tags"),
    [
        ("8.8.3 strong", '"xyzzy"', [(False, '"xyzzy"')]),
        ("8.8.3 weak", 'W/"xyzzy"', [(True, '"xyzzy"')]),
        ("8.8.3 empty", '""', [(False, '""')]),
        ("8.8.3 weak is case-sensitive", 'w/"xyzzy"', []),
        ("8.8.3 comma inside", '"a,b", "c"', [(False, '"a,b"'), (False, '"c"')]),
        ("8.8.3 backslash is no escape", '"a\\", "b"', [(False, '"a\\"'), (False, '"b"')]),
        ("8.8.3 obs-text", '"\xe4"', [(False, '"\xe4"')]),
        ("8.8.3 no space inside", '"a b"', []),
        ("8.8.3 no control inside", '"a\x7f"', []),
        ("8.8.3 no space after W", 'W/ "a"', []),
        ("5.6.1 no space needed", '"a","b"', [(False, '"a"'), (False, '"b"')]),
        ("5.6.1.2 empty members", ', ,"a",\t, "b", ,', [(False, '"a"'), (False, '"b"')]),
        ("5.6.1 a comma is needed", '"a" "b"', []),
        ("5.6.1 a comma is needed without space", '"a""b"', []),
        ("5.6.1 unclosed", '"a", "b', []),
        ("5.6.1 unquoted", '"a", b', []),
        ("5.6.1 only commas", ", ,", []),
    ],
    ids=id_of,
)
def test_lists_of_tags_are_read(section: str, value: str, tags: list[tuple[bool, str]]) -> None:
    assert parse_entity_tags(value) == tags


@pytest.mark.parametrize(
    ("section", "value", "holds"),
    [
        ("13.1.5 the tag", TAG, True),
        ("13.1.5 with space", f" {TAG} ", True),
        ("13.1.5 another tag", OTHER, False),
        ("13.1.5 weak", f"W/{TAG}", False),
        ("13.1.5 a list", f"{TAG}, {OTHER}", False),
        ("13.1.5 any", "*", False),
        ("13.1.5 a date", SAME, False),
        ("13.1.5 a later date", LATER, False),
        ("13.1.5 unquoted", TAG[1:-1], False),
        ("13.1.5 empty", "", False),
    ],
    ids=id_of,
)
def test_if_range_holds_for_the_strong_tag_alone(section: str, value: str, holds: bool) -> None:
    assert if_range_holds(value, TAG) is holds


def test_if_range_never_holds_for_a_weak_current_tag() -> None:
    assert not if_range_holds(f"W/{TAG}", f"W/{TAG}")
    assert not if_range_holds(TAG, f"W/{TAG}")


MATCH_CASES = {None: None, "*": True, TAG: True, OTHER: False, f"W/{TAG}": False, "broken": False}
NONE_MATCH_CASES = {None: None, "*": True, TAG: True, OTHER: False, f"W/{TAG}": True, "broken": False}
DATES = (None, EARLIER, SAME, LATER, "broken")


def oracle(match: str | None, unmodified: str | None, none_match: str | None, modified: str | None) -> int:
    """Section 13.2.2, step by step, for an object of TAG and NOW."""
    if match is not None:
        if not MATCH_CASES[match]:
            return 412  # step 1
    elif unmodified == EARLIER:
        return 412  # step 2
    if none_match is not None:
        return 304 if NONE_MATCH_CASES[none_match] else 200  # step 3
    return 304 if modified in (SAME, LATER) else 200  # step 4


def test_every_combination_follows_the_order_of_section_13_2_2() -> None:
    combinations = list(itertools.product(MATCH_CASES, DATES, NONE_MATCH_CASES, DATES))
    assert len(combinations) == 900
    for match, unmodified, none_match, modified in combinations:
        status = evaluate(
            TAG,
            NOW,
            if_match=match,
            if_unmodified_since=unmodified,
            if_none_match=none_match,
            if_modified_since=modified,
        )
        assert status == oracle(match, unmodified, none_match, modified), (
            match,
            unmodified,
            none_match,
            modified,
        )


opaque = st.text(alphabet="abc,*/W:'", max_size=6).map(lambda text: f'"{text}"')
members = st.lists(st.tuples(st.booleans(), opaque), min_size=1, max_size=8)
commas = st.sampled_from([",", ", ", " , ", ",\t,", ", ,"])


@bounded
@given(members, commas, opaque)
def test_any_list_that_is_written_is_read_and_compared(
    tags: list[tuple[bool, str]], comma: str, current: str
) -> None:
    value = comma.join(("W/" if is_weak else "") + tag for is_weak, tag in tags)
    assert parse_entity_tags(value) == tags
    names = [tag for _, tag in tags]
    assert evaluate(current, None, if_none_match=value) == (304 if current in names else 200)
    assert evaluate(current, None, if_match=value) == (200 if (False, current) in tags else 412)


@bounded
@given(members, opaque)
def test_werkzeug_finds_the_same_tags(tags: list[tuple[bool, str]], current: str) -> None:
    value = ", ".join(("W/" if is_weak else "") + tag for is_weak, tag in tags)
    etags = werkzeug.http.parse_etags(value)
    if any(tag == '""' for _, tag in tags):
        return  # werkzeug takes an empty tag for none
    assert (evaluate(current, None, if_none_match=value) == 304) is etags.contains_weak(current[1:-1])
    assert (evaluate(current, None, if_match=value) == 200) is etags.is_strong(current[1:-1])


@bounded
@given(
    st.text(alphabet=st.characters(max_codepoint=255), max_size=60), st.text(alphabet='"W/, *a', max_size=30)
)
def test_no_text_makes_it_raise(anything: str, almost: str) -> None:
    for value in (anything, almost):
        assert evaluate(TAG, NOW, if_match=value, if_none_match=value) in (200, 304, 412)
        assert evaluate(TAG, NOW, if_unmodified_since=value, if_modified_since=value) == 200
        if_range_holds(value, TAG)
