"""The router's keys as one text under a passphrase: Argon2id (RFC 9106) and ChaCha20-Poly1305 (RFC 8439).

A JSON object: `bwrouter` "keys", `version` 1, `ops` and `mem_kib` of Argon2id, `salt` 16, `nonce` 12 and `sealed` in
hex. What is sealed is the JSON object {name: 64 hex digits} of keys.NAMES; the associated data are the other members as
canonical JSON, so that none of them can be changed.
"""

import binascii
import json
import os

from ..platform import http, sodium
from . import keys

OPS = 4  # passes over the memory
MEM_KIB = 8192  # a router with 64 MB must be able to restore it while it runs
MEM_MOST_KIB = 1048576  # more in a file is damage, or meant to harm
PASSPHRASE_LEAST = 10  # characters


class BackupError(OSError):
    """A backup that cannot be made or read; the text says why and what would help."""


def seal(secrets, passphrase):
    """The backup's text. `secrets`: {name: 32 bytes}. Raises BackupError for a passphrase that is too short."""
    if len(passphrase) < PASSPHRASE_LEAST:
        raise BackupError("the passphrase is too short: it must have at least %d characters" % PASSPHRASE_LEAST)
    head = {
        "bwrouter": "keys", "version": 1, "ops": OPS, "mem_kib": MEM_KIB,
        "salt": os.urandom(16).hex(), "nonce": os.urandom(12).hex(),
    }  # fmt: skip
    plain = http.canonical({name: secrets[name].hex() for name in secrets}).encode()
    sealed = sodium.aead_seal(_key(head, passphrase), _bytes(head, "nonce", 12), http.canonical(head).encode(), plain)
    head["sealed"] = sealed.hex()
    return http.canonical(head) + "\n"


def unseal(text, passphrase):
    """{name: 32 bytes} of a backup's text. Raises BackupError."""
    try:
        head = json.loads(text)
        sealed = binascii.unhexlify(head["sealed"])
        del head["sealed"]
        good = head["bwrouter"] == "keys" and head["version"] == 1
        good = good and 1 <= head["ops"] <= 64 and 8 <= head["mem_kib"] <= MEM_MOST_KIB
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise BackupError("this is no backup of bwrouter's keys, or it is damaged")
    key, ad = _key(head, passphrase), http.canonical(head).encode()
    try:
        plain = json.loads(sodium.aead_open(key, _bytes(head, "nonce", 12), ad, sealed))
    except sodium.CryptoError:
        raise BackupError("the passphrase is wrong, or the backup is damaged")
    return {name: _bytes(plain, name, 32) for name in keys.NAMES}


def _key(head, passphrase):
    salt = _bytes(head, "salt", 16)
    return sodium.argon2id(passphrase.encode(), salt, head["ops"], 1024 * head["mem_kib"])


def _bytes(values, name, size):
    try:
        raw = binascii.unhexlify(values[name])
    except (ValueError, KeyError, TypeError):
        raw = b""
    if len(raw) != size:
        raise BackupError("the backup is damaged: " + name + " is not " + str(size) + " bytes")
    return raw
