"""The payloads of PROVE: the document's worked example is what the code computes."""

from binascii import hexlify

from bwrouter.platform import sodium
from bwrouter.wire import proof
from bwrouter.wire import sizes as S

SEED = bytes(range(32))


def document():
    path = __file__.rpartition("tests/")[0] + "docs/protocol.md"
    with open(path) as f:
        return f.read()


def shown(name, value):
    digits = hexlify(value).decode()
    return name + "\n" + "\n".join(["  " + digits[i : i + 96] for i in range(0, len(digits), 96)]) + "\n"


def test_the_worked_example():
    public, secret = sodium.ed25519_keypair(b"\x06" * 32)
    name = proof.proof_id(SEED)
    statement = proof.pack_statement(100, name, 7, 9, 0, 0, 8, 1000, 1800000000)
    close = statement + proof.sign(secret, statement)
    chunk = bytes([S.PROVE_CHUNK, 0, 0, 0, 1, 0, 0, 0]) + proof.keystream(SEED, 1)[:40]
    t = document()
    assert shown("START", proof.pack_start(100, SEED)) in t
    assert shown("BEGUN", proof.pack_begun(0, 1000, name)) in t
    assert shown("CHUNK 1, first 48 bytes", chunk) in t
    assert shown("CLOSE", close) in t
    assert proof.verify(public, close) == (100, name, 7, 9, 0, 0, 8, 1000, 1800000000)


def test_sizes_of_the_document():
    t = document()
    assert len(proof.pack_start(100, SEED)) == S.PROVE_START_SIZE == 36
    assert len(proof.pack_begun(0, 1, bytes(16))) == S.PROVE_ANSWER_SIZE == 24
    assert S.PROVE_CLOSE_SIZE == 108 and "CLOSE (backward, 108 bytes)" in t
    assert S.PROVE_BYTES == 1360 and S.PROVE_PAYLOAD == 1368 and "A CHUNK's payload has 1368 bytes" in t
    assert "%d..%d" % (S.PROVE_LEAST_MS, S.PROVE_MOST_MS) in t
