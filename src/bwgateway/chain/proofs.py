"""Block headers as RLP and EIP-1186 proofs, in the form that a router verifies (GET /v1/proofs/{relay})."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_utils.crypto import keccak
from web3 import AsyncWeb3
from web3.types import RPCEndpoint

from bwgateway.chain.answers import ChainError
from bwrouter.agent.proofs import slots
from bwrouter.ledger import rlp

__all__ = ["at_block", "header", "slots"]

# In the order of the header's RLP; those from baseFeePerGas on came with forks and are there or not (London, Shanghai,
# Cancun, Prague).
FIELDS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
    "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot",
    "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
)  # fmt: skip


def header(block: Mapping[str, Any]) -> bytes:
    """RLP of a block's header. Raises ChainError unless it hashes to the block's hash."""
    fields = [_field(block[name]) for name in FIELDS if name in block and block[name] is not None]
    encoded = bytes(rlp.encode(fields))
    if keccak(encoded) != bytes(block["hash"]):
        raise ChainError(f"block {block['number']}: its header does not hash to {bytes(block['hash']).hex()}")
    return encoded


def _field(value: Any) -> bytes:
    if isinstance(value, int):
        return value.to_bytes((value.bit_length() + 7) // 8, "big")
    if isinstance(value, str):  # the miner, checksummed
        return bytes.fromhex(value[2:])
    return bytes(value)


async def at_block(w3: AsyncWeb3[Any], number: int, accounts: Sequence[tuple[str, Sequence[bytes]]]) -> dict[str, Any]:
    """`header` and, for each (contract, slots), `account` and `slots` with the proofs' nodes in hex."""
    block = await w3.eth.get_block(number)
    proofs = []
    for address, asked in accounts:
        given = [address, ["0x" + slot.hex() for slot in asked], hex(number)]
        answer = await w3.provider.make_request(RPCEndpoint("eth_getProof"), given)
        if "result" not in answer:
            raise ChainError(f"eth_getProof: {answer.get('error')}")
        got = answer["result"]
        slots_ = [[node[2:] for node in entry["proof"]] for entry in got["storageProof"]]
        proofs.append({"account": [node[2:] for node in got["accountProof"]], "slots": slots_})
    return {"header": header(block).hex(), "proofs": proofs}
