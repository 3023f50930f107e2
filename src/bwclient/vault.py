"""Secrets at rest: argon2id (RFC 9106) makes a key of the passphrase, XChaCha20-Poly1305 seals with it.

A vault file is one JSON object: `bwvault` 1, `ops` and `memory` of argon2id, `salt` 16, `nonce` 24, `sealed`, all hex.
The other fields are authenticated with what is sealed, so that nobody can lower the cost unseen.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from .files import write_bytes

OPS, MEMORY = 3, 64 << 20  # RFC 9106, the second recommended choice: 64 MiB, 3 passes
_MOST_MEMORY = 1 << 30


class VaultError(ValueError):
    """A vault can't be opened or made; the text says why and what would help."""


def seal(secret: bytes, passphrase: str, ops: int = OPS, memory: int = MEMORY) -> str:
    """The text of a vault file."""
    if not passphrase:
        raise VaultError("an empty passphrase protects nothing; choose one")
    salt, nonce = os.urandom(argon2id.SALTBYTES), os.urandom(24)
    head: dict[str, Any] = {"bwvault": 1, "ops": ops, "memory": memory, "salt": salt.hex(), "nonce": nonce.hex()}
    key = argon2id.kdf(32, passphrase.encode(), salt, ops, memory)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(secret, _aad(head), nonce, key)
    return json.dumps(head | {"sealed": sealed.hex()}) + "\n"


def unseal(text: str, passphrase: str) -> bytes:
    """What was sealed. Raises VaultError."""
    try:
        vault = json.loads(text)
        head = {name: vault[name] for name in ("bwvault", "ops", "memory", "salt", "nonce")}
        salt, nonce, sealed = (bytes.fromhex(vault[name]) for name in ("salt", "nonce", "sealed"))
        ops, memory = int(vault["ops"]), int(vault["memory"])
    except (ValueError, KeyError, TypeError) as e:
        raise VaultError(f"this is no vault: {e}") from e
    if vault["bwvault"] != 1 or memory > _MOST_MEMORY or ops > 64:
        raise VaultError("this vault is of another kind, or asks for too much memory or time")
    try:
        key = argon2id.kdf(32, passphrase.encode(), salt, ops, memory)
        return bytes(crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, _aad(head), nonce, key))
    except (CryptoError, ValueError, TypeError) as e:
        raise VaultError("the passphrase is wrong, or the file is damaged") from e


def _aad(head: dict[str, Any]) -> bytes:
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def is_vault(text: str) -> bool:
    """Whether a file's text is a vault, not a bare key."""
    return text.lstrip().startswith("{")


def passphrase(file: str = "", prompt: str = "Passphrase of the wallet: ", twice: bool = False) -> str:
    """From BW_PASSPHRASE, the file that the settings name, or the terminal. Raises VaultError."""
    if "BW_PASSPHRASE" in os.environ:
        return os.environ["BW_PASSPHRASE"]
    if file:
        try:
            return Path(file).read_text().rstrip("\n")
        except OSError as e:
            raise VaultError(f"passphrase file {file} cannot be read: {e.strerror}") from e
    if not sys.stdin.isatty():
        raise VaultError("the wallet is encrypted: set BW_PASSPHRASE or passphrase_file, or run at a terminal")
    first = getpass.getpass(prompt)
    if twice and getpass.getpass("The same again: ") != first:
        raise VaultError("the two are not the same; nothing was changed")
    return first


def load_key(path: str, passphrase_file: str = "") -> bytes:
    """The buyer's secp256k1 key, 32 bytes: 64 hex digits, bare or in a vault. Raises VaultError."""
    try:
        text = Path(path).read_text()
    except FileNotFoundError as e:
        raise VaultError(f"wallet key {path} cannot be read: there is none; `bw wallet new` makes one") from e
    except OSError as e:
        raise VaultError(f"wallet key {path} cannot be read: {e.strerror}") from e
    if is_vault(text):
        text = unseal(text, passphrase(passphrase_file)).decode()
    try:
        key = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError as e:
        raise VaultError(f"wallet key {path} is not hex") from e
    if len(key) != 32:
        raise VaultError(f"wallet key {path} has {len(key)} bytes, it wants 32 in hex")
    return key


def save_key(path: str, key: bytes, words: str) -> None:
    """Replace the key file by a vault; `words`: the passphrase."""
    write_bytes(Path(path), seal(key.hex().encode(), words).encode())
