"""libsodium as OpenWrt builds it (`--enable-minimal`). `SYMBOLS` is the whole of what router code opens.

The names in capitals take addresses and allocate nothing; the functions below take and return bytes, for the cold
paths.
"""

from . import ffi

# Without it a process must still be able to say so: importing this is no fault yet.
try:
    LIB, _lack = ffi.load(("libsodium.so.26", "libsodium.so.23")), ""
except OSError as error:
    LIB, _lack = None, str(error) + ": install libsodium"

# name: (return, arguments)
SYMBOLS = {
    "sodium_init": ("i", ""),
    "crypto_stream_chacha20_ietf_xor": ("i", "PPQPP"),
    "crypto_stream_chacha20_ietf": ("i", "PQPP"),
    "crypto_shorthash": ("i", "PPQP"),
    "crypto_aead_chacha20poly1305_ietf_encrypt": ("i", "PPPQPQPPP"),
    "crypto_aead_chacha20poly1305_ietf_decrypt": ("i", "PPPPQPQPP"),
    "crypto_scalarmult_curve25519": ("i", "PPP"),
    "crypto_scalarmult_curve25519_base": ("i", "PP"),
    "crypto_sign_ed25519_seed_keypair": ("i", "PPP"),
    "crypto_sign_ed25519_detached": ("i", "PPPQP"),
    "crypto_sign_ed25519_verify_detached": ("i", "PPQP"),
    "crypto_generichash": ("i", "PLPQPL"),
    "crypto_auth_hmacsha256": ("i", "PPQP"),
    "crypto_pwhash": ("i", "PQPQPQLi"),
}


def ready(*arguments):
    """Raises OSError when libsodium is missing. Then it stands for every symbol, too."""
    if _lack:
        raise OSError(_lack)


def _bind(name):
    ret, args = SYMBOLS[name]
    return ready if _lack else ffi.func(LIB, ret, name, args)


if LIB and _bind("sodium_init")() < 0:
    raise OSError("libsodium could not initialise: no source of randomness")

STREAM_XOR = _bind("crypto_stream_chacha20_ietf_xor")  # out, in, len, nonce12, key32
STREAM = _bind("crypto_stream_chacha20_ietf")  # out, len, nonce12, key32
SHORTHASH = _bind("crypto_shorthash")  # out8, in, len, key16
ENCRYPT = _bind("crypto_aead_chacha20poly1305_ietf_encrypt")  # c, 0, m, mlen, ad, adlen, 0, nonce12, key32
DECRYPT = _bind("crypto_aead_chacha20poly1305_ietf_decrypt")  # m, 0, 0, c, clen, ad, adlen, nonce12, key32

_scalarmult = _bind("crypto_scalarmult_curve25519")
_scalarmult_base = _bind("crypto_scalarmult_curve25519_base")
_seed_keypair = _bind("crypto_sign_ed25519_seed_keypair")
_sign = _bind("crypto_sign_ed25519_detached")
_verify = _bind("crypto_sign_ed25519_verify_detached")
_generichash = _bind("crypto_generichash")
_hmac = _bind("crypto_auth_hmacsha256")
_pwhash = _bind("crypto_pwhash")
_ARGON2ID13 = 2


class CryptoError(Exception):
    """A tag, signature or point did not verify."""


def _want(name, value, size):
    if len(value) != size:
        raise ValueError(name + " must be " + str(size) + " bytes, got " + str(len(value)))


def x25519_public(secret):
    """Public key (32) of an X25519 secret (32)."""
    _want("X25519 secret", secret, 32)
    out = bytearray(32)
    _scalarmult_base(ffi.addr(out), secret)
    return bytes(out)


def x25519(secret, public):
    """Shared secret (32). Raises CryptoError for a point of small order."""
    _want("X25519 secret", secret, 32)
    _want("X25519 public key", public, 32)
    out = bytearray(32)
    if _scalarmult(ffi.addr(out), secret, public):
        raise CryptoError("X25519 point of small order")
    return bytes(out)


def aead_seal(key, nonce, ad, plaintext):
    """ChaCha20-Poly1305 (RFC 8439): ciphertext followed by its 16-byte tag."""
    _want("key", key, 32)
    _want("nonce", nonce, 12)
    out = bytearray(len(plaintext) + 16)
    ENCRYPT(ffi.addr(out), 0, bytes(plaintext), len(plaintext), bytes(ad), len(ad), 0, nonce, key)
    return bytes(out)


def aead_open(key, nonce, ad, ciphertext):
    """Plaintext of `aead_seal`. Raises CryptoError when the tag does not hold."""
    _want("key", key, 32)
    _want("nonce", nonce, 12)
    n = len(ciphertext) - 16
    if n < 0:
        raise CryptoError("ciphertext shorter than its tag")
    out = bytearray(n + 1)
    if DECRYPT(ffi.addr(out), 0, 0, bytes(ciphertext), n + 16, bytes(ad), len(ad), nonce, key):
        raise CryptoError("tag does not hold")
    return bytes(out[:n])


def stream_xor(key, nonce, text):
    """`text` XOR the ChaCha20 keystream from block 0."""
    out = bytearray(len(text) + 1)
    STREAM_XOR(ffi.addr(out), bytes(text), len(text), nonce, key)
    return bytes(out[: len(text)])


def shorthash(key, message):
    """SipHash-2-4, 8 bytes, key of 16."""
    _want("SipHash key", key, 16)
    out = bytearray(8)
    SHORTHASH(ffi.addr(out), bytes(message), len(message), key)
    return bytes(out)


def blake2b(message, key=b"", size=32):
    """BLAKE2b of `size` (16..64) bytes, keyed when `key` is not empty."""
    out = bytearray(size)
    _generichash(ffi.addr(out), size, bytes(message), len(message), key if key else 0, len(key))
    return bytes(out)


def hmac_sha256(key, message):
    """HMAC-SHA256 with a key of exactly 32 bytes."""
    _want("HMAC key", key, 32)
    out = bytearray(32)
    _hmac(ffi.addr(out), bytes(message), len(message), key)
    return bytes(out)


def argon2id(password, salt, passes, memory):
    """32 bytes of Argon2id (RFC 9106, one lane) over `memory` bytes. Raises MemoryError when there is not so much."""
    _want("Argon2 salt", salt, 16)
    out = bytearray(32)
    if _pwhash(ffi.addr(out), 32, password, len(password), salt, passes, memory, _ARGON2ID13):
        raise MemoryError("Argon2 found no %d KiB of memory" % (memory // 1024))
    return bytes(out)


def ed25519_keypair(seed):
    """(public 32, secret 64) of a 32-byte seed."""
    _want("Ed25519 seed", seed, 32)
    pk = bytearray(32)
    sk = bytearray(64)
    _seed_keypair(ffi.addr(pk), ffi.addr(sk), seed)
    return bytes(pk), bytes(sk)


def ed25519_sign(secret, message):
    """Detached signature (64)."""
    _want("Ed25519 secret", secret, 64)
    out = bytearray(64)
    _sign(ffi.addr(out), 0, bytes(message), len(message), secret)
    return bytes(out)


def ed25519_verify(public, message, signature):
    """Whether `signature` (64) by `public` (32) over `message` holds. Wrong lengths are False."""
    if len(public) != 32 or len(signature) != 64:
        return False
    return _verify(bytes(signature), bytes(message), len(message), bytes(public)) == 0
