"""What a run looks like: the live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 5.0


@dataclass
class Row:
    """One router as it is now. Rates in Mbit/s, times in ms, `earned` in tokens of the region."""

    name: str
    place: str
    id: str = ""
    state: str = "off"
    runtime: str = ""
    hop: int = 0
    mbps: float = 0.0
    paid: int = 0
    redeemed: int = 0
    earned: float = 0.0
    home_mbps: float | None = None
    home_rtt: float | None = None
    rss_kb: int = 0


@dataclass
class Scene:
    """All that the view shows. Written by the run, read by the view's thread."""

    seconds: float
    began: float = field(default_factory=time.monotonic)
    phase: str = "starting"
    rows: list[Row] = field(default_factory=list)
    block: int = 0
    roots: int = 0
    listed: int = 0
    size: int = 0
    got: int = 0
    mbps: float = 0.0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


def mib(count: float) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


COLUMNS = {
    "router": 6, "id": 8, "role": 8, "runtime": 11, "Mbit/s": 6, "paid": 5, "redeemed": 8, "earned": 6,
    "home": 5, "RTT": 5,
}  # fmt: skip
LEGEND = (
    "paid, redeemed: units of 64 KiB; earned: tokens of the region, claimed on chain",
    "home, RTT: the household's own uploads, Mbit/s; its round trip between them, ms",
)


def table(scene: Scene) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for number, (name, width) in enumerate(COLUMNS.items()):
        grid.add_column(name, justify="right" if number > 3 else "left", no_wrap=True, min_width=width)
    for row in scene.rows:
        grid.add_row(
            row.name, row.id[:8], f"hop {row.hop}" if row.hop else row.state, row.runtime, _number(row.mbps),
            str(row.paid or "-"), str(row.redeemed or "-"), f"{row.earned:.4f}" if row.earned else "-",
            _number(row.home_mbps), _number(row.home_rtt), style="" if row.hop else "dim",
        )  # fmt: skip
    return grid


def render(scene: Scene) -> RenderableType:
    head = Text.assemble(
        ("bwrouter ", "bold"), f"{scene.elapsed:4.0f} of {scene.seconds:.0f} s   ", (scene.phase, "cyan"), no_wrap=True
    )
    chain = f"chain block {scene.block}   roots {scene.roots}   directory {scene.listed} routers"
    parts: list[RenderableType] = [head, Text(chain, style="dim"), Text(), table(scene)]
    if scene.got:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            "download", ProgressBar(total=scene.size, completed=scene.got, width=24),
            f"{mib(scene.got)} of {mib(scene.size)}", f"{scene.mbps:.1f} Mbit/s" if scene.got < scene.size else "",
        )  # fmt: skip
        parts += [Text(), bar]
    parts += [Text(), *(Text(line, style="dim") for line in LEGEND)]
    return Group(*parts)


class View:
    """Shows a scene for as long as the block lasts."""

    def __init__(self, scene: Scene, console: Console | None = None) -> None:
        self.scene = scene
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
        self._live: Live | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=lambda: render(self.scene), console=self.console, refresh_per_second=4, transient=False
            )
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._tell, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
        if self._live:
            self._live.stop()
        if self._thread:
            self._thread.join()

    def phase(self, name: str) -> None:
        self.scene.phase = name
        if not self._live:
            print(f"{self.scene.elapsed:5.1f} s  {name}", flush=True)

    def _tell(self) -> None:
        while not self._done.wait(PLAIN_EVERY):
            s = self.scene
            load = "  ".join(f"{r.name} {r.mbps:.1f} Mbit/s" for r in s.rows if r.hop)
            if 0 < s.got < s.size:
                print(f"{s.elapsed:5.1f} s    {mib(s.got)} of {mib(s.size)}, {s.mbps:.1f} Mbit/s   {load}", flush=True)
