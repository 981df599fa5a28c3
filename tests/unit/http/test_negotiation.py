"""Accept-Encoding against RFC 9110 section 12.5.3 and werkzeug."""

from __future__ import annotations

import itertools
import time

import pytest
import werkzeug.http
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http.negotiation import Acceptance, choose_coding, parse_accept_encoding

bounded = settings(max_examples=200, deadline=None, derandomize=True)

ALL = ("", "gzip", "zstd", "br")


def id_of(case: object) -> str | None:
    return case.replace(" ", "_") if isinstance(case, str) and case[:2] == "12" else None


@pytest.mark.parametrize(
    ("section", "value", "available", "coding"),
    [
        ("12.5.3 no field: identity", None, ALL, ""),
        ("12.5.3 no field: anything else", None, ("gzip",), "gzip"),
        ("12.5.3 no field: br before gzip", None, ("gzip", "br"), "br"),
        ("12.5.3 empty: identity only", "", ALL, ""),
        ("12.5.3 empty: no coding", "", ("br", "gzip", "zstd"), None),
        ("12.5.3 a browser", "gzip, deflate, br, zstd", ALL, "br"),
        ("12.5.3 a browser without br", "gzip, deflate, br, zstd", ("", "gzip", "zstd"), "zstd"),
        ("12.5.3 a browser with gzip alone", "gzip, deflate, br, zstd", ("gzip",), "gzip"),
        ("12.5.3 listed before unlisted identity", "gzip;q=0.001", ALL, "gzip"),
        ("12.5.3 unlisted identity remains", "gzip", ("", "br"), ""),
        ("12.5.3 unlisted coding is refused", "gzip", ("br", "zstd"), None),
        ("12.5.3 x-gzip", "x-gzip", ALL, "gzip"),
        ("12.5.3 any case", "GZip;Q=0.5, BR;q=0.4", ALL, "gzip"),
        ("12.5.3 star", "*", ALL, "br"),
        ("12.5.3 star and identity equal", "*", ("", "gzip"), "gzip"),
        ("12.5.3 star excludes", "*;q=0", ALL, None),
        ("12.5.3 star excludes all but one", "gzip, *;q=0", ALL, "gzip"),
        ("12.5.3 star excludes identity", "gzip, *;q=0", ("", "br"), None),
        ("12.5.3 identity despite star", "identity;q=0.5, *;q=0", ALL, ""),
        ("12.5.3 star and one refused", "br;q=0, *", ALL, "zstd"),
        ("12.5.3 identity refused", "identity;q=0", ("",), None),
        ("12.5.3 identity refused, gzip taken", "identity;q=0, gzip", ("", "gzip"), "gzip"),
        ("12.5.3 identity preferred", "identity, gzip;q=0.9", ALL, ""),
        ("12.5.3 identity listed last", "gzip, identity;q=0.1", ("", "br"), ""),
        ("12.4.2 weights decide", "br;q=0.2, gzip;q=0.8, zstd;q=0.5", ALL, "gzip"),
        ("12.4.2 three decimals", "br;q=0.998, gzip;q=0.999", ALL, "gzip"),
        ("12.4.2 zero in every spelling", "br;q=0, gzip;q=0.0, zstd;q=0.000", ALL, ""),
        ("12.4.2 zero with a bare point", "br;q=0., gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 one in every spelling", "zstd;q=1.000, gzip;q=1.", ALL, "zstd"),
        ("12.4.2 space around the semicolon", "br ;\tq=0.1 , gzip ; q=0.2", ALL, "gzip"),
        ("12.4.2 four decimals are ignored", "br;q=0.9999, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 above one is ignored", "br;q=1.001, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 two is ignored", "br;q=2, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 no leading zero is ignored", "br;q=.9, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 negative is ignored", "br;q=-1, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 exponent is ignored", "br;q=1e0, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 nan is ignored", "br;q=nan, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 no value is ignored", "br;q=, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 space around equals is ignored", "br;q = 1, gzip;q=0.1", ALL, "gzip"),
        ("12.4.2 quotes are ignored", 'br;q="1", gzip;q=0.1', ALL, "gzip"),
        ("12.5.3 parameters are ignored", "br;level=5, gzip;q=0.1", ALL, "gzip"),
        ("12.5.3 more than a weight is ignored", "br;q=1;x=y, gzip;q=0.1", ALL, "gzip"),
        ("12.5.3 two words are ignored", "br gzip, zstd", ALL, "zstd"),
        ("12.5.3 no digits of another script", "br;q=0.\u0665, gzip;q=0.1", ALL, "gzip"),
        ("12.5.3 nothing parses: identity", "q=1;;, ;", ALL, ""),
        ("12.5.3 nothing parses: no coding", "q=1;;, ;", ("gzip",), None),
        ("12.5.3 twice: the higher", "gzip;q=0, x-gzip;q=0.5", ALL, "gzip"),
        ("12.5.3 twice: the higher first", "gzip;q=0.5, x-gzip;q=0", ALL, "gzip"),
        ("12.5.3 empty members", ",, gzip ,", ALL, "gzip"),
        ("12.5.3 nothing stored", "*", (), None),
        ("12.5.3 a coding of no name here", "*", ("compress",), None),
    ],
    ids=id_of,
)
def test_the_coding_is_chosen(
    section: str, value: str | None, available: tuple[str, ...], coding: str | None
) -> None:
    assert choose_coding(parse_accept_encoding(value), available) == coding


