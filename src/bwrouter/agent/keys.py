"""The router's secrets: four files of 32 bytes in hex, mode 0600, in `state_dir`. Made once, never overwritten."""

import binascii
import os

from ..ledger import secp256k1
from ..platform import files, sodium

NAMES = ("identity", "static", "obf", "wallet")


class KeyFileError(OSError):
    """A key file that is missing, unreadable or damaged; the text names it."""


class Keys:
    """All secrets and what is public of them. `static` is X25519, `obf` the obfuscation key of the relay's address."""

    def __init__(self, identity, static, obf, wallet):
        self.static = static
        self.static_public = sodium.x25519_public(static)
        self.obf = obf
        self.wallet = wallet
        self.address = secp256k1.address(secp256k1.public_key(wallet, os.urandom(40)))
        self.relay, self.identity = sodium.ed25519_keypair(identity)  # public 32, secret 64

    def public(self):
        """What may be shown, as text."""
        return {"relay": self.relay.hex(), "wallet": "0x" + self.address.hex(), "static": self.static_public.hex()}


def path(state_dir, name):
    return state_dir + "/" + name + ".key"


def make(state_dir):
    """Make every key file that is missing. Returns the names made. Raises OSError when they cannot be written."""
    files.make_dirs(state_dir, 0o700)
    made = []
    for name in NAMES:
        if files.read(path(state_dir, name)) is None:
            files.write_atomic(path(state_dir, name), _fresh(name).hex().encode() + b"\n")
            made.append(name)
    return made


def load(state_dir):
    """The Keys in `state_dir`. Raises KeyFileError."""
    return Keys(*[_read(path(state_dir, name)) for name in NAMES])


def secrets(state_dir):
    """{name: 32 bytes} of all keys. Raises KeyFileError."""
    return {name: _read(path(state_dir, name)) for name in NAMES}


def replace(state_dir, new, aside):
    """Put the keys `new` ({name: 32 bytes}) in place; those that differ are kept in the folder `aside`.

    Cut short, it is done again with the same keys and goes on where it stopped. Raises OSError.
    """
    files.make_dirs(state_dir, 0o700)
    for name in NAMES:
        file, text = path(state_dir, name), new[name].hex().encode() + b"\n"
        old = files.read(file)
        if old == text:
            continue
        if old is not None:
            files.make_dirs(aside, 0o700)
            files.write_atomic(path(aside, name), old)
        files.write_atomic(file, text)


def _fresh(name):
    while True:
        secret = os.urandom(32)
        if name != "wallet" or 0 < int.from_bytes(secret, "big") < secp256k1.N:
            return secret


def _read(file):
    text = files.read(file)
    if text is None:
        raise KeyFileError("key file " + file + " is missing; `bwrouter keys init` makes those that are missing")
    try:
        secret = binascii.unhexlify(text.strip())
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise KeyFileError("key file " + file + " is damaged: it must hold 64 hex digits; restore it from a backup")
    return secret
