"""The client's half of RFC 9497 VOPRF, ristretto255-SHA512 (mode 0x01), over libsodium.

    blind(input, r)                             blinded element = r * HashToGroup(input)
    verify(pk, blinded, evaluated, proof)       one DLEQ proof for the whole batch
    finalise(input, r, evaluated)               output = Hash(input, r^-1 * evaluated)

The blind is the caller's: a wallet that derives it from a stored seed can finish an issue after a crash.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from functools import cache
from hashlib import sha512

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Order of the group."""
_CONTEXT = b"OPRFV1-\x01-ristretto255-SHA512"
_SHA512_BLOCK = 128


class BadElement(ValueError):
    """Bytes that are no group element, or an operation whose result is the identity."""


class BadProof(ValueError):
    """The mint's proof does not hold: it used another key than the one it publishes."""


@cache
def _sodium() -> ctypes.CDLL:
    for name in ("libsodium.so.26", "libsodium.so.23", ctypes.util.find_library("sodium") or ""):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if hasattr(library, "crypto_scalarmult_ristretto255"):
            library.sodium_init()
            return library
    raise OSError("libsodium with ristretto255 is missing; install Debian's libsodium23")


def _multiply(scalar: int, element: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    if len(element) != 32 or _sodium().crypto_scalarmult_ristretto255(out, scalar.to_bytes(32, "little"), element):
        raise BadElement("not a ristretto255 element, or the identity")
    return out.raw


def _multiply_base(scalar: int) -> bytes:
    out = ctypes.create_string_buffer(32)
    if _sodium().crypto_scalarmult_ristretto255_base(out, scalar.to_bytes(32, "little")):
        raise BadElement("the identity")
    return out.raw


def _add(a: bytes, b: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    if _sodium().crypto_core_ristretto255_add(out, a, b):
        raise BadElement("not a ristretto255 element")
    return out.raw


def _expand(message: bytes, tag: bytes) -> bytes:
    """expand_message_xmd of RFC 9380 with SHA-512, 64 bytes."""
    suffix = tag + bytes([len(tag)])
    b0 = sha512(bytes(_SHA512_BLOCK) + message + b"\x00\x40\x00" + suffix).digest()
    return sha512(b0 + b"\x01" + suffix).digest()


def _hash_to_group(message: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    _sodium().crypto_core_ristretto255_from_hash(out, _expand(message, b"HashToGroup-" + _CONTEXT))
    return out.raw


def _hash_to_scalar(message: bytes) -> int:
    return int.from_bytes(_expand(message, b"HashToScalar-" + _CONTEXT), "little") % ORDER


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(p).to_bytes(2, "big") + p for p in parts)


def scalar(seed: bytes) -> int:
    """A blind out of at least 32 secret bytes: uniform in 1..ORDER-1."""
    return int.from_bytes(sha512(b"bwrouter/1 blind" + seed).digest(), "little") % (ORDER - 1) + 1


def blind(input: bytes, r: int) -> bytes:
    """The blinded element, 32 bytes."""
    return _multiply(r, _hash_to_group(input))


def verify(public_key: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes], proof: bytes) -> None:
    """Check the batch proof (64 bytes: c, s). Raises BadProof or BadElement."""
    if not blinded or len(blinded) != len(evaluated) or len(proof) != 64:
        raise BadProof("the answer has another length than the request")
    c, s = int.from_bytes(proof[:32], "little"), int.from_bytes(proof[32:], "little")
    if not 0 < c < ORDER or not 0 < s < ORDER:
        raise BadProof("a scalar of the proof is out of range")
    m, z = _composites(public_key, blinded, evaluated)
    t2 = _add(_multiply_base(s), _multiply(c, public_key))
    t3 = _add(_multiply(s, m), _multiply(c, z))
    if _hash_to_scalar(_framed(public_key, m, z, t2, t3) + b"Challenge") != c:
        raise BadProof("the proof does not match the public key")


def _composites(public_key: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes]) -> tuple[bytes, bytes]:
    seed = sha512(_framed(public_key, b"Seed-" + _CONTEXT)).digest()
    m = z = b""
    for i, (c, d) in enumerate(zip(blinded, evaluated, strict=True)):
        weight = _hash_to_scalar(_framed(seed) + i.to_bytes(2, "big") + _framed(c, d) + b"Composite")
        mi, zi = _multiply(weight, c), _multiply(weight, d)
        m, z = (_add(m, mi), _add(z, zi)) if m else (mi, zi)
    return m, z


def finalise(input: bytes, r: int, evaluated: bytes) -> bytes:
    """The signature on `input`, 64 bytes."""
    return sha512(_framed(input, _multiply(pow(r, -1, ORDER), evaluated)) + b"Finalize").digest()
