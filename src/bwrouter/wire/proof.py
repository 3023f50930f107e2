"""The payloads of PROVE (protocol section 12): START, BEGUN, CLOSE, and the keystream between them."""

import hashlib
import struct

from ..platform import sodium
from . import sizes as S

DOMAIN = b"bwrouter/1 prove"


class Malformed(ValueError):
    """The payload is not what it should be."""


def proof_id(seed):
    """The proof's name, 16 bytes: H(seed)'s first half. What is signed with it is bound to the seed."""
    return hashlib.sha256(seed).digest()[:16]


def pack_start(ms, seed):
    """START, 36 bytes: a proof of `ms` milliseconds under a fresh `seed` (32)."""
    return struct.pack("<BBH", S.PROVE_START, 0, ms) + seed


def parse_start(payload):
    """(ms, seed) of a START. Raises Malformed."""
    if len(payload) < S.PROVE_START_SIZE or payload[0] != S.PROVE_START:
        raise Malformed("start")
    ms = payload[2] | payload[3] << 8
    if not S.PROVE_LEAST_MS <= ms <= S.PROVE_MOST_MS:
        raise Malformed("time")
    return ms, payload[4:36]


def pack_begun(status, rate_kbps, name):
    """BEGUN, 24 bytes: whether the proof `name` (16) has begun, and at what rate."""
    return struct.pack("<BBHI", S.PROVE_ANSWER, status, 0, rate_kbps) + name


def parse_begun(payload):
    """(status, rate in kbit/s, name). Raises Malformed."""
    if len(payload) < S.PROVE_ANSWER_SIZE or payload[0] != S.PROVE_ANSWER:
        raise Malformed("begun")
    _, status, _, rate = struct.unpack_from("<BBHI", payload)
    return status, rate, payload[8:24]


def keystream(seed, index, size=S.PROVE_BYTES):
    """The `size` bytes of chunk `index`: ChaCha20 under `seed`, nonce = index (4) and the name's first 8 bytes."""
    return sodium.stream_xor(seed, struct.pack("<I", index) + proof_id(seed)[:8], bytes(size))


def pack_statement(ms, name, chunks, slots, stalled, carried_kib, counter, rate_kbps, time):
    """What the relay's identity signs, 44 bytes; docs/protocol.md has the fields."""
    return struct.pack("<BBH", S.PROVE_CLOSE, 0, ms) + name + struct.pack(
        "<IHHIIII", chunks, slots, stalled, carried_kib, counter, rate_kbps, time
    )  # fmt: skip


def parse_statement(payload):
    """(ms, name, chunks, slots, stalled, carried KiB, counter, rate kbit/s, unix time). Raises Malformed."""
    if len(payload) < S.PROVE_STATEMENT or payload[0] != S.PROVE_CLOSE or payload[1]:
        raise Malformed("statement")
    return (payload[2] | payload[3] << 8, payload[4:20]) + struct.unpack_from("<IHHIIII", payload, 20)


def sign(secret, statement):
    """The identity's signature (64) of a statement. Raises Malformed for anything else."""
    if len(statement) != S.PROVE_STATEMENT:
        raise Malformed("statement")
    parse_statement(statement)
    return sodium.ed25519_sign(secret, DOMAIN + statement)


def verify(relay, payload):
    """The fields of a CLOSE (108 bytes) that the relay with this id (32) has signed. Raises Malformed."""
    if len(payload) < S.PROVE_CLOSE_SIZE:
        raise Malformed("close")
    statement = payload[: S.PROVE_STATEMENT]
    if not sodium.ed25519_verify(relay, DOMAIN + statement, payload[S.PROVE_STATEMENT : S.PROVE_CLOSE_SIZE]):
        raise Malformed("signature")
    return parse_statement(statement)
