"""Vectors for tests/unit/ledger, made by independent implementations.

`python tests/interop/ledger_vectors.py > tests/unit/ledger/vectors.json`; test_ledger.py holds them to be the same.
Oracles: safe-pysha3 (Keccak), coincurve (libsecp256k1), eth-account (EIP-712), rlp, trie.
"""

import json
import random

import coincurve
import rlp
import sha3
from eth_account import Account
from eth_account.messages import encode_typed_data
from trie import HexaryTrie

SEED = 20240613


def keccak256(data: bytes) -> bytes:
    return sha3.keccak_256(data).digest()


def make() -> dict:
    rng = random.Random(SEED)
    return {
        "keccak": [[d.hex(), keccak256(d).hex()] for d in (rng.randbytes(n) for n in (0, 1, 135, 136, 137, 272, 500))],
        "sign": [sign_vector(secret, rng.randbytes(32)) for secret in secrets(rng)],
        "typed": [typed_vector(rng) for _ in range(3)],
        "rlp": [[rlp_json(item), rlp.encode(item).hex()] for item in rlp_items(rng)],
        "trie": trie_vector(rng),
        "account": account_vector(rng),
    }


def secrets(rng: random.Random) -> list[bytes]:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    return [n.to_bytes(32, "big") for n in (1, 2, 3, order - 1, order // 2)] + [rng.randbytes(32) for _ in range(5)]


def sign_vector(secret: bytes, digest: bytes) -> list[str]:
    key = coincurve.PrivateKey(secret)
    signed = key.sign_recoverable(digest, hasher=None)
    public = key.public_key.format(compressed=False)[1:]
    return [secret.hex(), digest.hex(), public.hex(), signed.hex(), keccak256(public)[12:].hex()]


def typed_vector(rng: random.Random) -> dict:
    """A Permit signed by eth-account."""
    secret, token, spender = rng.randbytes(32), rng.randbytes(20), rng.randbytes(20)
    owner = Account.from_key(secret).address
    domain = {"name": "Bandwidth Token", "version": "1", "chainId": rng.randrange(1 << 32)}
    domain["verifyingContract"] = "0x" + token.hex()
    value = {"owner": owner, "spender": "0x" + spender.hex(), "value": rng.randrange(1 << 256)}
    value |= {"nonce": 7, "deadline": 1 << 33}
    fields = "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline"
    types = {"Permit": [dict(zip(("type", "name"), field.split(), strict=True)) for field in fields.split(",")]}
    signed = Account.sign_message(encode_typed_data(domain, types, value), secret)
    return {
        "secret": secret.hex(),
        "owner": owner[2:].lower(),
        "chain_id": str(domain["chainId"]),
        "token": token.hex(),
        "spender": spender.hex(),
        "value": str(value["value"]),
        "digest": signed.message_hash.hex(),
        "signature": signed.signature.hex(),
    }


def rlp_items(rng: random.Random) -> list:
    strings = [b"", b"\x00", b"\x7f", b"\x80", rng.randbytes(55), rng.randbytes(56), rng.randbytes(300)]
    lists = [[], [[], [[]], [[], [[]]]], [b"cat", b"dog"]]
    return [*strings, *lists, [rng.randbytes(20), [rng.randbytes(40), b""], rng.randbytes(2)]]


def rlp_json(item: bytes | list) -> str | list:
    return [rlp_json(part) for part in item] if isinstance(item, list) else item.hex()


def trie_vector(rng: random.Random) -> dict:
    """A trie of 200 hashed keys: proofs of 6 keys that are there and 6 that are not."""
    trie = HexaryTrie({})
    entries = {rng.randbytes(32): rlp.encode(rng.randbytes(rng.choice((1, 2, 32)))) for _ in range(200)}
    for key, value in entries.items():
        trie[keccak256(key)] = value
    keys = [*list(entries)[:6], *(rng.randbytes(32) for _ in range(6))]
    return {"root": trie.root_hash.hex(), "proofs": [proof_vector(trie, key, entries.get(key)) for key in keys]}


def proof_vector(trie: HexaryTrie, key: bytes, value: bytes | None) -> list:
    nodes = [rlp.encode(node) for node in trie.get_proof(keccak256(key))]
    kept = [node.hex() for i, node in enumerate(nodes) if i == 0 or len(node) >= 32]
    return [key.hex(), value.hex() if value is not None else None, kept]


def account_vector(rng: random.Random) -> dict:
    """A state trie of 50 accounts, one of them a contract with 10 slots."""
    slots, accounts = HexaryTrie({}), HexaryTrie({})
    values = {n.to_bytes(32, "big"): rng.randrange(1, 1 << 256) for n in range(10)}
    for slot, number in values.items():
        slots[keccak256(slot)] = rlp.encode(number)
    address, code, balance = rng.randbytes(20), rng.randbytes(32), rng.randrange(1 << 90)
    accounts[keccak256(address)] = rlp.encode([3, balance, slots.root_hash, code])
    for _ in range(49):
        other = [1, rng.randrange(1 << 90), rng.randbytes(32), rng.randbytes(32)]
        accounts[keccak256(rng.randbytes(20))] = rlp.encode(other)
    slot = (4).to_bytes(32, "big")
    return {
        "root": accounts.root_hash.hex(),
        "address": address.hex(),
        "proof": [rlp.encode(node).hex() for node in accounts.get_proof(keccak256(address))],
        "nonce": 3,
        "balance": str(balance),
        "code": code.hex(),
        "slot": slot.hex(),
        "value": str(values[slot]),
        "slot_proof": [rlp.encode(node).hex() for node in slots.get_proof(keccak256(slot))],
    }


if __name__ == "__main__":
    print(json.dumps(make(), indent=1))
