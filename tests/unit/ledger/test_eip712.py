"""Typed data against eth-account's signatures, and refusal of values outside their type."""

import json

from harness import raises

from bwrouter.ledger import eip712, secp256k1

VECTORS = __file__[: __file__.rfind("test_")] + "vectors.json"


def message_of(row):
    domain = eip712.domain_separator("Bandwidth Token", "1", int(row["chain_id"]), bytes.fromhex(row["token"]))
    values = {
        "owner": bytes.fromhex(row["owner"]),
        "spender": bytes.fromhex(row["spender"]),
        "value": int(row["value"]),
        "nonce": 7,
        "deadline": 1 << 33,
    }
    return domain, values


def load():
    with open(VECTORS) as file:
        return json.load(file)["typed"]


def refused(solidity, value):
    return "field" in str(raises(ValueError, eip712.word, solidity, value, "field"))


def test_type_string():
    assert eip712.type_string(eip712.PERMIT) == (
        "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
    )


def test_permit():
    rows = load()
    assert rows
    for row in rows:
        domain, values = message_of(row)
        digest = eip712.digest(domain, eip712.PERMIT, values)
        assert digest.hex() == row["digest"]
        assert secp256k1.signature(digest, bytes.fromhex(row["secret"])).hex() == row["signature"]


def test_every_field_changes_the_digest():
    domain, values = message_of(load()[0])
    digests = {eip712.digest(domain, eip712.PERMIT, values)}
    for name in values:
        changed = dict(values)
        changed[name] = changed[name] ^ 1 if isinstance(changed[name], int) else bytes(20)
        digests.add(eip712.digest(domain, eip712.PERMIT, changed))
    assert len(digests) == 6


def test_words():
    assert eip712.word("bool", True, "x") == bytes(31) + b"\x01"
    assert eip712.word("uint16", 65535, "x") == bytes(30) + b"\xff\xff"
    assert eip712.word("bytes4", b"abcd", "x") == b"abcd" + bytes(28)
    assert eip712.word("address", b"\x01" * 20, "x") == bytes(12) + b"\x01" * 20


def test_values_outside_their_type_are_refused():
    for solidity, value in (
        ("uint16", 65536),
        ("uint16", -1),
        ("uint256", 1 << 256),
        ("uint256", "1"),
        ("bool", 2),
        ("address", bytes(19)),
        ("address", "0x" + "00" * 20),
        ("bytes32", bytes(31)),
        ("string", b"x"),
        ("int256", 1),
    ):
        assert refused(solidity, value), (solidity, value)


def test_a_missing_or_unknown_field_is_refused():
    domain, values = message_of(load()[0])
    for drop, add in (("nonce", None), ("nonce", "nonse"), (None, "more")):
        changed = dict(values)
        if drop:
            del changed[drop]
        if add:
            changed[add] = 1
        raises(ValueError, eip712.digest, domain, eip712.PERMIT, changed)
