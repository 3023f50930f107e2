"""Every setting of the gateway, with unit, default and range.

Order of precedence: environment (`BWGATEWAY_CHAIN__RPC`), then the file given with `--config`, then the defaults here.
An unknown key refuses to start.
"""

from __future__ import annotations

import json
import ssl
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]


class BadSettings(Exception):
    """A setting is unknown or out of range; the message names setting, value and what is allowed."""


class BeaconSettings(BaseModel):
    """Beacon nodes whose sync committee's signatures give the heads, instead of a quorum of RPC endpoints."""

    model_config = ConfigDict(extra="forbid")
    urls: list[str] = Field(default=[], description="REST endpoints of beacon nodes; empty: heads come by quorum")
    network: Annotated[str, Field(pattern="^(mainnet|sepolia|custom)$")] = "mainnet"
    checkpoint: str = Field(
        default="", pattern="^(0x)?([0-9a-f]{64})?$", description="root of a recent final block that is trusted"
    )
    final: bool = Field(default=True, description="only final heads, or also those that the committee has just signed")
    stale_slots: int = Field(default=128, ge=2, le=8192, description="how far a head may lie behind the clock")
    trust_days: int = Field(default=14, ge=1, le=365, description="how old the block to begin at may be")
    genesis_time: int = Field(default=0, ge=0, description="network custom: unix seconds")
    genesis_validators_root: str = Field(default="", pattern="^([0-9a-f]{64})?$", description="network custom")
    seconds_per_slot: int = Field(default=12, ge=1, le=60, description="network custom")
    forks: dict[str, tuple[str, int]] = Field(
        default={}, description="network custom: fork's name -> version (8 hex digits) and first epoch"
    )

    @model_validator(mode="after")
    def _complete(self) -> BeaconSettings:
        if self.urls and not self.checkpoint:
            raise ValueError("checkpoint: must name a block to begin at; take its root from somebody you trust")
        if self.network == "custom" and (not self.genesis_validators_root or "phase0" not in self.forks):
            raise ValueError("network: custom needs genesis_time, genesis_validators_root and forks from phase0 on")
        return self


class ChainSettings(BaseModel):
    """Which EVM chain settles, and how it is reached."""

    model_config = ConfigDict(extra="forbid")
    rpc: str = Field(
        default="embedded", description="`embedded` starts an anvil child; else the URL of a JSON-RPC endpoint"
    )
    host: str = Field(default="127.0.0.1", description="embedded only: address that anvil listens on")
    port: Port = Field(default=8545, description="embedded only: port that anvil listens on; 0 takes a free one")
    chain_id: int = Field(default=31337, ge=1, le=2**63 - 1, description="embedded only")
    block_seconds: int = Field(default=1, ge=1, le=60, description="embedded only: time between blocks")
    dump_seconds: Seconds = Field(default=30, description="embedded only: time between dumps of the chain's state")
    anvil: str = Field(
        default="", description="embedded only: path of the anvil binary; empty searches build/node and PATH"
    )
    addresses: str = Field(default="", description="addresses file; empty: addresses.json in state_dir")
    artifacts: str = Field(
        default="", description="folder of compiled contracts; empty: build/contracts of this checkout"
    )
    deploy: bool = Field(
        default=True, description="embedded only: deploy the contracts when the addresses file is missing"
    )
    confirmations: int = Field(default=0, ge=0, le=64, description="blocks that a deposit waits before it is credited")
    witnesses: list[str] = Field(default=[], description="further JSON-RPC endpoints that are compared with `rpc`")
    quorum: int = Field(default=1, ge=1, le=32, description="endpoints that must agree on a block")
    reorg_blocks: int = Field(default=64, ge=0, le=4096, description="blocks that the chain may take back")
    stale_blocks: int = Field(default=8, ge=1, le=4096, description="blocks that an endpoint may lag behind")
    timeout_seconds: int = Field(default=5, ge=1, le=60, description="after which an endpoint counts as silent")
    beacon: BeaconSettings = BeaconSettings()
    stake_cache_seconds: int = Field(
        default=5, ge=0, le=3600, description="how long a stake read from the chain is believed"
    )

    @model_validator(mode="after")
    def _quorum(self) -> ChainSettings:
        if self.quorum > 1 + len(self.witnesses):
            raise ValueError(f"quorum: {self.quorum} is more than rpc and {len(self.witnesses)} witnesses")
        return self

    @field_validator("rpc")
    @classmethod
    def _rpc(cls, value: str) -> str:
        if value != "embedded" and not value.startswith(("http://", "https://")):
            raise ValueError("must be `embedded` or an http(s) URL")
        return value


class MintSettings(BaseModel):
    """Mint keys rotate every `key_seconds`; a ticket can be opened until `open_seconds` after its key's rotation."""

    model_config = ConfigDict(extra="forbid")
    key_seconds: Seconds = Field(default=86_400)
    open_seconds: Seconds = Field(default=7 * 86_400)
    close_seconds: Seconds = Field(
        default=86_400, description="without the relay's word, a ticket is closed so long after it last moved"
    )
    refund_seconds: Seconds = Field(
        default=90 * 86_400, description="how long a ticket that nobody opened can still be refunded"
    )
    batch: int = Field(default=512, ge=1, le=4096, description="most tickets or items in one request")


