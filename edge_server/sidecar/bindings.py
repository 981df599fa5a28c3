"""Bindings: HTML whose values say where they come from, so that the browser can bring them up to date.

An element that shows a value names its path in the status document (``data-v``) and its format
(``data-as``); a table body names the list whose items are its rows (``data-rows``), and has a template of
one. ``pages/bindings.js`` reads those names; here the first values are put in. Everything is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from edge_server.sidecar.formats import NOTHING, spoken, state


class Column(NamedTuple):
    """A column: its heading, the path of its value in an item, its format.

    `label` is the text of a link, where `format` is ``link``.
    """

    head: str
    path: str
    format: str = "count"
    label: str = ""


def look(item: Any, path: str) -> Any:
    """Return the value at a dotted path, ``""`` for the item itself; None where there is none."""
    for key in path.split(".") if path else ():
        if not isinstance(item, Mapping):
            return None
        item = item.get(key)
    return item


def value(status: Any, path: str, form: str, tag: str = "span", attributes: str = "") -> str:
    """Return an element that shows the value at `path`; `attributes` are trusted markup."""
    found = look(status, path)
    looks = state(form, found)
    told = f' data-state="{looks}"' if looks is not None else ""
    space = f" {attributes}" if attributes else ""
    return f'<{tag}{space} data-v="{path}" data-as="{form}"{told}>{escape(spoken(form, found))}</{tag}>'


def table(
    status: Any,
    caption: str,
    bodies: Sequence[str],
    columns: Sequence[Column],
    *,
    name: str,
    empty: str = "",
    is_titled: bool = False,
) -> str:
    """Return a table with a body for each of the lists at the paths `bodies`.

    Args:
        caption: its title.
        is_titled: whether the title is seen; where a heading above says it, it is only told.
        name: of its template, unique in the page.
        empty: said while no list has an item.
    """
    heads = "".join(
        f'<th scope="col" role="columnheader"{_aligned(column)}>{escape(column.head)}</th>'
        for column in columns
    )
    filled = "".join(
        f'<tbody role="rowgroup" data-rows="{path}" data-template="row-{name}">'
        + "".join(_row(item, columns) for item in _items(look(status, path)))
        + "</tbody>"
        for path in bodies
    )
    hidden = "" if is_titled else ' class="told"'
    titled = f"<caption{hidden}>{escape(caption)}</caption>"
    note = f'<p class="empty">{escape(empty)}</p>' if empty else ""
    return (
        f'<div class="table"><table role="table" class="{name}">{titled}'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>{filled}</table>{note}'
        f'<template id="row-{name}">{_row({}, columns)}</template></div>'
    )


def _items(found: Any) -> list[Any]:
    """Return the items of a list; of a mapping, its pairs as ``key`` and ``value``."""
    if isinstance(found, Mapping):
        return [{"key": key, "value": each} for key, each in found.items()]
    return list(found or ())


def _row(item: Any, columns: Sequence[Column]) -> str:
    cells = "".join(_cell(item, column, index == 0) for index, column in enumerate(columns))
    return f'<tr role="row">{cells}</tr>'


def _cell(item: Any, column: Column, is_first: bool) -> str:
    tag, role = ("th", 'scope="row" role="rowheader"') if is_first else ("td", 'role="cell"')
    attributes = f'{role} data-label="{escape(column.head)}"{_aligned(column)}'
    if column.format == "link":
        return f"<{tag} {attributes}>{_link(look(item, column.path), column)}</{tag}>"
    if item == {} or look(item, column.path) is None:
        bound = f'data-v="{column.path}" data-as="{column.format}"'
        return f"<{tag} {attributes} {bound}>{NOTHING}</{tag}>"
    return value(item, column.path, column.format, tag, attributes)


def _link(address: Any, column: Column) -> str:
    where = f'href="{escape(address)}"' if address else "hidden"
    return f'<a {where} data-v="{column.path}" data-as="link">{escape(column.label)}</a>'


def _aligned(column: Column) -> str:
    return ' class="t"' if column.format in ("text", "name", "link", "holds", "zooms") else ""
