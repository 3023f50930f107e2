"""The plots of docs/economics.md, out of the simulation, as SVG files that a browser shows on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .simulate import Profile, run

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 34, 44
COLOURS = ("#1b7837", "#2166ac", "#b35806", "#b2182b", "#762a83")
EPOCHS = 50


@dataclass
class Line:
    """One curve."""

    name: str
    points: list[tuple[float, float]]


def svg(title: str, x: str, y: str, lines: Sequence[Line], top: float, percent: bool) -> str:
    """A chart from 0 to `top`; x runs from the first point to the last."""
    low, high = lines[0].points[0][0], lines[0].points[-1][0]
    w, h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(px: float, py: float) -> tuple[float, float]:
        return LEFT + (px - low) / (high - low) * w, TOP + h - min(py, top) / top * h

    ink = "#808080"
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', f"<title>{title}</title>"]
    out.append(f'<text x="{LEFT}" y="18" fill="{ink}" font-size="14">{title}</text>')
    for i in range(6):
        value = top * i / 5
        _, py = at(low, value)
        text = f"{value * 100:g} %" if percent else f"{value:g}"
        out.append(f'<path d="M{LEFT} {py:.1f}h{w}" stroke="{ink}" stroke-opacity=".3"/>')
        out.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end" fill="{ink}">{text}</text>')
        value = low + (high - low) * i / 5
        px, _ = at(value, 0)
        out.append(f'<text x="{px:.1f}" y="{TOP + h + 16}" text-anchor="middle" fill="{ink}">{value:g}</text>')
    out.append(f'<text x="{LEFT + w / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="{ink}">{x}</text>')
    turned = f"translate(14 {TOP + h / 2}) rotate(-90)"
    out.append(f'<text transform="{turned}" text-anchor="middle" fill="{ink}">{y}</text>')
    for i, line in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        path = "M" + "L".join("{:.1f} {:.1f}".format(*at(*p)) for p in line.points)
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{LEFT + w + 8}" y="{TOP + 14 + 18 * i}" fill="{colour}">{line.name}</text>')
    return "\n".join([*out, "</svg>", ""])


def caught(routers: int, sigma: float, seed: int) -> str:
    """How surely an over-claimer is suspended within ten epochs."""
    lines = []
    for liars in (0.0, 0.1, 0.2, 0.3, 0.4):
        points = []
        for over in range(0, 51, 5):
            o = run(Profile("", rate=1 / (1 + over / 100)), routers, 10, liars, sigma, seed)
            points.append((float(over), o.suspended_in_10))
        lines.append(Line(f"{liars:.0%} liars for it", points))
    return svg("Suspended within 10 epochs", "claimed above what it has, %", "share of routers", lines, 1.0, True)


def gain(routers: int, sigma: float, seed: int) -> str:
    """What a claim earns, against an honest one."""
    honest = run(Profile(""), routers, EPOCHS, 0.0, sigma, seed).credited
    lines = []
    for liars in (0.0, 0.1, 0.3, 0.4):
        points = []
        for percent in range(100, 161, 3):
            o = run(Profile("", rate=100 / percent), routers, EPOCHS, liars, sigma, seed)
            points.append((float(percent), o.credited / honest))
        lines.append(Line(f"{liars:.0%} liars for it", points))
    title = "Credited capacity, as a share of an honest router's"
    return svg(title, "claim, % of what it has", "credited", lines, 1.25, False)


def committee(routers: int, sigma: float, seed: int) -> str:
    """How large a committee must be where 30 % of the seats lie: 20 % over and caught in ten epochs; honest, accused by
    the liars, and suspended at any time in fifty; what is credited to it."""
    sizes = list(range(4, 25, 2))
    over, honest = Profile("", rate=1 / 1.2), Profile("", accused=True)
    found = Line("20 % over: caught", [])
    wronged = Line("honest: suspended", [])
    starved = Line("honest: credited", [])
    for n in sizes:
        found.points.append((float(n), run(over, routers, 10, 0.3, sigma, seed, n).suspended_in_10))
        o = run(honest, routers, EPOCHS, 0.3, sigma, seed, n)
        wronged.points.append((float(n), o.suspended))
        starved.points.append((float(n), o.credited))
    return svg("Committees with 30 % liars, 7 of 10 to decide", "seats", "share", [found, wronged, starved], 1.0, True)


def write(folder: Path, routers: int, sigma: float, seed: int) -> list[Path]:
    """Make all plots in `folder`; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for make in (caught, gain, committee):
        path = folder / f"audit-{make.__name__}.svg"
        path.write_text(make(routers, sigma, seed))
        made.append(path)
    return made