@pytest.mark.parametrize("available", list(itertools.permutations(ALL)), ids=repr)
def test_the_order_of_what_is_stored_does_not_matter(available: tuple[str, ...]) -> None:
    taken = parse_accept_encoding("*")
    assert choose_coding(taken, available) == "br"
    assert choose_coding(taken, [coding for coding in available if coding != "br"]) == "zstd"
    assert choose_coding(taken, [coding for coding in available if coding in ("", "gzip")]) == "gzip"


def test_acceptances_are_small_keys_shared_by_many_spellings() -> None:
    one, other = parse_accept_encoding("gzip, deflate, br"), parse_accept_encoding("br , x-gzip;q=1.0,foo")
    assert one == other == Acceptance(br=1000, zstd=0, gzip=1000, identity=1)
    assert len({one, other}) == 1


def test_members_after_the_sixty_fourth_are_not_read() -> None:
    padding = [f"x{number}" for number in range(63)]
    assert choose_coding(parse_accept_encoding(", ".join([*padding, "br"])), ("br",)) == "br"
    assert choose_coding(parse_accept_encoding(", ".join([*padding, "x", "br"])), ("br",)) is None


@pytest.mark.parametrize(
    "value",
    [
        "," * 1_000_000,
        "a" * 1_000_000,
        "gzip" + " " * 1_000_000 + "x",
        "gzip;q=0." + "0" * 1_000_000,
        "gzip;" * 200_000,
    ],
    ids=lambda value: value[:10],
)
def test_a_megabyte_of_it_is_read_in_linear_time(value: str) -> None:
    before = time.process_time()
    parse_accept_encoding(value)
    assert time.process_time() - before < 1


names = st.sampled_from(["br", "zstd", "gzip", "identity", "deflate", "*"])
weights = st.one_of(
    st.none(),
    st.sampled_from(["0", "0.0", "0.", "1", "1.0", "1.000"]),
    st.integers(0, 999).map(lambda thousandths: f"0.{thousandths:03}"),
)
members = st.lists(st.tuples(names, weights), min_size=1, max_size=8, unique_by=lambda member: member[0])
commas = st.sampled_from([",", ", ", " ,\t"])


def written(listed: list[tuple[str, str | None]], comma: str) -> str:
    return comma.join(name if weight is None else f"{name};q={weight}" for name, weight in listed)


@bounded
@given(members, commas)
def test_werkzeug_gives_the_same_weights(listed: list[tuple[str, str | None]], comma: str) -> None:
    if any(weight in ("0.", "1.") for _, weight in listed):
        return  # werkzeug wants a digit after the point, against section 12.4.2
    value = written(listed, comma)
    accept = werkzeug.http.parse_accept_header(value)
    acceptance = parse_accept_encoding(value)
    for coding in ("br", "zstd", "gzip"):
        assert getattr(acceptance, coding) == round(accept.quality(coding) * 1000)
    if any(name in ("identity", "*") for name, _ in listed):
        assert acceptance.identity == round(accept.quality("identity") * 1000)


@bounded
@given(members, commas, st.lists(st.sampled_from(ALL), unique=True))
def test_the_choice_is_the_best_that_is_stored(
    listed: list[tuple[str, str | None]], comma: str, available: list[str]
) -> None:
    stated = {name: 1.0 if weight is None else float(weight) for name, weight in listed}

    def quality(coding: str) -> float:
        name = coding or "identity"
        return stated.get(name, stated.get("*", 0 if coding else 0.0005))

    chosen = choose_coding(parse_accept_encoding(written(listed, comma)), available)
    takeable = [coding for coding in available if quality(coding) > 0]
    if not takeable:
        assert chosen is None
    else:
        best = max(quality(coding) for coding in takeable)
        preference = ["br", "zstd", "gzip", ""]
        assert chosen == min((c for c in takeable if quality(c) == best), key=preference.index)


@bounded
@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=80))
def test_no_text_makes_it_raise(value: str) -> None:
    acceptance = parse_accept_encoding(value)
    assert all(0 <= weight <= 1000 for weight in acceptance)
    assert parse_accept_encoding(value) == acceptance
