"""Rows out of results: figure, value, peer or limit, ratio, goal, verdict. As text for a terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.goals import FIGURES, Figure, met

PASS, MISSED, FAILED, NOT_RUN, NO_GOAL = "yes", "NO", "failed", "not run", ""
HEAD = ("bench", "figure", "value", "peer or limit", "ratio", "goal", "met")


@dataclass(frozen=True)
class Row:
    """One line of the table, as text; `verdict` is one of the words above."""

    bench: str
    figure: str
    value: str
    peer: str
    ratio: str
    goal: str
    verdict: str

    def cells(self) -> tuple[str, ...]:
        return (self.bench, self.figure, self.value, self.peer, self.ratio, self.goal, self.verdict)


def number(value: float) -> str:
    """Three or four digits that matter, thousands parted."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3g}"


def amount(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".rstrip()


def row(f: Figure, run: dict[str, Any] | None) -> Row:
    """A figure of a run of its benchmark; `run` as bench/results.json holds it, None if there is none."""
    result = (run or {}).get("result") or {}
    value = result.get(f.key)
    if run is None or not isinstance(value, int | float):
        why = "" if run is None else str(run.get("error") or f"no {f.key} in its result")
        return Row(f.bench, f.told, "", "", why[:60], goal_told(f, {}), NOT_RUN if run is None else FAILED)
    goal = result.get(f.goal) if isinstance(f.goal, str) else f.goal
    peer = result.get(f.peer) if f.peer else None
    other, against = "", goal if goal else None
    if isinstance(peer, int | float):
        other, against = f"{f.beside} {amount(peer, f.unit)}", peer
    elif goal is not None:
        other = "limit"
    verdict = NO_GOAL if goal is None else PASS if met(value, f.op, goal) else MISSED
    ratio = f"{value / against:.2f}" if against else ""
    return Row(f.bench, f.told, amount(value, f.unit), other, ratio, goal_told(f, result), verdict)


def goal_told(f: Figure, result: dict[str, Any]) -> str:
    goal = result.get(f.goal) if isinstance(f.goal, str) else f.goal
    return "" if goal is None else f"{f.op} {amount(goal, f.unit)}"


def rows(runs: dict[str, dict[str, Any]]) -> list[Row]:
    """Every figure of bench/goals.py, in order."""
    return [row(f, runs.get(f.bench)) for f in FIGURES]


def as_text(found: list[Row]) -> str:
    lines = [HEAD, *(r.cells() for r in found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)


def as_markdown(found: list[Row], runs: dict[str, dict[str, Any]]) -> str:
    """The table and, below, when and where each benchmark ran. What has not run is left out."""
    body = [r for r in found if r.verdict != NOT_RUN]
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(c.replace("|", "/") for c in r.cells()) + " |" for r in body]
    lines += ["", *stamps(runs)]
    return "\n".join(lines)


def stamps(runs: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each day and machine."""
    places: dict[tuple[str, str], list[str]] = {}
    for name, run in runs.items():
        m = run["machine"]
        place = f"{m['cores']} cores of {m['cpu']}, {m['memory_gb']} GB, Linux {m['kernel']}"
        chosen = " ".join(f"{k}={v}" for k, v in sorted(run.get("settings", {}).items()))
        places.setdefault((run["date"][:10], place), []).append(name + (f" ({chosen})" if chosen else ""))
    return [f"{date}, {place}: {', '.join(names)}." for (date, place), names in sorted(places.items())]
