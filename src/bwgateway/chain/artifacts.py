"""Compiled contracts (`contracts/build.py` writes them to build/contracts) and the addresses file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak

from bwgateway.settings import BadSettings


@dataclass(frozen=True)
class Addresses:
    """Where the contracts of one deployment are. `regions` maps a region's number to its token and pool."""

    chain_id: int
    block: int
    token: str
    parameters: str
    factory: str
    registry: str
    settlement: str
    regions: dict[str, dict[str, str]] = field(default_factory=dict)
    proof: str = ""  # BandwidthProof; empty in files of before: no audits are shown
    emission: str = ""

    def write(self, path: Path) -> None:
        """tmp + fsync + rename."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp = path.with_name(path.name + ".tmp")
        with open(tmp, "w", encoding="utf-8") as f:
            json.dump(asdict(self), f, indent=2, sort_keys=True)
            f.write("\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)


def read_addresses(path: Path) -> Addresses:
    """Raises BadSettings when the file is missing or malformed."""
    try:
        return Addresses(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as e:
        raise BadSettings(f"chain.addresses: {str(path)!r} does not exist; run `bwgateway deploy`") from e
    except (OSError, ValueError, TypeError) as e:
        raise BadSettings(f"chain.addresses: {str(path)!r} is not an addresses file: {e}") from e


class Artifacts:
    """ABIs and bytecode by contract name."""

    def __init__(self, setting: str = "") -> None:
        self.folder = _folder(setting)
        self._loaded: dict[str, Any] = {}

    def _load(self, name: str) -> Any:
        if name not in self._loaded:
            path = self.folder / f"{name}.json"
            if not path.is_file():
                raise BadSettings(f"chain.artifacts: {str(self.folder)!r} has no {name}.json; run contracts/build.py")
            self._loaded[name] = json.loads(path.read_text(encoding="utf-8"))
        return self._loaded[name]

    def abi(self, name: str) -> list[dict[str, Any]]:
        """ABI of a contract."""
        abi: list[dict[str, Any]] = self._load(name)["abi"]
        return abi

    def bytecode(self, name: str) -> str:
        """Creation code, 0x-hex."""
        return str(self._load(name)["bytecode"])


def _folder(setting: str) -> Path:
    if setting:
        return Path(setting)
    for root in [Path.cwd(), *Path(__file__).resolve().parents]:
        if (root / "build" / "contracts" / "Settlement.json").is_file():
            return root / "build" / "contracts"
    raise BadSettings("chain.artifacts: '' and no build/contracts here; run contracts/build.py or name the folder")


_NAMES = (
    "BandwidthToken", "RegionToken", "LiquidityPool", "PoolFactory", "StakeRegistry", "Settlement", "BandwidthProof",
)  # fmt: skip


@cache
def _errors(folder: Path) -> dict[bytes, tuple[str, list[str]]]:
    artifacts = Artifacts(str(folder))
    found = {}
    for name in _NAMES:
        for item in artifacts.abi(name):
            if item["type"] == "error":
                types = [collapse_if_tuple(i) for i in item["inputs"]]
                found[keccak(text=f"{item['name']}({','.join(types)})")[:4]] = (item["name"], types)
    return found


def revert_reason(artifacts: Artifacts, data: str) -> str:
    """A custom error's name and values out of revert data (0x-hex), or the data itself."""
    try:
        raw = bytes.fromhex(data.removeprefix("0x"))
        name, types = _errors(artifacts.folder)[raw[:4]]
        values = decode(types, raw[4:])
    except (ValueError, KeyError):
        return data
    return f"{name}({', '.join(v.hex() if isinstance(v, bytes) else str(v) for v in values)})"
