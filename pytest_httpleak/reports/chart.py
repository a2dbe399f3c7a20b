"""The line chart of what was open in the process over the session, as inline SVG."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Final

from pytest_httpleak.reports.markup import Html, tag
from pytest_httpleak.reports.text_safety import safe_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_httpleak.model.rows import TrendPoint

SERIES: Final = {"fds": "file descriptors", "sockets": "sockets", "threads": "threads", "tasks": "tasks"}
MAX_POINTS: Final = 400

_WIDTH, _HEIGHT = 800, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 38
_TICKS: Final = 4


def downsampled(trend: Sequence[TrendPoint], limit: int = MAX_POINTS) -> list[tuple[int, str, dict[str, int]]]:
    """At most `limit` points as (number of the test, its id, highest count by kind), first and last test included.

    Each stands for a run of tests and shows the highest count among them, so that no peak is lost.
    """
    if len(trend) <= limit:
        return [(number, point.nodeid, dict(point.open)) for number, point in enumerate(trend, 1)]
    points: list[tuple[int, str, dict[str, int]]] = []
    inner = limit - 2  # the first and the last stand for themselves
    bounds = [0, *(1 + round(index * (len(trend) - 2) / inner) for index in range(inner + 1)), len(trend)]
    for start, end in itertools.pairwise(bounds):
        highest: dict[str, int] = {}
        for point in trend[start:end]:
            for kind, number in point.open.items():
                highest[kind] = max(number, highest.get(kind, 0))
        points.append((end, trend[end - 1].nodeid, highest))
    return points


def line_chart(trend: Sequence[TrendPoint]) -> Html:
    """The chart with its legend and its data, which the page's script shows under the pointer."""
    points = downsampled(trend)
    top, step = _scale(max((point[2].get(kind, 0) for point in points for kind in SERIES), default=0))
    parts = [*_grid(top, step), *_numbers(points)]
    parts += [_line(kind, points, top) for kind in SERIES]
    parts.append(tag("line", class_="cursor", y1=_TOP, y2=_HEIGHT - _BOTTOM, x1=-9, x2=-9))
    data = [[_x(index, len(points)), number, safe_name(nodeid), *map(open_.get, SERIES)]
            for index, (number, nodeid, open_) in enumerate(points)]  # fmt: skip
    chart = tag(
        "svg", parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", id="chart",
        aria_label="Open file descriptors, sockets, threads and tasks after each test",
        data_points=json.dumps(data, separators=(",", ":")),
    )  # fmt: skip
    legend = tag("p", (tag("span", name, class_=f"key {kind}") for kind, name in SERIES.items()), class_="legend")
    return tag("div", legend, chart, tag("p", "", id="reading", aria_live="polite"), class_="chart")


def growth_rows(trend: Sequence[TrendPoint]) -> list[tuple[str, int, int, int]]:
    """For each series its name and its first, highest and last count."""
    rows: list[tuple[str, int, int, int]] = []
    for kind, name in SERIES.items():
        counts = [point.open[kind] for point in trend if kind in point.open]
        if counts:
            rows.append((name, counts[0], max(counts), counts[-1]))
    return rows


def _scale(highest: int) -> tuple[int, int]:
    """The top of the axis and the step of its grid: 1, 2 or 5 times a power of ten, and whole numbers."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            step = factor * power
            if step * _TICKS >= highest:
                return max(-(-highest // step), 1) * step, step
        power *= 10


def _grid(top: int, step: int) -> list[Html]:
    parts: list[Html] = []
    for value in range(0, top + 1, step):
        y = _y(value, top)
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        parts.append(tag("text", f"{value:,}", x=_LEFT - 8, y=y + 4, text_anchor="end"))
    return parts


def _numbers(points: Sequence[tuple[int, str, dict[str, int]]]) -> list[Html]:
    last = len(points) - 1
    wanted = sorted({0, last // 4, last // 2, 3 * last // 4, last})
    return [
        tag(
            "text", f"test {points[index][0]:,}", x=_x(index, len(points)), y=_HEIGHT - 8,
            text_anchor="start" if index == 0 else "end" if index == last else "middle",
            class_=None if index in (0, last) else "inner",
        )
        for index in wanted
    ]  # fmt: skip


def _line(kind: str, points: Sequence[tuple[int, str, dict[str, int]]], top: int) -> Html:
    steps = [
        f"{_x(index, len(points))},{_y(open_[kind], top)}"
        for index, (_, _, open_) in enumerate(points)
        if kind in open_
    ]
    if len(steps) == 1:  # a line needs two ends
        steps.append(f"{_WIDTH - _RIGHT},{steps[0].partition(',')[2]}")
    return tag("polyline", class_=f"line {kind}", points=" ".join(steps))


def _x(index: int, total: int) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * index / max(total - 1, 1), 1)


def _y(value: int, top: int) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top, 1)
