"""EIP-712 messages of the contracts, signed with eth-account: 65 bytes r, s, v."""

from __future__ import annotations

from typing import Any

from eth_account import Account

REGISTRY, SETTLEMENT = "bwrouter StakeRegistry", "bwrouter Settlement"  # EIP-712 names
REGISTER = [
    ("relayId", "bytes32"),
    ("owner", "address"),
    ("payout", "address"),
    ("region", "uint16"),
    ("rateKbps", "uint32"),
    ("stake", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
]
ADD_STAKE = [
    ("relayId", "bytes32"),
    ("funder", "address"),
    ("amount", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
]
PERMIT = [
    ("owner", "address"),
    ("spender", "address"),
    ("value", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
]
SPEND = [("gateway", "address"), ("region", "uint16"), ("account", "address"), ("cumulative", "uint256")]


def sign(key: str, contract: Any, name: str, kind: str, fields: list[tuple[str, str]], *values: Any) -> bytes:
    """Sign message `kind` under the domain (name, "1", the node's chain id, the contract's address)."""
    domain = {
        "name": name,
        "version": "1",
        "chainId": contract.w3.eth.chain_id,
        "verifyingContract": contract.address,
    }
    types = {kind: [{"name": n, "type": t} for n, t in fields]}
    message = {n: v for (n, _), v in zip(fields, values, strict=True)}
    return bytes(Account.sign_typed_data(key, domain, types, message).signature)


def permit(key: str, token: Any, name: str, spender: str, value: int, deadline: int) -> bytes:
    """ERC-2612 permit of `value` to `spender` with the owner's next nonce."""
    owner = Account.from_key(key).address
    nonce = token.functions.nonces(owner).call()
    return sign(key, token, name, "Permit", PERMIT, owner, spender, value, nonce, deadline)
