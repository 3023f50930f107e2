"""The client's settings: one JSON file, every wrong value named with what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class SettingsError(ValueError):
    """The text names each setting, its value and what it wants. Programs exit 2 on it."""


class Gateway(BaseModel):
    """Where tickets and the directory come from; `key` is the gateway's Ed25519 key in hex."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(pattern=r"^https?://[^/ ]+$")
    key: str = Field(pattern=r"^[0-9a-f]{64}$")


class Settings(BaseModel):
    """Everything `bw up` needs."""

    model_config = ConfigDict(extra="forbid")
    gateway: Gateway
    rpc_url: str = Field(pattern=r"^https?://")
    wallet_key_file: str = "wallet.key"
    state_dir: str = "."
    run_dir: str = "."
    region: Annotated[int, Field(ge=1, le=65535)] = 1
    hops: Annotated[int, Field(ge=1, le=5)] = 3
    tun: Annotated[str, Field(min_length=1, max_length=15)] = "bw0"
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 0
    exclude: list[str] = Field(default_factory=list, description="networks that never go through the tunnel")
    stock_units: Annotated[int, Field(ge=64, le=1 << 20)] = 6144
    """Units bought before the tunnel comes up; more are bought when half are gone."""
    spend_limit_units: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 16
    """At most so many units are ever bought by one run."""
    slippage_pct: Annotated[float, Field(ge=0.0, le=50.0)] = 2.0


def load(path: str) -> Settings:
    """Settings from a JSON file. Raises SettingsError."""
    try:
        text = Path(path).read_text()
    except OSError as e:
        raise SettingsError(f"config file {path} cannot be read: {e.strerror}") from e
    try:
        given = json.loads(text)
    except ValueError as e:
        raise SettingsError(f"config file {path} is not JSON: {e}") from e
    try:
        return Settings.model_validate(given)
    except ValidationError as e:
        raise SettingsError("\n".join(_sentence(item) for item in e.errors())) from e


def _sentence(item: Any) -> str:
    name = ".".join(str(x) for x in item["loc"]) or "(file)"
    return f"setting {name}: {item.get('input')!r} is not allowed: {item['msg']}"
