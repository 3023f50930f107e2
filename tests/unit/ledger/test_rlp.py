"""RLP against the reference library, and that nothing but the canonical form is taken."""

import json

from harness import raises

from bwrouter.ledger import rlp

VECTORS = __file__[: __file__.rfind("test_")] + "vectors.json"


def from_json(item):
    return [from_json(part) for part in item] if isinstance(item, list) else bytes.fromhex(item)


def refused(data):
    try:
        rlp.decode(data)
    except rlp.RlpError:
        return True
    return False


def test_oracle_both_ways():
    with open(VECTORS) as file:
        rows = json.load(file)["rlp"]
    assert len(rows) == 11
    for item, encoded in rows:
        assert rlp.encode(from_json(item)).hex() == encoded
        assert rlp.decode(bytes.fromhex(encoded)) == from_json(item)


def test_integers():
    assert rlp.encode(0) == b"\x80"
    assert rlp.encode(127) == b"\x7f"
    assert rlp.encode(1024) == b"\x82\x04\x00"
    assert rlp.encode((1 << 256) - 1) == b"\xa0" + b"\xff" * 32
    raises(rlp.RlpError, rlp.encode, -1)


def test_every_other_form_is_refused():
    for data in (
        b"",  # nothing
        b"\x81\x7f",  # a single byte with a prefix
        b"\x83ab",  # cut off
        b"\xb8",  # no length
        b"\xb8\x37" + bytes(55),  # a short string with a long length
        b"\xb9\x00\x38" + bytes(56),  # a length with a leading zero
        b"\xbf" + b"\xff" * 8,  # a length beyond all memory
        b"\xc1",  # an empty list that should hold one
        b"\xc2\x83a",  # an item that leaves its list
        b"\xf8\x01\x01",  # a short list with a long length
        b"\x80\x80",  # two items
        b"\xc9" + b"\xc8" * 1,  # nested and cut
        b"\xd3\xd2\xd1\xd0\xcf\xce\xcd\xcc\xcb\xca\xc9\xc8\xc7\xc6\xc5\xc4\xc3\xc2\xc1\xc0",  # too deep
    ):
        assert refused(data), data


def test_a_flipped_or_missing_byte_never_decodes_to_the_same():
    item = [b"cat", [b"", b"\x01" * 60], b"\x80"]
    encoded = rlp.encode(item)
    for i in range(len(encoded)):
        assert refused(encoded[:i])
        changed = bytearray(encoded)
        changed[i] ^= 0x41
        assert refused(changed) or rlp.decode(changed) != item
