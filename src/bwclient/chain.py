"""The buyer's access to an EVM chain: JSON-RPC, contract calls, transactions and ERC-2612 permits.

Functions are named by their Solidity signature, so that no ABI file is needed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import requests
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from .reach import OWN

_GAS_MARGIN = 1.25
_TIP = 10**9
_AGAIN_SECONDS = 3.0
_PERMIT = {
    "Permit": [
        {"name": "owner", "type": "address"},
        {"name": "spender", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
    ]
}


class ChainError(Exception):
    """The chain refused a call or gave no answer; the message says which."""


def _types(signature: str) -> list[str]:
    inner = signature[signature.index("(") + 1 : -1]
    return [t for t in inner.split(",") if t]


class Chain:
    """One endpoint and the buyer's key."""

    def __init__(self, url: str, key: bytes, timeout: float = 20.0, alone: bool = False) -> None:
        """`alone`: nobody else sends with this key, and each transaction is waited for. Nonces then follow from what is
        mined: a node that counts a transaction as pending while it is being mined names one too high, and what is sent
        with that waits for ever."""
        self._counted = "latest" if alone else "pending"
        self.url = url
        self.account: LocalAccount = Account.from_key(key)
        self.address: str = self.account.address
        self._timeout = timeout
        self._session = OWN.session()

    def rpc(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call. Raises ChainError."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        try:
            answer = self._session.post(self.url, json=body, timeout=self._timeout).json()
        except (requests.RequestException, ValueError) as e:
            raise ChainError(f"{method}: {e}") from e
        if "error" in answer:
            error = answer["error"]
            raise ChainError(f"{method}: {error.get('message')} {error.get('data') or ''}".strip())
        return answer["result"]

    def chain_id(self) -> int:
        """The chain's id."""
        return int(self.rpc("eth_chainId"), 16)

    @staticmethod
    def data(signature: str, *arguments: Any) -> str:
        """Call data of `name(type,type)`, 0x-hex."""
        selector = keccak(text=signature)[:4]
        return "0x" + (selector + encode(_types(signature), arguments)).hex()

    def call(self, to: str, signature: str, returns: Sequence[str], *arguments: Any) -> tuple[Any, ...]:
        """A read; the decoded return values."""
        request = {"to": to, "data": self.data(signature, *arguments), "from": self.address}
        raw = bytes.fromhex(self.rpc("eth_call", request, "latest")[2:])
        if not raw:
            raise ChainError(f"{signature}: {to} is no such contract")
        return decode(list(returns), raw)

    def send(self, to: str, signature: str, *arguments: Any, wait: float = 60.0) -> str:
        """A transaction, mined; its hash. Raises ChainError when it would fail, fails, or is not mined in time."""
        return self.send_many([(to, signature, arguments)], wait)[0]

    def send_many(self, calls: Sequence[tuple[str, str, Sequence[Any]]], wait: float = 60.0) -> list[str]:
        """Transactions that don't depend on each other, all sent before the first is mined; their hashes."""
        base = int(self.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        nonce = int(self.rpc("eth_getTransactionCount", self.address, self._counted), 16)
        fixed = {
            "type": 2,
            "chainId": self.chain_id(),
            "value": 0,
            "maxFeePerGas": 2 * base + _TIP,
            "maxPriorityFeePerGas": _TIP,
        }
        sent: list[tuple[str, str, int]] = []
        for to, signature, arguments in calls:
            call = {"from": self.address, "to": to, "data": self.data(signature, *arguments)}
            try:
                gas = int(int(self.rpc("eth_estimateGas", call), 16) * _GAS_MARGIN)
            except ChainError as e:
                raise ChainError(f"{signature} would fail: {e}") from e
            transaction: dict[str, Any] = {**fixed, "to": to, "data": call["data"], "gas": gas, "nonce": nonce}
            raw = bytes(self.account.sign_transaction(transaction).raw_transaction)
            sent.append((str(self.rpc("eth_sendRawTransaction", "0x" + raw.hex())), "0x" + raw.hex(), nonce))
            nonce += 1
        deadline = time.monotonic() + wait
        for (hash, raw_, number), call_ in zip(sent, calls, strict=True):
            self._mined(hash, call_[1], deadline, raw_, number)
        return [hash for hash, _, _ in sent]

    def _mined(self, hash: str, what: str, deadline: float, raw: str, nonce: int) -> None:
        again = time.monotonic() + _AGAIN_SECONDS
        while (receipt := self.rpc("eth_getTransactionReceipt", hash)) is None:
            now = time.monotonic()
            if now > deadline:
                raise ChainError(f"{what}: {hash} is not mined in time")
            if now > again:
                again = now + _AGAIN_SECONDS
                self._send_again(hash, what, raw, nonce)
            time.sleep(0.1)
        if int(receipt["status"], 16) != 1:
            raise ChainError(f"{what}: {hash} failed on chain")

    def _send_again(self, hash: str, what: str, raw: str, nonce: int) -> None:
        """A chain that is reorganised may lose transactions, and nodes forget what waits for long. Raises ChainError
        when one of ours before this one is gone: whoever is alone finds out what is due, and sends that."""
        if self._counted == "latest" and int(self.rpc("eth_getTransactionCount", self.address, "latest"), 16) < nonce:
            raise ChainError(f"{what}: {hash} waits for another that the chain has lost")
        with suppress(ChainError):  # most often: it is known
            self.rpc("eth_sendRawTransaction", raw)

    def balance(self, token: str) -> int:
        """Wei of an ERC-20 that the buyer holds."""
        return int(self.call(token, "balanceOf(address)", ["uint256"], self.address)[0])

    def allowance(self, token: str, spender: str) -> int:
        """Wei that `spender` may take."""
        return int(self.call(token, "allowance(address,address)", ["uint256"], self.address, spender)[0])

    def permit(self, token: str, spender: str, value: int, deadline: int) -> bytes:
        """ERC-2612 permit signed by the buyer: 65 bytes r, s, v."""
        (name,) = self.call(token, "name()", ["string"])
        (nonce,) = self.call(token, "nonces(address)", ["uint256"], self.address)
        domain = {"name": name, "version": "1", "chainId": self.chain_id(), "verifyingContract": token}
        message = {"owner": self.address, "spender": spender, "value": value, "nonce": nonce, "deadline": deadline}
        return bytes(self.account.sign_typed_data(domain, _PERMIT, message).signature)
