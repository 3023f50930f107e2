"""Signatures of releases, in the format of OpenBSD's signify and OpenWrt's usign (Ed25519).

    usign.py keygen PUBLIC SECRET      the secret key is not encrypted: keep the file where you keep the others
    usign.py sign SECRET FILE          writes FILE.sig
    usign.py verify PUBLIC FILE        exit code 1 and one line when FILE.sig is not PUBLIC's over FILE
A file is a line `untrusted comment: ...` and a line of Base64. Layouts (signify(1)): public `Ed` number 8 key 32;
secret `Ed` `BK` rounds 4 (0: not encrypted) salt 16 checksum 8 number 8 key 64; signature `Ed` number 8 signature 64.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import os
import sys
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

COMMENT = "untrusted comment: "
PUBLIC, SECRET, SIGNATURE = 42, 104, 74


class Bad(Exception):
    """A key or a signature does not hold; the text names the file and why."""


def read(path: Path, size: int) -> bytes:
    """The bytes of a key or signature file. Raises Bad."""
    try:
        lines = path.read_text("ascii").splitlines()
        raw = base64.b64decode(lines[1], validate=True)
    except (OSError, UnicodeDecodeError, IndexError, binascii.Error) as e:
        raise Bad(f"{path}: no such key or signature: {e}") from e
    if not lines[0].startswith(COMMENT) or len(raw) != size or raw[:2] != b"Ed":
        raise Bad(f"{path}: this is not an Ed25519 file of signify")
    return raw


def write(path: Path, comment: str, raw: bytes, mode: int = 0o644) -> None:
    """A new file, never over an old one when it is secret."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if mode == 0o600 else os.O_TRUNC)
    with os.fdopen(os.open(path, flags, mode), "w") as out:
        out.write(f"{COMMENT}{comment}\n{base64.b64encode(raw).decode()}\n")


def keygen(public: Path, secret: Path) -> None:
    key, number = SigningKey.generate(), os.urandom(8)
    both = bytes(key) + bytes(key.verify_key)
    checksum = hashlib.sha512(both).digest()[:8]
    write(secret, "bwrouter secret key", b"EdBK" + bytes(4) + bytes(16) + checksum + number + both, 0o600)
    write(public, "bwrouter public key", b"Ed" + number + bytes(key.verify_key))


def sign(secret: Path, file: Path) -> Path:
    """The signature's file. Raises Bad."""
    raw = read(secret, SECRET)
    if raw[2:4] != b"BK" or raw[4:8] != bytes(4):
        raise Bad(f"{secret}: the key is encrypted: sign with signify, or use a key of `usign.py keygen`")
    number, both = raw[32:40], raw[40:]
    if hashlib.sha512(both).digest()[:8] != raw[24:32]:
        raise Bad(f"{secret}: the key is damaged")
    target = file.with_name(file.name + ".sig")
    signature = SigningKey(both[:32]).sign(file.read_bytes()).signature
    write(target, "verify with bwrouter public key", b"Ed" + number + signature)
    return target


def verify(public: Path, file: Path) -> None:
    """Raises Bad."""
    key, raw = read(public, PUBLIC), read(file.with_name(file.name + ".sig"), SIGNATURE)
    if key[2:10] != raw[2:10]:
        raise Bad(f"{file}: signed with another key, {raw[2:10].hex()}")
    try:
        VerifyKey(key[10:]).verify(file.read_bytes(), raw[10:])
    except BadSignatureError:
        raise Bad(f"{file}: the signature does not hold") from None


def main() -> int:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("what", choices=("keygen", "sign", "verify"))
    cli.add_argument("first", type=Path)
    cli.add_argument("second", type=Path)
    args = cli.parse_args()
    try:
        {"keygen": keygen, "sign": sign, "verify": verify}[args.what](args.first, args.second)
    except (Bad, OSError) as e:
        print(f"usign: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
