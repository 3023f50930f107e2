"""Backups of the keys: what is sealed comes back, and nothing else does."""

import json

from harness import raises

from bwrouter.agent import backup, keys
from bwrouter.platform import files, sodium

BASE = __file__[: __file__.rfind("/tests/")] + "/build/tmp/unit-backup"
PHRASE = "correct horse battery staple"
SECRETS = {name: bytes([i + 1]) * 32 for i, name in enumerate(keys.NAMES)}


def test_there_and_back():
    text = backup.seal(SECRETS, PHRASE)
    assert backup.unseal(text, PHRASE) == SECRETS
    assert backup.seal(SECRETS, PHRASE) != text
    for name in SECRETS:
        assert SECRETS[name].hex() not in text


def test_argon2id():
    # RFC 9106 has no vector without secret and associated data; this one is libsodium's own (test/default/pwhash_argon2id)
    # in form: same input, same output, on both runtimes; tests/interop compares with another binding.
    one = sodium.argon2id(b"password", bytes(range(16)), 1, 8192)
    assert len(one) == 32 and one == sodium.argon2id(b"password", bytes(range(16)), 1, 8192)
    assert one != sodium.argon2id(b"password", bytes(range(16)), 2, 8192)
    raises(ValueError, sodium.argon2id, b"password", b"short", 1, 8192)


def test_what_is_wrong_is_said():
    text = backup.seal(SECRETS, PHRASE)
    assert "too short" in str(raises(backup.BackupError, backup.seal, SECRETS, "short"))
    assert "passphrase is wrong" in str(raises(backup.BackupError, backup.unseal, text, PHRASE + "x"))
    for bad in ("", "{}", "[]", "null", "no json", '{"bwrouter":"keys","version":2}'):
        assert "no backup" in str(raises(backup.BackupError, backup.unseal, bad, PHRASE)), bad
    for name in ("salt", "nonce", "sealed", "ops", "mem_kib", "version"):
        values = json.loads(text)
        old = values[name]
        for new in (old + 1, 0, -1, 1 << 40, "7", None) if isinstance(old, int) else ("", "zz", old[2:], old[:-1] + "g", 7):
            values[name] = new
            raises(backup.BackupError, backup.unseal, json.dumps(values), PHRASE)
        if isinstance(old, str):
            values[name] = ("0" if old[0] != "0" else "1") + old[1:]
            raises(backup.BackupError, backup.unseal, json.dumps(values), PHRASE)


def test_keys_are_replaced_and_put_aside():
    state, aside = BASE + "/state", BASE + "/aside"
    for name in keys.NAMES:
        files.remove(keys.path(state, name))
        files.remove(keys.path(aside, name))
    keys.make(state)
    before = keys.secrets(state)
    keys.replace(state, SECRETS, aside)
    assert keys.secrets(state) == SECRETS and keys.secrets(aside) == before
    # Cut short and done again: the keys put aside are not written over by those already in place.
    keys.replace(state, SECRETS, aside)
    assert keys.secrets(aside) == before