class LimitSettings(BaseModel):
    """Requests a second, each process for itself; 0 limits nothing."""

    model_config = ConfigDict(extra="forbid")
    address_per_s: float = Field(default=50.0, ge=0, description="of one IPv4 address or IPv6 /64")
    address_burst: int = Field(default=500, ge=1)
    identity_per_s: float = Field(default=20.0, ge=0, description="signed ones of one relay or account")
    identity_burst: int = Field(default=200, ge=1)
    proxies: list[str] = Field(default=[], description="networks of load balancers whose X-Forwarded-For is believed")

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ip_network(network)
        return value


class TlsSettings(BaseModel):
    """HTTPS by the gateway itself; without a certificate it speaks HTTP, for a proxy in front or a closed network."""

    model_config = ConfigDict(extra="forbid")
    certificate: str = Field(default="", description="PEM file: the certificate and its chain; read again on SIGHUP")
    key: str = Field(default="", description="PEM file: its private key, without a passphrase")
    minimum: Annotated[str, Field(pattern="^1[.][23]$", description="oldest version of TLS")] = "1.2"

    @model_validator(mode="after")
    def _usable(self) -> TlsSettings:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together: set both or none")
        if self.certificate:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ssl.SSLError) as e:
                raise ValueError(f"certificate {self.certificate!r} and key {self.key!r} can't be used: {e}") from e
        return self


class DirectorySettings(BaseModel):
    """How the directory is kept true."""

    model_config = ConfigDict(extra="forbid")
    check_seconds: Seconds = Field(default=60, description="time between looks at a relay's stake and audits")
    probe: bool = Field(
        default=True, description="whether relays are asked by a handshake if they live; silent ones are unlisted"
    )


class DeploySettings(BaseModel):
    """What `bwgateway deploy` makes. Amounts are whole tokens, windows seconds; see contracts/src/Parameters.sol."""

    model_config = ConfigDict(extra="forbid")
    pool_bwt: int = Field(default=100_000, ge=1, le=10**8, description="BWT of a region's first liquidity")
    pool_tokens: int = Field(default=100_000, ge=1, le=10**6, description="region tokens of the first liquidity")
    bond_bwt: int = Field(default=10_000, ge=10_000, le=10**8, description="the gateway's bond")
    response: Seconds = Field(default=86_400)
    withdrawal: Seconds = Field(default=7 * 86_400)
    unbonding: Seconds = Field(default=14 * 86_400)
    audit_epoch: Seconds = Field(default=3600)
    commit: Seconds = Field(default=1200)
    reveal: Seconds = Field(default=1200)
    dispute: Seconds = Field(default=3 * 86_400)
    emission_epoch: Seconds = Field(default=7 * 86_400)
    twap: Seconds = Field(default=86_400)


class Settings(BaseSettings):
    """The whole configuration of one gateway process."""

    model_config = SettingsConfigDict(env_prefix="BWGATEWAY_", env_nested_delimiter="__", extra="forbid")
    host: str = "127.0.0.1"
    port: Port = 8080
    state_dir: Path = Field(default=Path("build/gateway"), description="keys, database and chain state")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty: SQLite in state_dir")
    regions: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default=[1], min_length=1)
    epoch_seconds: int = Field(default=3600, ge=2, le=604_800, description="time between settlement roots")
    challenge_seconds: int = Field(
        default=3600, ge=0, le=604_800, description="challenge window of a root, set at deploy"
    )
    gas_share_bps: int = Field(
        default=0, ge=0, le=1000, description="share of relays' earnings that pays this gateway's gas, basis points"
    )
    settle: bool = Field(
        default=True, description="whether this process may run the settlement loop (one at a time does)"
    )
    descriptor_seconds: Seconds = Field(default=86_400, description="furthest expiry that a descriptor may name")
    directory: DirectorySettings = DirectorySettings()
    limits: LimitSettings = LimitSettings()
    tls: TlsSettings = TlsSettings()
    chain: ChainSettings = ChainSettings()
    mint: MintSettings = MintSettings()
    deploy: DeploySettings = DeploySettings()
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    log_json: bool = True

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        if value and not value.startswith(("sqlite+aiosqlite://", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite+aiosqlite:// or postgresql+psycopg://")
        return value

    @property
    def url(self) -> str:
        """Where this machine reaches the gateway."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        scheme = "https" if self.tls.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir.resolve()}/gateway.db"

    @property
    def addresses_file(self) -> Path:
        """Where the contracts' addresses are kept."""
        return Path(self.chain.addresses) if self.chain.addresses else self.state_dir / "addresses.json"

    def windows(self, epoch: int, challenge: int) -> dict[str, int]:
        """The `Windows` of Parameters.sol."""
        d = self.deploy
        return {
            "epoch": epoch,
            "challenge": challenge,
            "response": d.response,
            "withdrawal": d.withdrawal,
            "unbonding": d.unbonding,
            "auditEpoch": d.audit_epoch,
            "commit": d.commit,
            "reveal": d.reveal,
            "dispute": d.dispute,
            "emissionEpoch": d.emission_epoch,
            "twap": d.twap,
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment outranks the file."""
        return env_settings, init_settings


def load(path: Path | None) -> Settings:
    """Settings from a JSON or TOML file (by its suffix) and the environment.

    Raises BadSettings with one line for each wrong setting.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        except OSError as e:
            raise BadSettings(f"--config {path}: {e.strerror}") from e
        except ValueError as e:
            raise BadSettings(f"--config {path}: {e}") from e
        if not isinstance(values, dict):
            raise BadSettings(f"--config {path}: must hold an object of settings")
    try:
        return Settings(**values)
    except ValidationError as e:
        raise BadSettings("\n".join(_line(x) for x in e.errors())) from e


def _line(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{name}: no such setting; see `bwgateway serve --help` and docs"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {error['input']!r} is not allowed: {message}"
