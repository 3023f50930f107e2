"""Noise_NK_25519_ChaChaPoly_SHA256 (Noise revision 34): the initiator knows the responder's static key.

NK:  <- s  ...  -> e, es  <- e, ee
Forward secrecy comes from `ee`; message 1 alone can be replayed, so it carries nothing that a replay could spend.
"""

import hashlib
import os

from ..platform import sodium
from ..platform.sodium import CryptoError

NAME = b"Noise_NK_25519_ChaChaPoly_SHA256"  # exactly 32 bytes, so h = NAME without hashing
PROLOGUE = b"bwrouter/1"


def _sha256(a, b):
    h = hashlib.sha256(a)
    h.update(b)
    return h.digest()


def _hkdf(ck, ikm):
    """Two outputs of HKDF as Noise section 4.3 defines it."""
    temp = sodium.hmac_sha256(ck, ikm)
    one = sodium.hmac_sha256(temp, b"\x01")
    return one, sodium.hmac_sha256(temp, one + b"\x02")


_ZERO = b"\0" * 12  # each cipher key of NK seals exactly one message, always with n = 0


class _Symmetric:
    def __init__(self, responder_static, prologue):
        self.ck = NAME
        self.h = _sha256(NAME, prologue)
        self.h = _sha256(self.h, responder_static)
        self.k = None

    def mix_hash(self, data):
        self.h = _sha256(self.h, data)

    def mix_key(self, ikm):
        self.ck, self.k = _hkdf(self.ck, ikm)

    def seal(self, plaintext):
        c = sodium.aead_seal(self.k, _ZERO, self.h, plaintext)
        self.mix_hash(c)
        return c

    def open(self, ciphertext):
        p = sodium.aead_open(self.k, _ZERO, self.h, ciphertext)
        self.mix_hash(ciphertext)
        return p

    def split(self):
        """(initiator to responder key, responder to initiator key)."""
        return _hkdf(self.ck, b"")


class Initiator:
    """The client's side. `write` makes message 1, `read` takes message 2; then `keys` is (forward, backward)."""

    def __init__(self, responder_static, prologue=PROLOGUE, ephemeral=None):
        self._s = _Symmetric(responder_static, prologue)
        self._rs = responder_static
        self._e = ephemeral or os.urandom(32)
        self.keys = None

    def write(self, payload):
        """Message 1: 32 + len(payload) + 16 bytes. Raises CryptoError when the static key is of small order."""
        public = sodium.x25519_public(self._e)
        self._s.mix_hash(public)
        self._s.mix_key(sodium.x25519(self._e, self._rs))
        return public + self._s.seal(payload)

    def read(self, message):
        """Payload of message 2. Raises CryptoError; the state is then useless."""
        if len(message) < 48:
            raise CryptoError("Noise message 2 is too short")
        self._s.mix_hash(message[:32])
        self._s.mix_key(sodium.x25519(self._e, message[:32]))
        payload = self._s.open(message[32:])
        self.keys = self._s.split()
        self._e = None
        return payload


class Responder:
    """The relay's side. `read` takes message 1, `write` makes message 2; then `keys` is (forward, backward)."""

    def __init__(self, static_secret, static_public, prologue=PROLOGUE, ephemeral=None):
        self._s = _Symmetric(static_public, prologue)
        self._secret = static_secret
        self._e = ephemeral
        self._re = None
        self.keys = None

    def read(self, message):
        """Payload of message 1. Raises CryptoError."""
        if len(message) < 48:
            raise CryptoError("Noise message 1 is too short")
        self._re = message[:32]
        self._s.mix_hash(self._re)
        self._s.mix_key(sodium.x25519(self._secret, self._re))
        return self._s.open(message[32:])

    def write(self, payload):
        """Message 2: 32 + len(payload) + 16 bytes."""
        e = self._e or os.urandom(32)
        public = sodium.x25519_public(e)
        self._s.mix_hash(public)
        self._s.mix_key(sodium.x25519(e, self._re))
        message = public + self._s.seal(payload)
        self.keys = self._s.split()
        return message
