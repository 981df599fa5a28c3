"""The map preview: a tile pack as MapLibre GL JS draws it, and what its archive says of itself.

What the archive says is escaped here and set as text there: names and attributions come from files that
somebody else may have made. The library is part of the package where ``make pages`` has built it in;
without it the page says how to get it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from edge_server.shm.catalog import TileView
from edge_server.sidecar.formats import NOTHING
from edge_server.sidecar.status_page import MARK, head
from edge_server.sidecar.tiles import TILES_PATH

# MapLibre decodes pictures from blobs, and its style sheet has its buttons inline.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_STYLE_SHEET = '<link rel="stylesheet" href="/pages/vendor/maplibre-gl.css">'
_DRAWN = ("pbf", "mlt", "png", "jpg", "webp", "avif")  # TileJSON `format` of what MapLibre can draw

# What preview.js puts to work.
_CONTROLS = f"""
<section><h2>Layers</h2><ul id="layers"></ul></section>
<section><h2>Under the pointer</h2>
<dl class="facts-list">
<div><dt>Position</dt><dd id="position">{NOTHING}</dd></div>
<div><dt>Tile</dt><dd id="tile">{NOTHING}</dd></div>
<div><dt>Stored</dt><dd id="size">{NOTHING}</dd></div>
</dl>
<p><label><input type="checkbox" id="grid"> Tile grid</label></p></section>
<section><h2>Feature</h2>
<div id="feature" aria-live="polite"><p class="dim">Click one.</p></div></section>
<noscript><p class="stale">The map needs JavaScript and WebGL.</p></noscript>
"""


def render(tiles: TileView, *, has_map: bool) -> bytes:
    """Return the page of a tile set.

    Args:
        tiles: the tile set.
        has_map: whether the library is there.
    """
    told = tiles.tilejson
    name = str(told.get("name") or tiles.name)
    is_drawn = has_map and told.get("format") in _DRAWN
    title = f"{tiles.name} · svc-edge preview"
    start = head(title, "preview", _STYLE_SHEET) if is_drawn else head(title, "preview", has_script=False)
    place = f'data-tilejson="{TILES_PATH}{quote(tiles.name)}.json"'
    return (
        f'{start}<body><header class="top">{MARK}<h1>{escape(name)}</h1>'
        f'<p class="kind">{escape(_kind(tiles))}</p><a class="back" href="/">Status</a></header>'
        f'<main {place}><div id="map" role="region" aria-label="Map of {escape(name)}">'
        f"{'' if is_drawn else _why_not(has_map)}</div>{_panel(tiles, is_drawn)}</main></body></html>\n"
    ).encode()


def _why_not(has_map: bool) -> str:
    if has_map:
        return '<p class="absent">Tiles of this type cannot be drawn.</p>'
    return (
        '<div class="absent"><h2>The map is not built in</h2>'
        "<p>This installation has no MapLibre GL JS, which draws it. In a checkout, with npm at hand, run</p>"
        "<pre><code>make pages</code></pre>"
        "<p>and load this page again. A wheel built after that carries it.</p></div>"
    )


def _panel(tiles: TileView, is_drawn: bool) -> str:
    controls = _CONTROLS if is_drawn else ""
    return f'<aside class="panel">{controls}<section><h2>Pack</h2>{_facts(tiles)}</section></aside>'


def _facts(tiles: TileView) -> str:
    rows = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in _told(tiles) if text
    )
    return f'<dl class="facts-list">{rows}</dl>'


def _told(tiles: TileView) -> Iterable[tuple[str, str]]:
    told = tiles.tilejson
    layers = [str(layer.get("id")) for layer in told.get("vector_layers", ())]
    return (
        ("Pack", tiles.name),
        ("Name", str(told.get("name", ""))),
        ("Description", str(told.get("description", ""))),
        ("Attribution", str(told.get("attribution", ""))),
        ("Version", str(told.get("version", ""))),
        ("Type", tiles.media_type),
        ("Stored as", tiles.coding or "identity"),
        ("Zooms", f"{tiles.min_zoom} to {tiles.max_zoom}"),
        ("Bounds", _numbers(told.get("bounds", ()))),
        ("Center", _numbers(told.get("center", ()))),
        ("Stored tiles", f"{tiles.rows:,}"),
        ("Vector layers", ", ".join(layers)),
    )


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _kind(tiles: TileView) -> str:
    kind = "vector" if tiles.tilejson.get("format") in ("pbf", "mlt") else "raster"
    return f"{kind} tiles, zooms {tiles.min_zoom} to {tiles.max_zoom}"
