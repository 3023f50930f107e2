"""The client's settings: one JSON file, every wrong value named with what is allowed."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from . import settings_file
from .settings_file import SettingsError as SettingsError

_NOT_SETTINGS = ("BW_CONFIG", "BW_PASSPHRASE")


class Gateway(BaseModel):
    """Where tickets and the directory come from; `key` is the gateway's Ed25519 key in hex."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(pattern=r"^https?://[^/ ]+$")
    key: str = Field(pattern=r"^[0-9a-f]{64}$")


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]


class Settings(BaseModel):
    """Everything the client needs. Relative paths are relative to the folder of the settings file."""

    model_config = ConfigDict(extra="forbid")
    gateway: Gateway
    rpc_url: str = Field(pattern=r"^https?://")
    wallet_key_file: str = "wallet.key"
    passphrase_file: str = ""
    """Holds the passphrase of an encrypted wallet; empty: asked for at the terminal, or BW_PASSPHRASE."""
    state_dir: str = "."
    run_dir: str = "."
    region: Annotated[int, Field(ge=1, le=65535)] = 1
    regions: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default_factory=list)
    """Regions for which tickets are bought and in which hops are chosen, beside `region`."""
    exit_region: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: any of the regions."""
    hops: Annotated[int, Field(ge=1, le=5)] = 3
    profile: Literal["bulk", "interactive"] = "bulk"
    diversity: Literal["strict", "relaxed"] = "strict"
    """strict: no two hops in one /16 (IPv6: /32); relaxed: /24 (/48)."""
    guards: Annotated[int, Field(ge=1, le=20)] = 3
    padding: Literal["none", "buckets", "constant"] = "none"
    pad_rate: Annotated[int, Field(ge=1, le=1000)] = 50
    """Cells a second each way with constant padding."""
    priority: Literal[1, 2, 4] = 1
    spare: bool = True
    """Whether a second path is kept ready, which takes over when the first one fails."""
    leak_protection: bool = True
    dns: list[Address] = Field(default_factory=lambda: ["9.9.9.9", "149.112.112.112"])
    """Resolvers that are asked through the tunnel; empty: resolv.conf is left alone."""
    resolv_conf: str = "/etc/resolv.conf"
    tun: Annotated[str, Field(min_length=1, max_length=15, pattern=r"^[A-Za-z0-9_.-]+$")] = "bw0"
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 0
    exclude: list[Network] = Field(default_factory=list)
    """Networks that never go through the tunnel."""
    lan: Annotated[str, Field(max_length=15, pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    """`bw lan`: the interface of the LAN that is sent through the tunnel."""
    stock_units: Annotated[int, Field(ge=64, le=1 << 20)] = 6144
    """Units bought before the tunnel comes up; more are bought when half are gone."""
    spend_limit_units: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 16
    """At most so many units are ever bought by one run."""
    spend_limit_hour_units: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 18
    spend_limit_day_units: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 20
    slippage_pct: Annotated[float, Field(ge=0.0, le=50.0)] = 2.0
    max_impact_pct: Annotated[float, Field(ge=0.0, le=100.0)] = 10.0
    """A purchase that would move the pool's price by more is refused."""

    @property
    def all_regions(self) -> tuple[int, ...]:
        """Every region for which tickets are needed."""
        return tuple(dict.fromkeys((self.region, *self.regions, *((self.exit_region,) if self.exit_region else ()))))


def default_file() -> str:
    """BW_CONFIG, or /etc/bwrouter/client.json for root, or ~/.config/bw/client.json."""
    if named := os.environ.get("BW_CONFIG"):
        return named
    if os.geteuid() == 0:
        return "/etc/bwrouter/client.json"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return str(Path(base) / "bw" / "client.json")


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Settings named by variables; others are not ours: BW_HOPS=4, BW_GATEWAY__URL=http://..., BW_DNS='["9.9.9.9"]'."""
    found: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith("BW_") or name in _NOT_SETTINGS:
            continue
        *parents, last = name[3:].lower().split("__")
        if (parents or [last])[0] not in Settings.model_fields:
            continue
        here = found
        for part in parents:
            here = here.setdefault(part, {})
        try:
            here[last] = json.loads(text)
        except ValueError:
            here[last] = text
    return found


def load(path: str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a JSON file, then the environment, then `overrides` (options of the command). Raises
    SettingsError."""

    def changed(given: dict[str, Any]) -> dict[str, Any]:
        for name, value in from_environment(os.environ).items():
            both = isinstance(value, dict) and isinstance(given.get(name), dict)
            given[name] = given[name] | value if both else value
        return given | {name: value for name, value in (overrides or {}).items() if value is not None}

    paths = ("wallet_key_file", "state_dir", "run_dir", "passphrase_file")
    mend = "make one (docs/operations.md), or name one with --config or BW_CONFIG"
    return settings_file.load(Settings, path, paths, mend, changed)
