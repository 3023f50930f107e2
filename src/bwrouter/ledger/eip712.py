"""EIP-712 typed structured data: domain separator, struct hash and the digest that is signed.

A type is a pair (name, fields), fields a tuple of pairs (Solidity type, name). Only the atomic types and the two
dynamic ones that the contracts use are known: address, bool, uintN, bytesN, string, bytes. Values are integers for
bool and uintN, bytes for address and bytesN and bytes, str for string;
a wrong one raises ValueError and names the field.
"""

from bwrouter.ledger.keccak import keccak256

DOMAIN = (
    "EIP712Domain",
    (("string", "name"), ("string", "version"), ("uint256", "chainId"), ("address", "verifyingContract")),
)
# ERC-2612
PERMIT = (
    "Permit",
    (
        ("address", "owner"),
        ("address", "spender"),
        ("uint256", "value"),
        ("uint256", "nonce"),
        ("uint256", "deadline"),
    ),
)


def type_string(kind):
    """encodeType, for example `Permit(address owner,address spender,...)`."""
    name, fields = kind
    return name + "(" + ",".join([solidity + " " + field for solidity, field in fields]) + ")"


def struct_hash(kind, values):
    """The 32-byte hashStruct of `values`, a dict that has every field of `kind` and no other."""
    name, fields = kind
    if len(values) != len(fields):
        raise ValueError("%s: has %d fields, got %d" % (name, len(fields), len(values)))
    parts = [keccak256(type_string(kind).encode())]
    for solidity, field in fields:
        if field not in values:
            raise ValueError("%s: no %s given" % (name, field))
        parts.append(word(solidity, values[field], name + "." + field))
    return keccak256(b"".join(parts))


def domain_separator(name, version, chain_id, contract):
    """The 32-byte separator of a contract's domain; `contract` is its 20-byte address."""
    return struct_hash(
        DOMAIN, {"name": name, "version": version, "chainId": chain_id, "verifyingContract": contract}
    )


def digest(separator, kind, values):
    """The 32 bytes that are signed for `values` of type `kind` under a domain separator."""
    return keccak256(b"\x19\x01" + separator + struct_hash(kind, values))


def word(solidity, value, what):
    """encodeData of one value: 32 bytes; for the atomic types also their ABI encoding. `what` names it in an error."""
    if solidity == "string" and isinstance(value, str):
        return keccak256(value.encode())
    if solidity == "bytes" and isinstance(value, (bytes, bytearray)):
        return keccak256(value)
    if solidity == "bool" or solidity[:4] == "uint":
        bits = 1 if solidity == "bool" else int(solidity[4:])
        if isinstance(value, (bool, int)) and 0 <= value < 1 << bits:
            return int(value).to_bytes(32, "big")
    elif isinstance(value, (bytes, bytearray)):
        if solidity == "address" and len(value) == 20:
            return bytes(12) + value
        if solidity[:5] == "bytes" and solidity[5:] and len(value) == int(solidity[5:]):
            return bytes(value) + bytes(32 - len(value))
    raise ValueError("%s: %r is no %s" % (what, value, solidity))
