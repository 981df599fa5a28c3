"""Media types by file name, the same on every host and Python.

Specification: RFC 9110 section 8.3, RFC 9239 for JavaScript, the IANA registry. The
system's own tables are not asked for what stands here; for the rest the built-in
table of `mimetypes` is.
"""

from __future__ import annotations

import mimetypes
import posixpath
from functools import lru_cache

DEFAULT_MEDIA_TYPE = "application/octet-stream"

# Precompressed siblings of a file, by the suffix that stands after its own.
coding_of_suffix: dict[str, str] = {".br": "br", ".zst": "zstd", ".gz": "gzip"}

_OWN_TYPES = {
    # maps
    ".pmtiles": "application/vnd.pmtiles",
    ".mbtiles": "application/vnd.sqlite3",
    ".gpkg": "application/geopackage+sqlite3",
    ".mvt": "application/vnd.mapbox-vector-tile",
    ".pbf": "application/x-protobuf",
    ".mlt": "application/vnd.maplibre-tile",
    ".geojson": "application/geo+json",
    ".geojsonl": "application/geo+json-seq",
    ".topojson": "application/json",
    ".fgb": "application/vnd.flatgeobuf",
    ".gpx": "application/gpx+xml",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".kmz": "application/vnd.google-earth.kmz",
    ".parquet": "application/vnd.apache.parquet",
    ".terrain": "application/vnd.quantized-mesh",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    # scenes
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".b3dm": "application/octet-stream",
    ".ktx2": "image/ktx2",
    ".obj": "model/obj",
    ".stl": "model/stl",
    # fonts
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".ttc": "font/collection",
    ".eot": "application/vnd.ms-fontobject",
    # pictures
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".ico": "image/vnd.microsoft.icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".jxl": "image/jxl",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    # the web
    ".css": "text/css",
    ".csv": "text/csv",
    ".htm": "text/html",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".map": "application/json",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".pdf": "application/pdf",
    ".rst": "text/x-rst",
    ".rtf": "application/rtf",
    ".txt": "text/plain",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".xhtml": "application/xhtml+xml",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    # sound and film
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".m4v": "video/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".mpd": "application/dash+xml",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".srt": "text/plain",
    ".ts": "video/mp2t",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    # archives and data
    ".7z": "application/x-7z-compressed",
    ".br": "application/octet-stream",
    ".bz2": "application/x-bzip2",
    ".gz": "application/gzip",
    ".n3": "text/n3",
    ".nq": "application/n-quads",
    ".nt": "application/n-triples",
    ".sqlite": "application/vnd.sqlite3",
    ".tar": "application/x-tar",
    ".trig": "application/trig",
    ".xz": "application/x-xz",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}


def media_type(name: str) -> str:
    """Return the Content-Type of a file or path, by its last suffix, in any case of letters.

    Text types carry ``charset=utf-8``; a name without a known suffix is
    ``application/octet-stream``.
    """
    suffix = posixpath.splitext(name)[1].lower()
    own = _OWN_TYPES.get(suffix)
    if own is None:
        own = _built_in_types().get(suffix, DEFAULT_MEDIA_TYPE)
    return f"{own}; charset=utf-8" if own.startswith("text/") else own


@lru_cache(maxsize=1)
def _built_in_types() -> dict[str, str]:
    return mimetypes.MimeTypes(filenames=()).types_map[True]
