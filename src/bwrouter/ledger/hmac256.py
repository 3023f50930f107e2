"""HMAC-SHA256 (RFC 2104) over `hashlib.sha256`: MicroPython has no `hmac`."""

from hashlib import sha256

_BLOCK = 64


def hmac_sha256(key, *parts):
    """The 32-byte HMAC-SHA256 under `key` (bytes of any length) of the joined `parts`."""
    if len(key) > _BLOCK:
        key = sha256(key).digest()
    key = key + bytes(_BLOCK - len(key))
    inner = sha256(bytes([byte ^ 0x36 for byte in key]))
    for part in parts:
        inner.update(part)
    outer = sha256(bytes([byte ^ 0x5C for byte in key]))
    outer.update(inner.digest())
    return outer.digest()
