"""The kinds of value that settings have, each declared once.

A kind is an annotated type: how text becomes the value, which limits hold, what is
accepted in words (for errors and the manual), and what editors check (JSON Schema).
Knows no process and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from edge_server.config import addresses, units
from edge_server.config.addresses import Address

MAX_WORKERS = 1024


@dataclass(frozen=True, slots=True)
class Accepts:
    """Part of a setting's type: what it accepts, in words, and how a value is written back."""

    words: str
    write: Callable[[Any], str] = str


def _whole(value: object) -> object:
    """Let only whole numbers through: not true, which Python counts as 1."""
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().isdecimal()):
        raise ValueError("that is not a whole number")
    return value


def _number(value: object) -> object:
    """Keep true and false from counting as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("that is not a number")
    return value


def _whole_or_word(value: object) -> object:
    """Read digits as a number and leave words to the type."""
    if isinstance(value, bool):
        raise ValueError("that is neither a number nor a word")
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _cpu_list(value: object) -> object:
    """Read ``0,2`` as two CPUs and leave words to the type."""
    if isinstance(value, str) and value.replace(",", "").replace(" ", "").isdecimal():
        return [part for part in value.split(",") if part.strip()]
    return value


def _one_line(value: str) -> str:
    # A line end in a field value would split the response (RFC 9110 section 5.5).
    if not value or not all(" " <= char <= "~" for char in value):
        raise ValueError("it must be one line of printable ASCII")
    return value


def _file_path(value: str) -> str:
    if not value or "\x00" in value:
        raise ValueError("that is not a path")
    return value


def _url_prefix(value: str) -> str:
    prefix = value.removeprefix("/")
    if any(char < " " or char in "?#\\" for char in prefix) or ".." in prefix.split("/"):
        raise ValueError("that is not the beginning of a path")
    return prefix


def _write_words(value: str | tuple[int, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


_QUANTITY_SCHEMA = {"type": ["string", "number"], "minimum": 0}
_SIZE_SCHEMA = _QUANTITY_SCHEMA | {"pattern": r"^[0-9]+(\.[0-9]+)?\s*([KkMmGg]?[Ii]?[Bb])?$"}
_RATE_SCHEMA = _QUANTITY_SCHEMA | {"pattern": r"^[0-9]+(\.[0-9]+)?\s*([KkMmGg]?[Ii]?[Bb])?(/s)?$"}
_DURATION_SCHEMA = _QUANTITY_SCHEMA | {"pattern": r"^[0-9]+(\.[0-9]+)?\s*([Mm]?[Ss]|[MmHh])?$"}

Size = Annotated[
    int,
    BeforeValidator(units.parse_size),
    Accepts(units.SIZE_WORDS, units.format_size),
    WithJsonSchema(_SIZE_SCHEMA),
]
Rate = Annotated[
    int,
    BeforeValidator(units.parse_rate),
    Accepts(units.RATE_WORDS, units.format_size),
    WithJsonSchema(_RATE_SCHEMA),
]
Duration = Annotated[
    float,
    BeforeValidator(units.parse_duration),
    Accepts(units.DURATION_WORDS, units.format_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
Listening = Annotated[
    Address,
    PlainValidator(addresses.parse_address),
    Accepts(addresses.ADDRESS_WORDS),
    WithJsonSchema({"type": "string", "pattern": r"^.+:[0-9]{1,5}$"}),
]
Whole = Annotated[int, BeforeValidator(_whole), Accepts("a whole number")]
Number = Annotated[
    float,
    BeforeValidator(_number),
    Field(allow_inf_nan=False),
    Accepts("a number", lambda value: f"{value:g}"),
]
Flag = Annotated[bool, Accepts("true or false", lambda value: "true" if value else "false")]
FilePath = Annotated[str, AfterValidator(_file_path), Accepts("a path")]
FieldValue = Annotated[str, AfterValidator(_one_line), Accepts("one line of printable ASCII")]
HostPattern = Annotated[str, AfterValidator(addresses.normalize_host_pattern), Accepts(addresses.HOST_WORDS)]
Cidr = Annotated[str, AfterValidator(addresses.normalize_cidr), Accepts(addresses.CIDR_WORDS)]
CorsOrigin = Annotated[
    str, AfterValidator(addresses.normalize_cors_origin), Accepts(addresses.CORS_ORIGIN_WORDS)
]
HttpUrl = Annotated[str, AfterValidator(addresses.normalize_http_url), Accepts(addresses.HTTP_URL_WORDS)]
Token = Annotated[str, AfterValidator(addresses.check_token), Accepts(addresses.TOKEN_WORDS)]
UrlPrefix = Annotated[str, AfterValidator(_url_prefix), Accepts("the beginning of a path, such as fonts/")]
Verify = Literal["none", "index", "full"]
WorkerCount = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_WORKERS)],
    BeforeValidator(_whole_or_word),
    Accepts(f"auto, or a whole number from 1 to {MAX_WORKERS}"),
]
CpuPinning = Annotated[
    Literal["auto", "none"] | Annotated[tuple[Annotated[Whole, Field(ge=0)], ...], Field(min_length=1)],
    BeforeValidator(_cpu_list),
    Accepts("auto, none, or a list of CPU numbers", _write_words),
]
RetryReason = Annotated[
    Literal["timeout"] | Annotated[int, Field(ge=400, le=599)],
    BeforeValidator(_whole_or_word),
    Accepts("a status from 400 to 599, or timeout"),
]
EmptyTile = Annotated[Literal[204, 404], BeforeValidator(_whole_or_word), Accepts("204 or 404")]
