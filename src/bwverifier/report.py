"""`bwverifier report`: what was measured of each relay and why the report says what it says, out of the journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .audit import REASONS
from .journal import Audit, Journal


def unpack(report: str) -> dict[str, Any]:
    """A packed report (hex of the word) as its fields."""
    word = int(report, 16)
    return {
        "kbps": word & 0xFFFFFFFF, "latency_ms": word >> 32 & 0xFFFF, "loss_bps": word >> 48 & 0xFFFF,
        "reason": REASONS[min(word >> 64 & 0xFF, 5)],
    }  # fmt: skip


def gather(file: Path, most: int, relay: str = "") -> list[dict[str, Any]]:
    """The newest audits, each with its measurements; `relay`: how its id begins. Raises FileNotFoundError."""
    if not file.exists():
        raise FileNotFoundError(f"{file}: there is no journal; has `bwverifier run` been here?")
    journal = Journal(file)
    try:
        found = [a for a in journal.newest(most * 20 if relay else most) if a.relay.hex().startswith(relay)]
        return [_audit(journal, a) for a in found[:most]]
    finally:
        journal.close()


def _audit(journal: Journal, a: Audit) -> dict[str, Any]:
    body = json.loads(a.evidence) if a.evidence else {}
    root = journal.root(a.epoch)
    records = [
        {"kind": r.kind, "time": r.time, "reason": REASONS[min(r.reason, 5)], "kbps": r.kbps, "why": r.why}
        for r in journal.records(a.epoch, a.relay)
    ]
    return {
        "relay": a.relay.hex(), "epoch": a.epoch, "state": a.state, **unpack(a.report), "why": body.get("why", ""),
        "measurements": records, "root": root.root.hex() if root else "",
    }  # fmt: skip


def rows(audits: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """For a table: a line for each audit, and one for each of its measurements."""
    out: list[tuple[str, ...]] = []
    for a in audits:
        numbers = f"{a['kbps']} kbit/s, {a['latency_ms']} ms, {a['loss_bps'] / 100:.2f} %"
        out.append((str(a["epoch"]), a["relay"][:12], a["state"], a["reason"], numbers, a["why"]))
        for m in a["measurements"]:
            rate = f"{m['kbps']} kbit/s" if m["kbps"] >= 0 else "–"
            out.append(("", "", "· " + m["kind"], m["reason"], rate, m["why"]))
    return out
