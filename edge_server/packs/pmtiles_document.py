"""The metadata of a PMTiles archive and the TileJSON document made of it.

Follows the PMTiles version 3 specification, chapter 5, and TileJSON 3.0.0, whose readers
"MUST treat invalid values for keys as if they were not present": an odd value is left
out, and only what is no JSON object at all refuses the archive. Does no I/O.
"""

from __future__ import annotations

import json
from typing import Any

from edge_server.errors import PackError
from edge_server.http.codings import DecodeCap, DecodeError, decode
from edge_server.packs.pmtiles_header import CODINGS, TILE_TYPES, Header

MAX_METADATA_BYTES = 8 << 20

_E7 = 10_000_000
_TEXTS = ("name", "description", "attribution", "version", "legend")
_VECTOR_FORMATS = ("pbf", "mlt")


def inflate_metadata(pack: str, header: Header, data: bytes) -> bytes:
    """Return the metadata as JSON text in UTF-8; an archive without any has ``{}``.

    Raises:
        PackError: it does not inflate, or not within `MAX_METADATA_BYTES`.
    """
    coding = CODINGS[header.internal_compression]
    if not data:
        return b"{}"
    if not coding:
        return data
    try:
        return decode(coding, data, max_bytes=MAX_METADATA_BYTES)
    except DecodeCap as error:
        reason = f"its metadata inflate to more than {MAX_METADATA_BYTES} bytes"
        raise PackError(pack, reason, header.metadata_offset) from error
    except DecodeError as error:
        raise PackError(pack, f"its metadata are not {coding}: {error}", header.metadata_offset) from error


def parse_metadata(pack: str, header: Header, text: bytes) -> dict[str, Any]:
    """Return the metadata as a dict.

    Raises:
        PackError: not a JSON object in UTF-8, or one that cannot be written back.
    """
    try:
        metadata = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
        if isinstance(metadata, dict):
            # Lone surrogates and numbers beyond a double pass the parser and fail the writer.
            json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode("utf-8")
            return metadata
    except (ValueError, RecursionError) as error:
        reason = f"its metadata are no JSON in UTF-8: {type(error).__name__}"
        raise PackError(pack, reason, header.metadata_offset) from error
    raise PackError(pack, "its metadata are no JSON object", header.metadata_offset)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def tilejson(header: Header, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the archive's TileJSON 3.0.0 document without its `tiles`."""
    kind = TILE_TYPES[header.tile_type]
    document: dict[str, Any] = {"tilejson": "3.0.0", "scheme": "xyz"}
    for key in _TEXTS:
        if isinstance(metadata.get(key), str):
            document[key] = metadata[key]
    document["minzoom"], document["maxzoom"] = header.min_zoom, header.max_zoom
    document.update(_places(header))
    if kind.format:
        document["format"] = kind.format
    if kind.format in _VECTOR_FORMATS:
        document["vector_layers"] = _vector_layers(metadata.get("vector_layers"))
    encoding = "mlt" if kind.format == "mlt" else metadata.get("encoding")
    if isinstance(encoding, str):
        document["encoding"] = encoding
    fillzoom = metadata.get("fillzoom")
    if isinstance(fillzoom, int) and not isinstance(fillzoom, bool) and 0 <= fillzoom <= 30:
        document["fillzoom"] = fillzoom
    return document


def _places(header: Header) -> dict[str, list[float]]:
    """Return `bounds` and `center` where the header's are places on the globe."""
    west, south, east, north = (
        header.min_lon_e7 / _E7, header.min_lat_e7 / _E7, header.max_lon_e7 / _E7, header.max_lat_e7 / _E7
    )  # fmt: skip
    places: dict[str, list[float]] = {}
    if -180 <= west < east <= 180 and -90 <= south < north <= 90:
        places["bounds"] = [west, south, east, north]
    longitude, latitude = header.center_lon_e7 / _E7, header.center_lat_e7 / _E7
    if -180 <= longitude <= 180 and -90 <= latitude <= 90:
        zoom = min(max(header.center_zoom, header.min_zoom), header.max_zoom)
        places["center"] = [longitude, latitude, zoom]
    return places


def _vector_layers(value: object) -> list[dict[str, Any]]:
    """Return the layers that have an id; TileJSON 3.0.0 section 3.3 requires `fields` beside it."""
    layers = value if isinstance(value, list) else []
    return [
        {**layer, "fields": layer["fields"] if isinstance(layer.get("fields"), dict) else {}}
        for layer in layers
        if isinstance(layer, dict) and isinstance(layer.get("id"), str)
    ]
