"""Preconditions: whether a request is answered, and whether with a body.

Specification: RFC 9110 section 13. Only GET and HEAD of something that exists are
judged. Does no I/O and knows no process.
"""

from __future__ import annotations

import re

from edge_server.http.dates import parse_http_date

# RFC 9110 section 8.8.3: entity-tag = [ weak ] opaque-tag; weak = %s"W/"
# opaque-tag = DQUOTE *etagc DQUOTE; etagc = %x21 / %x23-7E / obs-text, which includes the comma.
_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)+")


def evaluate(
    etag: str,
    last_modified_s: int | None,
    *,
    if_match: str | None = None,
    if_unmodified_since: str | None = None,
    if_none_match: str | None = None,
    if_modified_since: str | None = None,
) -> int:
    """Return the status that the preconditions of a GET or HEAD lead to.

    Args:
        etag: the current entity tag as it stands in the ETag field.
        last_modified_s: Unix time of the Last-Modified field; None without one, and
            the two date conditions are then ignored.
        if_match: value of the field, as the other three; None where it is absent.

    Returns:
        200 where the request proceeds (Range comes next), 304 or 412.

    Source: RFC 9110 sections 13.1 and 13.2.2.
    """
    if if_match is not None:
        if not _holds_strongly(if_match, etag):
            return 412
    elif if_unmodified_since is not None and last_modified_s is not None:
        date_s = parse_http_date(if_unmodified_since)
        if date_s is not None and last_modified_s > date_s:
            return 412
    if if_none_match is not None:
        return 304 if _names_weakly(if_none_match, etag) else 200
    if if_modified_since is not None and last_modified_s is not None:
        date_s = parse_http_date(if_modified_since)
        if date_s is not None and last_modified_s <= date_s:
            return 304
    return 200


def if_range_holds(value: str, etag: str) -> bool:
    """Return whether an If-Range field lets the Range field count.

    Only a strong entity tag can hold: a modification date is no strong validator
    here, since files may be replaced twice in a second.

    Source: RFC 9110 sections 13.1.5 and 8.8.3.2.
    """
    return value.strip(" \t") == etag and etag.startswith('"')


def parse_entity_tags(value: str) -> list[tuple[bool, str]]:
    """Return the members of an If-Match or If-None-Match list.

    Args:
        value: a field value other than ``*``.

    Returns:
        ``(is_weak, opaque_tag)`` with the quotes, in order; an empty list where any
        part of the value is not an entity tag, since nothing after it can be trusted.

    Source: RFC 9110 sections 8.8.3 and 5.6.1.2 (empty members are ignored).
    """
    text = value.strip(" \t,")
    tags = []
    position = 0
    while position < len(text):
        match = _ENTITY_TAG.match(text, position)
        if match is None:
            return []
        tags.append((match[1] is not None, match[2]))
        separator = _SEPARATOR.match(text, match.end())
        if separator is None:
            return tags if match.end() == len(text) else []
        position = separator.end()
    return tags


def _holds_strongly(if_match: str, etag: str) -> bool:
    """Section 13.1.1, by the strong comparison of section 8.8.3.2."""
    if if_match.strip(" \t") == "*":
        return True
    return (False, etag) in parse_entity_tags(if_match)


def _names_weakly(if_none_match: str, etag: str) -> bool:
    """Section 13.1.2, by the weak comparison of section 8.8.3.2."""
    if if_none_match == etag or if_none_match.strip(" \t") == "*":
        return True
    opaque = etag[2:] if etag.startswith("W/") else etag
    return any(tag == opaque for _, tag in parse_entity_tags(if_none_match))
