"""The chain as the lab sees it: plain JSON-RPC calls, apart from the code of gateway, router and client.

Used to hand out test money and to read what is true on chain.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import requests
from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_utils.crypto import keccak

ETHER = 10**18


class ChainError(Exception):
    """The node refused a call; the text holds its words."""


class Chain:
    """A JSON-RPC endpoint. Use it from a thread whose network namespace reaches `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._ids = itertools.count(1)

    def rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        answer = self._session.post(self.url, json=body, timeout=5).json()
        if "error" in answer:
            raise ChainError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def block(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def call(self, to: str, signature: str, args: list[Any], returns: list[str]) -> tuple[Any, ...]:
        """Read a contract: `signature` as in `balanceOf(address)`, `returns` ABI types."""
        raw = self.rpc("eth_call", {"to": to, "data": encode(signature, args)}, "latest")
        return abi_decode(returns, bytes.fromhex(raw[2:]))

    def balance(self, account: str, token: str = "") -> int:
        """Wei of the chain's coin, or of an ERC-20."""
        if not token:
            return int(self.rpc("eth_getBalance", account, "latest"), 16)
        return int(self.call(token, "balanceOf(address)", [account], ["uint256"])[0])

    def send_all(self, transactions: list[dict[str, Any]], key: str, timeout: float = 20.0) -> list[str]:
        """Sign and send in order, wait until all are mined. Raises ChainError if one fails."""
        sender = Account.from_key(key).address
        nonce = int(self.rpc("eth_getTransactionCount", sender, "pending"), 16)
        chain_id = int(self.rpc("eth_chainId"), 16)
        price = int(self.rpc("eth_gasPrice"), 16) * 2
        hashes = []
        for offset, transaction in enumerate(transactions):
            full = {"value": 0, "gas": 300_000, "gasPrice": price, "chainId": chain_id, "nonce": nonce + offset}
            signed = Account.sign_transaction(full | transaction, key)
            hashes.append(self.rpc("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))
        end = time.monotonic() + timeout
        for tx in hashes:
            while (receipt := self.rpc("eth_getTransactionReceipt", tx)) is None:
                if time.monotonic() > end:
                    raise ChainError(f"transaction {tx} was not mined within {timeout:g} s")
                time.sleep(0.1)
            if int(receipt["status"], 16) != 1:
                raise ChainError(f"transaction {tx} failed")
        return hashes


def encode(signature: str, args: list[Any]) -> str:
    kinds = signature[signature.index("(") + 1 : -1]
    return "0x" + (keccak(text=signature)[:4] + abi_encode(kinds.split(",") if kinds else [], args)).hex()


def transfer(token: str, to: str, amount: int) -> dict[str, Any]:
    """The transaction that moves `amount` wei of an ERC-20."""
    return {"to": token, "data": encode("transfer(address,uint256)", [to, amount])}
