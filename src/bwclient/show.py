"""How the commands speak: tables for people, one JSON object with --json, errors that name the mend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console()
err = Console(stderr=True)
GIB_UNITS = 16_384
WORDS = {
    "up": "The tunnel is up", "building": "Building a path", "buying": "Buying tickets", "down": "The tunnel is down",
    "rerouting": "The path failed; another one is taking over", "moving": "Moving to a better path",
    "new exit": "Another exit took over", "failed": "The tunnel could not be had", "lost": "The tunnel was lost",
    "closing": "Settling with the hops", "starting": "Starting", "crashed": "The client died; the switch may be closed",
}  # fmt: skip


class Fail(typer.Exit):
    """Ends the command with a message on stderr. Exit code 1: it did not work; 2: a wrong setting or option."""

    def __init__(self, text: str, code: int = 1) -> None:
        err.print(text, style="red", markup=False, highlight=False, soft_wrap=not err.is_terminal)
        super().__init__(code)


def emit(document: Any, as_json: bool) -> bool:
    """Print JSON when asked to; True then."""
    if as_json:
        print(json.dumps(document, indent=2, sort_keys=True))
    return as_json


def table(head: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout."""
    t = Table(title=title or None, title_justify="left")
    for name in head:
        t.add_column(name, overflow="fold")  # in a narrow window nothing is left out
    for row in rows:
        t.add_row(*(str(x) for x in row))
    out.print(t)


def pairs(rows: Sequence[tuple[str, object]]) -> None:
    """Names and values, aligned."""
    t = Table.grid(padding=(0, 2))
    for name, value in rows:
        t.add_row(name, str(value))
    out.print(t)


@contextmanager
def progress(text: str, total: float | None, quiet: bool) -> Iterator[Any]:
    """A bar on stderr; yields a function(done, text) that moves it."""
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err,
        disable=quiet or not err.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(text, total=total)

        def move(done: float | None = None, said: str | None = None) -> None:
            bar.update(task, completed=done, description=said)

        yield move


def amount(units: int) -> str:
    """Units of 64 KiB in words."""
    mib = units / 16
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"


def coins(wei: int) -> str:
    """Wei as a decimal number."""
    return f"{wei / 10**18:.6f}"
