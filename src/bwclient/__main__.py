"""`python -m bwclient`: the command `bw`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import settings as settings_module

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Private tunnel through the bwrouter network.")
Config = Annotated[str, typer.Option("--config", "-c", help="settings, a JSON file")]


def _settings(path: str) -> settings_module.Settings:
    try:
        return settings_module.load(path)
    except settings_module.SettingsError as e:
        print(e, file=sys.stderr)
        raise typer.Exit(2) from e


@app.command()
def up(config: Config) -> None:
    """Send this machine's traffic through the tunnel until interrupted (root)."""
    from .up import Up

    raise typer.Exit(Up(_settings(config)).run())


@app.command()
def status(config: Config) -> None:
    """How the tunnel stands, as JSON."""
    file = Path(_settings(config).run_dir) / "status.json"
    try:
        print(json.dumps(json.loads(file.read_text()), indent=2))
    except OSError as e:
        print(f"no status at {file}: is the tunnel up?", file=sys.stderr)
        raise typer.Exit(1) from e


if __name__ == "__main__":
    app()
