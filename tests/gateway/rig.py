"""A real gateway process with its own anvil child on free loopback ports, and a relay that signs as the router does."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from eth_account import Account
from nacl.signing import SigningKey

from bwclient.chain import Chain
from bwclient.wallet import Wallet
from bwgateway.descriptors import BODY
from bwgateway.signed import message

ROOT = Path(__file__).resolve().parents[2]
TOKEN = 10**18
LAB_WINDOWS = {
    "response": 2, "withdrawal": 4, "unbonding": 30, "audit_epoch": 6, "commit": 2, "reveal": 2, "dispute": 10,
    "emission_epoch": 10, "twap": 5,
}  # fmt: skip
_START_SECONDS = 120.0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Rig:
    """One gateway process. Settings of the lab; `changes` override them."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.port, self.rpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.rpc = f"http://127.0.0.1:{self.rpc_port}"
        self.config = folder / "gateway.json"
        self.settings: dict[str, Any] = {
            "port": self.port,
            "state_dir": str(folder / "state"),
            "epoch_seconds": 4,
            "challenge_seconds": 2,
            "chain": {"port": self.rpc_port, "stake_cache_seconds": 1},
            "deploy": LAB_WINDOWS,
            "directory": {"check_seconds": 1, "probe": False},
            "limits": {"address_per_s": 0, "identity_per_s": 0},
            **changes,
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.log = folder / "gateway.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.http = requests.Session()
        self.http.trust_env = False

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "bwgateway", *arguments, "--config", str(self.config)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    def write_config(self) -> None:
        self.config.write_text(json.dumps(self.settings))

    def start(self, wait: bool = True) -> Rig:
        self.write_config()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command("serve"), cwd=ROOT, env=self.environment, stderr=log, stdout=log
            )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if self.http.get(self.url + "/healthz", timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError(f"the gateway did not start:\n{self.log.read_text()[-3000:]}")

    def answers(self) -> bool:
        try:
            return self.http.get(self.url + "/healthz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def get(self, path: str) -> Any:
        answer = self.http.get(self.url + path, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> requests.Response:
        return self.http.post(self.url + path, json=body, timeout=30)

    def chain(self, key: bytes) -> Chain:
        return Chain(self.rpc, key)

    def treasury(self) -> Chain:
        return self.chain(bytes.fromhex((self.state / "treasury.key").read_text().strip()))

    def fund(self, address: str, bwt: int, coin: int = 0) -> None:
        """BWT out of the treasury, coins of the chain out of nothing."""
        treasury = self.treasury()
        token = self.get("/v1/info")["contracts"]["token"]
        if bwt:
            treasury.send(token, "transfer(address,uint256)", address, bwt * TOKEN)
        if coin:
            treasury.rpc("anvil_setBalance", address, hex(coin * TOKEN))
            treasury.rpc("evm_mine")  # or the state is not that of any block

    def fund_all(self, addresses: list[str], bwt: int) -> None:
        """BWT out of the treasury for many, in one block or two."""
        treasury = self.treasury()
        token = self.get("/v1/info")["contracts"]["token"]
        treasury.send_many([(token, "transfer(address,uint256)", (a, bwt * TOKEN)) for a in addresses])

    def wallet(self, name: str = "buyer", bwt: int = 1000) -> Wallet:
        """A new buyer with BWT and gas."""
        key = secrets.token_bytes(32)
        self.fund(Account.from_key(key).address, bwt, 10)
        return Wallet(key, self.url, self.rpc, self.folder / name)

    def until(self, check: Any, seconds: float, what: str) -> Any:
        """Poll `check()` until it gives a true value."""
        deadline = time.monotonic() + seconds
        while True:
            if value := check():
                return value
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.log.read_text()[-3000:]}"
            time.sleep(0.2)


class Relay:
    """A router's agent, as far as the gateway sees it."""

    def __init__(self, rig: Rig, rate_kbps: int = 40_000) -> None:
        self.rig = rig
        self.identity = SigningKey.generate()
        self.id = bytes(self.identity.verify_key)
        self.owner = Account.create()
        self.payout = Account.create().address
        self.rate_kbps = rate_kbps

    def registration(self, region: int = 1, stake: int = 100 * TOKEN) -> dict[str, Any]:
        info = self.rig.get("/v1/info")
        nonces = self.rig.get(f"/v1/nonces/{self.owner.address}")
        deadline = int(time.time()) + 3600
        contracts = info["contracts"]
        register = self._typed(
            ("bwrouter StakeRegistry", contracts["registry"], info["chain_id"]),
            "Register",
            "bytes32 relayId,address owner,address payout,uint16 region,uint32 rateKbps,uint256 stake,"
            "uint256 nonce,uint256 deadline",
            [self.id, self.owner.address, self.payout, region, self.rate_kbps, stake, nonces["register"], deadline],
        )
        permit = self._typed(
            ("Bandwidth Token", contracts["token"], info["chain_id"]),
            "Permit",
            "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline",
            [self.owner.address, contracts["registry"], stake, nonces["permit"], deadline],
        )
        return {
            "relay": self.id.hex(),
            "owner": self.owner.address,
            "payout": self.payout,
            "region": region,
            "rate_kbps": self.rate_kbps,
            "stake": str(stake),
            "deadline": deadline,
            "sig": register,
            "permit_sig": permit,
        }

    def _typed(self, domain: tuple[str, str, int], name: str, fields: str, values: list[Any]) -> str:
        types = [dict(zip(("type", "name"), f.split(" "), strict=True)) for f in fields.split(",")]
        header = {"name": domain[0], "version": "1", "chainId": domain[2], "verifyingContract": domain[1]}
        content = {t["name"]: v for t, v in zip(types, values, strict=True)}
        return bytes(self.owner.sign_typed_data(header, {name: types}, content).signature).hex()

    def register(self) -> Relay:
        self.rig.fund(self.owner.address, 100)
        answer = self.rig.post("/v1/register", self.registration())
        assert answer.status_code == 200, answer.text

        def active() -> bool:
            return bool(self.rig.get(f"/v1/stake/{self.id.hex()}")["state"] == "active")

        self.rig.until(active, 20, "registration")
        return self

    def sign(self, path: str, body: dict[str, Any], **fixed: Any) -> dict[str, Any]:
        full = {
            "relay": self.id.hex(), "time": int(time.time()), "nonce": secrets.token_hex(16), **body, **fixed,
        }  # fmt: skip
        full["sig"] = self.identity.sign(message(path, full)).signature.hex()
        return full

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.rig.post(path, self.sign(path, body))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def open(self, *tickets: Any) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = self.post("/v1/open", {"tickets": [opening(t) for t in tickets]})["results"]
        return results

    def redeem(self, *readings: tuple[bytes, int, bytes]) -> list[dict[str, Any]]:
        items = [{"id": id.hex(), "index": index, "preimage": word.hex()} for id, index, word in readings]
        results: list[dict[str, Any]] = self.post("/v1/redeem", {"items": items})["results"]
        return results

    def earnings(self) -> Any:
        return self.rig.get(f"/v1/earnings/{self.id.hex()}")

    def descriptor(self, ahead: int = 3600, v4: bytes = bytes((198, 18, 0, 11)), region: int = 1, flags: int = 0) -> bytes:
        body = BODY.pack(
            1, self.id, secrets.token_bytes(32), secrets.token_bytes(32), v4, 51900, bytes(16), 0, region, flags,
            self.rate_kbps, bytes(16), int(time.time()) + ahead,
        )  # fmt: skip
        return body + self.identity.sign(body).signature


def opening(ticket: Any) -> dict[str, Any]:
    """A ticket as /v1/open takes it."""
    return {
        "key": ticket.key_id.hex(),
        "anchor": ticket.anchor.hex(),
        "output": ticket.output.hex(),
        "units": ticket.units,
    }
