"""Block headers as BandwidthProof.setSeed wants them: RLP, checked against the block's hash."""

from __future__ import annotations

from typing import Any

from rlp.codec import encode
from web3 import Web3

#: header fields in RLP order; those after nonce exist from London, Shanghai, Cancun and Prague on
FIELDS = (
    "parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit gasUsed "
    "timestamp extraData mixHash nonce baseFeePerGas withdrawalsRoot blobGasUsed excessBlobGas parentBeaconBlockRoot "
    "requestsHash"
).split()


def header_rlp(block: Any) -> bytes:
    """RLP of the header of a block as eth_getBlockByNumber gives it. Raises ValueError if its hash is another."""
    items = []
    for name in FIELDS:
        value = block.get(name)
        if value is None:
            continue
        if isinstance(value, int):
            items.append(value.to_bytes((value.bit_length() + 7) // 8, "big"))
        else:
            items.append(bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value))
    encoded = bytes(encode(items))
    if bytes(Web3.keccak(encoded)) != bytes(block["hash"]):
        raise ValueError(f"header of block {block['number']} does not hash to its hash")
    return encoded


def epoch_headers(w3: Web3, start: int) -> tuple[bytes, bytes]:
    """Headers of the last block before `start` (unix seconds) and of the one after it. Raises LookupError if none."""
    low, high = 0, int(w3.eth.block_number)
    if w3.eth.get_block(high)["timestamp"] < start or w3.eth.get_block(low)["timestamp"] >= start:
        raise LookupError(f"no block before and after {start}")
    while high - low > 1:
        middle = (low + high) // 2
        if w3.eth.get_block(middle)["timestamp"] < start:
            low = middle
        else:
            high = middle
    return header_rlp(w3.eth.get_block(low)), header_rlp(w3.eth.get_block(high))
