"""Cache-Control: its directives, of requests and of responses, as numbers and flags.

Specification: RFC 9111 sections 4.2.1, 5.2, 5.2.1 and 5.2.2; RFC 5861 (stale-while-revalidate,
stale-if-error); RFC 8246 (immutable). Where a directive stands twice or cannot be read, the
stricter reading holds: section 4.2.1 recommends to treat such a response as stale. Does no I/O
and knows no process.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

# Section 1.2.2: a number of seconds that is too large is 2**31 or the largest that can be held.
MAX_DELTA_S = 2**31
ANY_STALENESS = MAX_DELTA_S  # max-stale without an argument

# RFC 9110 sections 5.6.2 to 5.6.4: token [ "=" ( token / quoted-string ) ], separated by commas.
_DIRECTIVE = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    r"(?:[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",;]*)))?[ \t]*(?:,|$)"
)
_EMPTY = re.compile(r"[ \t]*,")
_MAX_LENGTH = 4096


class RequestDirectives(NamedTuple):
    """What a request asks of caches; seconds, None where a directive is absent."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    min_fresh_s: int | None = None
    max_stale_s: int | None = None


class ResponseDirectives(NamedTuple):
    """What a response tells shared caches; seconds, None where a directive is absent."""

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None


def directives(value: str) -> dict[str, list[str | None]]:
    """Return the directives of a Cache-Control value: names in lower case, and each argument given.

    What does not parse is passed over up to the next comma.
    """
    found: dict[str, list[str | None]] = {}
    position, text = 0, value[:_MAX_LENGTH]
    while position < len(text):
        match = _DIRECTIVE.match(text, position)
        if match is not None:
            quoted, token = match[2], match[3]
            argument = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found.setdefault(match[1].lower(), []).append(argument)
            position = match.end()
            continue
        skipped = _EMPTY.match(text, position)
        comma = text.find(",", position)
        position = skipped.end() if skipped else (comma + 1 if comma >= 0 else len(text))
    return found


def delta_seconds(text: str | None) -> int | None:
    """Return a number of seconds, or None if it is none. Source: RFC 9111 section 1.2.2."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return min(int(text[:20]), MAX_DELTA_S)


@lru_cache(maxsize=1024)
def request_directives(value: str) -> RequestDirectives:
    """Return what a request's Cache-Control asks. Source: RFC 9111 section 5.2.1."""
    found = directives(value)
    max_stale = found.get("max-stale")
    return RequestDirectives(
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=_least(found, "max-age", 0),
        min_fresh_s=_most(found, "min-fresh"),
        max_stale_s=None if max_stale is None else _max_stale(max_stale),
    )


@lru_cache(maxsize=1024)
def response_directives(value: str) -> ResponseDirectives:
    """Return what a response's Cache-Control tells a shared cache.

    The forms of no-cache and private that name fields count as those without, which section
    5.2.2.4 says many caches do: never wrong, at times more careful than needed.

    Source: RFC 9111 section 5.2.2.
    """
    found = directives(value)
    return ResponseDirectives(
        no_store="no-store" in found,
        no_cache="no-cache" in found,
        private="private" in found,
        public="public" in found,
        must_revalidate="must-revalidate" in found,
        proxy_revalidate="proxy-revalidate" in found,
        must_understand="must-understand" in found,
        immutable="immutable" in found,
        max_age_s=_least(found, "max-age", 0),
        s_maxage_s=_least(found, "s-maxage", 0),
        stale_while_revalidate_s=_least(found, "stale-while-revalidate", 0),
        stale_if_error_s=_least(found, "stale-if-error", 0),
    )


def _least(found: dict[str, list[str | None]], name: str, unreadable: int) -> int | None:
    values = found.get(name)
    if values is None:
        return None
    seconds = [delta_seconds(value) for value in values]
    return min(unreadable if value is None else value for value in seconds)


def _most(found: dict[str, list[str | None]], name: str) -> int | None:
    seconds = [delta_seconds(value) for value in found.get(name, ())]
    known = [value for value in seconds if value is not None]
    return max(known) if known else None


def _max_stale(values: list[str | None]) -> int:
    """Return the staleness that is taken: of any degree if no number is given (section 5.2.1.2)."""
    return min(ANY_STALENESS if value is None else (delta_seconds(value) or 0) for value in values)
