"""Line plots as SVG: text that is the same for the same numbers, and nothing but SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 320, 70, 46, 34, 16
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # apart for the colour-blind (Okabe, Ito)
POINTS_MOST = 600


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round values within the range."""
    if logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**e for e in range(first, last + 1) if low <= 10.0**e <= high * 1.0001]
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    at = math.ceil(low / step) * step
    found = []
    while at <= high + step * 1e-9:
        found.append(round(at, 12))
        at += step
    return found


def number(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:g}"


def share(value: float, low: float, high: float, logarithmic: bool) -> float:
    """Where a value stands between the ends of its axis, 0 to 1."""
    if logarithmic:
        return math.log(value / low) / (math.log(high / low) or 1.0)
    return (value - low) / (high - low or 1.0)


def lines(
    title: str, x_name: str, y_name: str, series: Mapping[str, tuple[Any, Any]],
    log_x: bool = False, log_y: bool = False,
) -> str:  # fmt: skip
    """An SVG of `series`: name -> (x, y), each a sequence or an array of numbers."""
    xs = [float(v) for x, _ in series.values() for v in x]
    ys = [float(v) for _, y in series.values() for v in y]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    if not log_y:
        low_y = min(0.0, low_y)

    def px(value: float) -> float:
        return LEFT + share(value, low_x, high_x, log_x) * (WIDTH - LEFT - RIGHT)

    def py(value: float) -> float:
        return HEIGHT - BOTTOM - share(value, low_y, high_y, log_y) * (HEIGHT - BOTTOM - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for value in ticks(low_x, high_x, log_x):
        at = px(value)
        out.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
    for value in ticks(low_y, high_y, log_y):
        at = py(value)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>')
    centre = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{centre:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>')
    for i, (name, (x, y)) in enumerate(series.items()):
        step = max(1, len(x) // POINTS_MOST)
        points = [f"{px(float(a)):.1f} {py(float(b)):.1f}" for a, b in list(zip(x, y))[::step]]
        colour = COLOURS[i % len(COLOURS)]
        out.append(f'<path d="M{"L".join(points)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        place = f'x="{WIDTH - RIGHT - 4}" y="{TOP + 14 + 15 * i}" text-anchor="end"'
        out.append(f'<text {place} fill="{colour}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
