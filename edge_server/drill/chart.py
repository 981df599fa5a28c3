"""A line chart over time as one SVG document: percentiles on a logarithmic axis, spans marked.

Follows SVG 1.1. Self-contained, without script; text is text. Colours change with the reader's
light or dark scheme, and each line also has its own dashes and a label. Does no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 960, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 76, 78, 46

# Written out for each scheme: renderers that know no custom properties still show the light one.
_COLOURS = {
    "ground": ("#fff", "#0d1117"),
    "title": ("#1f2328", "#f0f6fc"),
    "dim": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#30363d"),
    "mark": ("#cf222e", "#f85149"),
    "0": ("#0969da", "#4493f8"),
    "1": ("#bc4c00", "#f0883e"),
    "2": ("#8250df", "#ab7df8"),
}
_SHAPES = (
    "text{font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}"
    ".span{opacity:.14}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}"
    ".s1{stroke-dasharray:7 3}.s2{stroke-dasharray:2 3}"
)


def _colours(scheme: int) -> str:
    colours = {name: pair[scheme] for name, pair in _COLOURS.items()}
    rules = [
        ".ground{fill:%(ground)s}text{fill:%(dim)s}.title{fill:%(title)s}.grid{stroke:%(grid)s}",
        ".span,.mark{fill:%(mark)s}.edge{stroke:%(mark)s}",
        *(f".f{n}{{fill:%({n})s}}.s{n}{{stroke:%({n})s}}" for n in range(3)),
    ]
    return "".join(rules) % colours


_STYLE = f"{_SHAPES}{_colours(0)}@media(prefers-color-scheme:dark){{{_colours(1)}}}"


class Series(NamedTuple):
    """One line: values in milliseconds, one a step; None leaves a gap. At most three lines."""

    name: str
    values: Sequence[float | None]


class Span(NamedTuple):
    """A marked span of seconds; `stop_s` may be `start_s`, which marks a moment."""

    name: str
    start_s: float
    stop_s: float


class _Axes(NamedTuple):
    seconds: float
    low_ms: float  # powers of ten
    high_ms: float

    def x(self, seconds: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, seconds / self.seconds)

    def y(self, ms: float) -> float:
        share = math.log10(max(ms, self.low_ms) / self.low_ms) / math.log10(self.high_ms / self.low_ms)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def draw(
    title: str, series: Sequence[Series], spans: Sequence[Span], step_s: float, lost: Sequence[int] = ()
) -> str:
    """Return the document.

    Args:
        step_s: seconds that one value stands for; a point stands in the middle of its step.
        lost: requests without an answer, one number a step; marked under the axis.
    """
    assert len(series) <= 3, "the palette has three colours"
    axes = _axes(series, step_s)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>',
        *_spans(axes, spans),
        *_grid(axes),
        *_lost(axes, lost, step_s),
        *_lines(axes, series, step_s),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _axes(series: Sequence[Series], step_s: float) -> _Axes:
    values = [value for one in series for value in one.values if value is not None and value > 0]
    steps = max([len(one.values) for one in series], default=1)
    low = 10.0 ** math.floor(math.log10(min(values, default=0.1)))
    high = 10.0 ** math.ceil(math.log10(max(values, default=100.0)))
    return _Axes(max(steps * step_s, step_s), low, high if high > low else low * 10)


def _spans(axes: _Axes, spans: Sequence[Span]) -> Iterator[str]:
    """Names stand on two rows in turn, so that neighbours do not cover each other."""
    bottom = HEIGHT - _BOTTOM
    for index, span in enumerate(spans):
        left, right = axes.x(span.start_s), axes.x(span.stop_s)
        if right - left > 1:
            yield (
                f'<rect class="span" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
                f'height="{bottom - _TOP}"/>'
            )
        name_y = 46 + 16 * (index % 2)
        yield f'<line class="edge" x1="{left:.1f}" y1="{name_y + 4}" x2="{left:.1f}" y2="{bottom}"/>'
        yield f'<text class="mark" x="{left + 3:.1f}" y="{name_y}">{escape(span.name)}</text>'


def _grid(axes: _Axes) -> Iterator[str]:
    decade, right = axes.low_ms, WIDTH - _RIGHT
    while decade <= axes.high_ms * 1.001:
        y = axes.y(decade)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_duration(decade)}</text>'
        decade *= 10
    step = _round_step(axes.seconds)
    for number in range(int(axes.seconds / step + 1e-9) + 1):
        x = axes.x(number * step)
        yield f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 30}" text-anchor="middle">{number * step:g} s</text>'


def _lost(axes: _Axes, lost: Sequence[int], step_s: float) -> Iterator[str]:
    y = HEIGHT - _BOTTOM + 8
    for index, count in enumerate(lost):
        if count:
            x = axes.x((index + 0.5) * step_s)
            yield f'<path class="mark" d="M{x:.1f} {y - 6}l5 9h-10z"><title>{count} lost</title></path>'
    if any(lost):
        yield f'<text x="{WIDTH - _RIGHT + 8}" y="{y + 3}" class="mark">▲ lost</text>'


def _lines(axes: _Axes, series: Sequence[Series], step_s: float) -> Iterator[str]:
    label_y = math.inf
    for index, one in sorted(enumerate(series), key=lambda pair: -_last(pair[1])):
        points = [
            None if value is None else (axes.x((step + 0.5) * step_s), axes.y(value))
            for step, value in enumerate(one.values)
        ]
        for run in _runs(points):
            if len(run) == 1:
                yield f'<circle class="f{index}" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2"/>'
            else:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
                yield f'<polyline class="line s{index}" points="{path}"/>'
        # From above to below: a label moves down where the one above it needs the place.
        wanted = axes.y(_last(one)) + 4
        label_y = wanted if label_y == math.inf else max(wanted, label_y + 15)
        yield f'<text class="f{index}" x="{WIDTH - _RIGHT + 8}" y="{label_y:.1f}">{escape(one.name)}</text>'


def _runs(points: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _duration(ms: float) -> str:
    return f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"


def _last(one: Series) -> float:
    return next((value for value in reversed(one.values) if value is not None), 0.0)


def _round_step(seconds: float) -> float:
    """Return a round number of seconds that gives at most twelve labels."""
    step = 1.0
    for factor in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600):
        step = float(factor)
        if seconds / step <= 12:
            break
    return step
