"""The gateway's own secrets, each a file of mode 0600 in `state_dir`.

`gateway.key` Ed25519 seed (descriptors, receipts) - `mint.seed` 32 bytes that all mint keys derive from -
`operator.key` secp256k1 (posts roots, pays gas) - `treasury.key` secp256k1 (deploys, holds the first supply).
All are hex, one line.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from nacl.signing import SigningKey


class BadKey(Exception):
    """A key file is unreadable or malformed; the message names the file and the mend."""


@dataclass(frozen=True)
class Keys:
    """All secrets of a gateway, loaded."""

    gateway: SigningKey
    mint_seed: bytes
    operator: LocalAccount
    treasury: LocalAccount

    @property
    def public(self) -> bytes:
        """Ed25519 public key, 32 bytes."""
        return bytes(self.gateway.verify_key)

    @property
    def gateway_id(self) -> bytes:
        """First 8 bytes of H(public key), as descriptors carry it."""
        return sha256(self.public).digest()[:8]


def load_or_create(state_dir: Path) -> Keys:
    """Read the four key files, making those that are missing."""
    state_dir.mkdir(parents=True, exist_ok=True)
    return Keys(
        SigningKey(_secret(state_dir / "gateway.key")),
        _secret(state_dir / "mint.seed"),
        Account.from_key(_secret(state_dir / "operator.key")),
        Account.from_key(_secret(state_dir / "treasury.key")),
    )


def _secret(path: Path) -> bytes:
    if not path.exists():
        _create(path)
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as e:
        raise BadKey(f"{path}: {e}; restore it from a backup") from e
    if len(secret) != 32:
        raise BadKey(f"{path}: holds {len(secret)} bytes, needs 32; restore it from a backup")
    return secret


def _create(path: Path) -> None:
    """Write a new secret so that a crash leaves either no file or a whole one, and two processes agree on one."""
    tmp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, secrets.token_hex(32).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.link(tmp, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(tmp)
    fd = os.open(path.parent, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
