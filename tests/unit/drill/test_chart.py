"""The chart: well-formed, complete, readable in both schemes, and right about where points are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from edge_server.drill.chart import HEIGHT, WIDTH, Series, Span, draw

SVG = "{http://www.w3.org/2000/svg}"
P50 = Series("p50", [1.0, 1.0, None, 10.0, 10.0])
P99 = Series("p99", [10.0, 100.0, 100.0, 100.0, 1000.0])


def parsed(
    series: list[Series], spans: list[Span] | None = None, lost: list[int] | None = None
) -> ET.Element:
    return ET.fromstring(draw("Latency", series, spans or [], 1.0, lost or []))


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def points(root: ET.Element) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]
        for line in root.iter(f"{SVG}polyline")
    ]


def test_every_line_and_fault_has_its_name() -> None:
    root = parsed([P50, P99], [Span("kill-worker", 1, 1), Span("latency", 2, 4)])
    assert {"Latency", "p50", "p99", "kill-worker", "latency"} <= set(texts(root))
    assert root.find(f"{SVG}title") is not None


def test_a_gap_in_the_values_is_a_gap_in_the_line() -> None:
    assert [len(run) for run in points(parsed([P50]))] == [2, 2]
    alone = parsed([Series("p50", [None, 5.0, None])])
    assert points(alone) == []
    assert len(list(alone.iter(f"{SVG}circle"))) == 1


def test_the_axis_is_logarithmic_and_time_runs_to_the_right() -> None:
    (line,) = points(parsed([Series("p", [1.0, 10.0, 100.0])]))
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    steps = [before - after for (_, before), (_, after) in pairwise(line)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2)
    assert steps[0] > 10


def test_only_a_fault_that_lasts_has_an_area() -> None:
    root = parsed([P50], [Span("moment", 1, 1), Span("while", 2, 4)])
    assert len([one for one in root.iter(f"{SVG}rect") if one.attrib.get("class") == "span"]) == 1


def test_lost_requests_are_marked_with_their_number() -> None:
    root = parsed([P50], lost=[0, 3, 0, 0, 0])
    assert [one.text for one in root.iter(f"{SVG}title")] == ["Latency", "3 lost"]
    assert any("lost" in text for text in texts(root))


def test_nothing_leaves_the_picture() -> None:
    root = parsed([P50, P99], [Span("late", 99, 100)])
    for run in points(root):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in run)
    assert all(float(one.attrib["x"]) <= WIDTH for one in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("series", [[], [Series("p50", [])], [Series("p50", [None, None])]], ids=len)
def test_without_any_value_there_is_still_a_picture(series: list[Series]) -> None:
    assert points(parsed(series)) == []


def test_names_cannot_break_the_document() -> None:
    assert "<b>&" in texts(parsed([P50], [Span("<b>&", 0, 1)]))


def test_each_colour_has_a_light_and_a_dark_form() -> None:
    style = parsed([P50]).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media(prefers-color-scheme:dark)")
    rules = [
        dict(re.findall(r"([^{}]+)\{(?:fill|stroke):(#[0-9a-f]+)\}", part.strip("{}") + "}"))
        for part in (light, dark)
    ]
    assert len(rules[0]) >= 8
    assert rules[0].keys() == rules[1].keys()
    assert all(rules[0][name] != rules[1][name] for name in rules[0])
