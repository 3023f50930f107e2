"""The verifier's settings: one JSON file, every wrong value named with what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bwclient import settings_file
from bwclient.settings import Gateway
from bwclient.settings import Settings as ClientSettings
from bwrouter.wire import sizes as S


class Settings(BaseModel):
    """Everything a verifier needs. Relative paths are relative to the folder of the settings file."""

    model_config = ConfigDict(extra="forbid")
    gateway: Gateway
    rpc_url: str = Field(pattern=r"^https?://")
    wallet_key_file: str = "verifier.key"
    """Holds the bond, sends commits and reveals."""
    buyer_key_file: str = "buyer.key"
    """Buys the tickets. Another account than the verifier's: who sells them must not see who measures."""
    passphrase_file: str = ""
    state_dir: str = "."
    regions: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default_factory=lambda: [1], min_length=1)
    hops: Annotated[int, Field(ge=2, le=5)] = 3
    diversity: Literal["strict", "relaxed"] = "strict"
    burst_ms: Annotated[int, Field(ge=100, le=1000)] = 500
    long_ms: Annotated[int, Field(ge=1000, le=S.PROVE_MOST_MS)] = 30_000
    """Of a relay's first audit, and while it is suspended."""
    tries: Annotated[int, Field(ge=1, le=8)] = 3
    """Circuits over which a relay is measured before it is accused."""
    covert_url: Annotated[str, Field(pattern=r"^(http://[^/ ]+:\d+)?$")] = ""
    """Where exits reach this verifier's own web server, whose pages covert audits fetch; empty: none are made."""
    covert_listen: Annotated[str, Field(pattern=r"^[0-9.]+:\d+$")] = "0.0.0.0:8090"
    covert_share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the audits beside which there is a covert one."""
    covert_an_epoch: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    """Covert audits of relays drawn at random, at any time of an epoch, beside those."""
    habit: Literal["web", "short"] = "web"
    """What a covert audit's traffic looks like: visits to web pages, or a short one."""
    spread_pct: Annotated[int, Field(ge=1, le=100)] = 100
    """Share of the time to commit over which audits begin; less only where an epoch lasts a minute."""
    post_evidence: bool = True
    poll_seconds: Annotated[float, Field(ge=0.2, le=60.0)] = 2.0
    stock_units: Annotated[int, Field(ge=64, le=1 << 20)] = 24_576
    spend_limit_hour_units: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 20
    spend_limit_day_units: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 23
    max_impact_pct: Annotated[float, Field(ge=0.0, le=100.0)] = 10.0

    @model_validator(mode="after")
    def _two_accounts(self) -> Settings:
        if self.wallet_key_file == self.buyer_key_file:
            raise ValueError("buyer_key_file must be another account's than wallet_key_file")
        return self

    def client(self) -> ClientSettings:
        """The settings of the buyer's library that this verifier's circuits are made with."""
        return ClientSettings(
            gateway=self.gateway, rpc_url=self.rpc_url, wallet_key_file=self.buyer_key_file,
            passphrase_file=self.passphrase_file, state_dir=str(Path(self.state_dir) / "buyer"),
            run_dir=self.state_dir, region=self.regions[0], regions=self.regions, hops=self.hops,
            diversity=self.diversity, dns=[], stock_units=self.stock_units, spend_limit_units=1 << 30,
            spend_limit_hour_units=self.spend_limit_hour_units, spend_limit_day_units=self.spend_limit_day_units,
            max_impact_pct=self.max_impact_pct,
        )  # fmt: skip


def load(path: str) -> Settings:
    """Settings from a JSON file. Raises SettingsError, one line for each wrong setting."""
    paths = ("wallet_key_file", "buyer_key_file", "state_dir", "passphrase_file")
    return settings_file.load(Settings, path, paths, "make one (docs/operations.md), or name one with --config")
