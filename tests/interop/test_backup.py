"""A backup of the keys opened by PyNaCl, which is another binding to another libsodium."""

import json

import nacl.bindings as b
from nacl.pwhash import argon2id

from bwrouter.agent import backup, keys

PHRASE = "correct horse battery staple"
SECRETS = {name: bytes([i + 1]) * 32 for i, name in enumerate(keys.NAMES)}


def test_pynacl_opens_it() -> None:
    head = json.loads(backup.seal(SECRETS, PHRASE))
    sealed = bytes.fromhex(head.pop("sealed"))
    key = argon2id.kdf(32, PHRASE.encode(), bytes.fromhex(head["salt"]), head["ops"], 1024 * head["mem_kib"])
    ad = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    plain = b.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, ad, bytes.fromhex(head["nonce"]), key)
    assert json.loads(plain) == {name: secret.hex() for name, secret in SECRETS.items()}
