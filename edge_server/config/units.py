"""Sizes, durations and rates as people write them.

Sizes follow IEC 80000-13 (``KiB`` is 1024 bytes) and the SI (``KB`` is 1000);
durations know ``ms``, ``s``, ``m`` and ``h``. A number without a unit is bytes or
seconds. Knows no process and does no I/O.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

SIZE_WORDS = "a size such as 512KiB, 1MiB or 10GB (units B KB MB GB KiB MiB GiB; without one: bytes)"
DURATION_WORDS = "a duration such as 250ms, 5s, 10m or 1h (units ms s m h; without one: seconds)"
RATE_WORDS = "bytes a second, written as a size such as 1KiB; 0 switches it off"

_BYTES_IN: Mapping[str, int] = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": KIB, "mib": MIB, "gib": GIB,
}  # fmt: skip
_SECONDS_IN: Mapping[str, float] = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_MAX_BYTES = 1 << 62  # fits a signed 64-bit word, with room to add two of them
_MAX_SECONDS = 366 * 86400.0


def parse_size(value: object) -> int:
    """Return the bytes that `value` stands for.

    Args:
        value: a number of bytes, or text such as ``1MiB``; letter case is ignored.

    Raises:
        ValueError: not a size, a fraction of a byte, negative, or absurdly large.
    """
    amount = _quantity(value, _BYTES_IN)
    if amount != int(amount):
        raise ValueError("that is not a whole number of bytes")
    if amount > _MAX_BYTES:
        raise ValueError("that is more than this server can count")
    return int(amount)


def parse_duration(value: object) -> float:
    """Return the seconds that `value` stands for.

    Args:
        value: a number of seconds, or text such as ``250ms``; letter case is ignored.

    Raises:
        ValueError: not a duration, negative, or longer than a year.
    """
    amount = _quantity(value, _SECONDS_IN)
    if amount > _MAX_SECONDS:
        raise ValueError("that is longer than a year")
    return float(amount)


def parse_rate(value: object) -> int:
    """Return the bytes a second that `value` stands for: a size, with or without ``/s``."""
    if isinstance(value, str):
        value = value.strip().removesuffix("/s")
    return parse_size(value)


def format_size(size: int) -> str:
    """Return `size` with the largest unit that needs no fraction, as `parse_size` reads it."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B" if size else "0"


def format_duration(seconds: float) -> str:
    """Return `seconds` with the largest unit that needs no fraction, as `parse_duration` reads it."""
    if seconds == 0:
        return "0"
    milliseconds = round(seconds * 1000)
    for unit, factor in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def spoken_size(count: float) -> str:
    """Return a number of bytes for people, e.g. ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def spoken_duration(seconds: float) -> str:
    """Return a duration for people, in its two largest units, e.g. ``1 h 5 min``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2]) or "0 s"


def _quantity(value: object, factors: Mapping[str, float]) -> float:
    """Return `value` in base units; ValueError says what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("that is not a number with a unit")
    if isinstance(value, str):
        return _parse_text(value, factors)
    if not math.isfinite(value) or value < 0:
        raise ValueError("that is not a finite number of at least 0")
    return value


def _parse_text(text: str, factors: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError("that is not a number with a unit")
    number, unit = match.groups()
    factor = factors.get(unit.lower())
    if factor is None:
        raise ValueError(f"no unit is called {unit!r}")
    # Whole numbers stay exact: a float holds only 53 bits of a size.
    return int(number) * factor if number.isdecimal() else float(number) * factor
