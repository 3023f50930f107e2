"""What `bwverifier run` shows at a terminal: the epoch's progress, what is planned, what happened."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bwclient.show import amount

EVENTS = 12


def screen(s: dict[str, Any], length: int) -> RenderableType:
    """Of `Verifier.status()`; `length` of an epoch in seconds."""
    left = max(0, s["epoch_ends"] - s["chain_time"])
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_row(f"epoch {s['epoch']}", _phase(s), ProgressBar(total=length, completed=length - left), f"{left} s left")
    facts = f"{s['address']} · {s['relays']} relays · tickets {amount(s['purse']['stock_units'])} · {s['doing']}"
    tasks = Table("relay", "what", "when", box=None, pad_edge=False)
    for t in s["tasks"][:EVENTS]:
        when = "done" if t["done"] else "due" if t["at"] <= s["chain_time"] else f"in {t['at'] - s['chain_time']} s"
        tasks.add_row(t["relay"][:12], t["kind"], when)
    log = Table.grid(padding=(0, 2))
    for at, text in s["events"][-EVENTS:]:
        log.add_row(time.strftime("%H:%M:%S", time.localtime(at)), Text(text))
    error = Text(f"delayed: {s['error']}", style="red") if s["error"] else Text("")
    return Group(head, Text(facts), error, tasks, Text(""), log)


def _phase(s: dict[str, Any]) -> str:
    left = s["commit_until"] - s["chain_time"]
    return f"measuring, {left} s to commit" if left > 0 else "revealing and judging"
