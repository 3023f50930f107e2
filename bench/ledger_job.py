"""Times of ledger/ on the runtime that runs this file; prints one JSON object. Started by bench/ledger.py.

The file runs on MicroPython too, hence no imports from typing. Arguments: seconds for each figure, folder of src.
"""

import json
import sys

sys.path.insert(0, sys.argv[2])

from bwrouter.ledger import eip712, merkle, mpt, secp256k1  # noqa: E402
from bwrouter.ledger.keccak import keccak256  # noqa: E402
from bwrouter.platform import clock, ffi  # noqa: E402

SECONDS = float(sys.argv[1])


def milliseconds(work: object) -> float:
    """Mean time of one call, over at least SECONDS."""
    work()  # type: ignore[operator]
    count, began = 0, clock.us()
    while True:
        work()  # type: ignore[operator]
        count += 1
        spent = clock.diff(clock.us(), began)
        if spent >= SECONDS * 1000000:
            return float(round(spent / count / 1000, 4))


def deep_tree(levels: int) -> tuple[bytes, bytes, list[bytes]]:
    """(root, ABI-encoded leaf, proof) of a tree so deep."""
    encoded, proof = bytes(range(64)), [keccak256(bytes([i])) for i in range(levels)]
    return merkle.root_of(merkle.leaf(encoded), proof), encoded, proof


def main() -> None:
    with open(sys.argv[3]) as file:
        account = json.load(file)["account"]
    blind, digest, secret = bytes(range(40)), keccak256(b"digest"), keccak256(b"secret")
    began = clock.us()
    secp256k1.public_key(secret, blind)
    first = clock.diff(clock.us(), began) / 1000
    root, encoded, proof = deep_tree(20)
    assert merkle.holds(root, encoded, proof)
    state_root, address = bytes.fromhex(account["root"]), bytes.fromhex(account["address"])
    nodes = [bytes.fromhex(node) for node in account["proof"]]
    slot, slot_nodes = bytes.fromhex(account["slot"]), [bytes.fromhex(node) for node in account["slot_proof"]]
    storage = mpt.account(state_root, address, nodes)[2]
    assert mpt.storage(storage, slot, slot_nodes) == int(account["value"])
    permit = {"owner": bytes(20), "spender": bytes(20), "value": 1 << 90, "nonce": 3, "deadline": 1 << 33}
    separator = eip712.domain_separator("Bandwidth Token", "1", 31337, bytes(20))
    times = {
        "first_key_ms": round(first, 3),
        "sign_ms": milliseconds(lambda: secp256k1.sign(digest, secret, blind)),
        "keccak_136_ms": milliseconds(lambda: keccak256(bytes(135))),
        "permit_digest_ms": milliseconds(lambda: eip712.digest(separator, eip712.PERMIT, permit)),
        "merkle_20_ms": milliseconds(lambda: merkle.holds(root, encoded, proof)),
        "account_proof_ms": milliseconds(lambda: mpt.account(state_root, address, nodes)),
        "account_proof_nodes": len(nodes),
        "slot_proof_ms": milliseconds(lambda: mpt.storage(storage, slot, slot_nodes)),
        "slot_proof_nodes": len(slot_nodes),
    }
    print(json.dumps({"runtime": ffi.RUNTIME, "word_bits": 8 * ffi.WORD, "order": sys.byteorder, "times": times}))


main()
