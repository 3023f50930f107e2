"""EIP-712 `Spend` vouchers: a buyer's signed word on what it has spent here, good on chain (Settlement.charge)."""

from __future__ import annotations

from eth_abi.abi import encode
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

_DOMAIN = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_SPEND = keccak(text="Spend(address gateway,uint16 region,address account,uint256 cumulative)")


def domain(chain_id: int, settlement: str) -> bytes:
    """Domain separator of Settlement, 32 bytes."""
    fields = (_DOMAIN, keccak(text="bwrouter Settlement"), keccak(text="1"), chain_id, settlement)
    return keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], fields))


def digest(domain: bytes, gateway: str, region: int, account: str, cumulative: int) -> bytes:
    """What the buyer signs: cumulative wei spent with `gateway` in `region`."""
    fields = (_SPEND, gateway, region, account, cumulative)
    content = keccak(encode(["bytes32", "address", "uint16", "address", "uint256"], fields))
    return keccak(b"\x19\x01" + domain + content)


def signer(digest: bytes, signature: bytes) -> str | None:
    """Lower-case address that signed (65 bytes r, s, v), or None."""
    if len(signature) != 65 or signature[64] not in (27, 28):  # what the contract's ECDSA takes
        return None
    try:
        vrs = signature[:64] + bytes([signature[64] - 27])
        return str(Signature(vrs).recover_public_key_from_msg_hash(digest).to_address())
    except (BadSignature, ValidationError):
        return None
