"""Our Noise NK against PyPI's noiseprotocol, in both roles."""

import os

import pytest
from noise.connection import Keypair, NoiseConnection

from bwrouter.platform import sodium
from bwrouter.wire import noise

SECRET = os.urandom(32)
PUBLIC = sodium.x25519_public(SECRET)


def oracle(role):
    peer = NoiseConnection.from_name(b"Noise_NK_25519_ChaChaPoly_SHA256")
    peer.set_prologue(noise.PROLOGUE)
    if role == "initiator":
        peer.set_as_initiator()
        peer.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, PUBLIC)
    else:
        peer.set_as_responder()
        peer.set_keypair_from_private_bytes(Keypair.STATIC, SECRET)
    peer.start_handshake()
    return peer


@pytest.mark.parametrize("payload", [b"", b"x", os.urandom(60)])
def test_we_initiate(payload):
    peer, own = oracle("responder"), noise.Initiator(PUBLIC)
    assert peer.read_message(own.write(payload)) == payload
    assert own.read(bytes(peer.write_message(b"answer"))) == b"answer"
    # the oracle's transport decrypts what our forward key seals, and the other way round
    assert peer.decrypt(sodium.aead_seal(own.keys[0], bytes(12), b"", b"up")) == b"up"
    assert sodium.aead_open(own.keys[1], bytes(12), b"", bytes(peer.encrypt(b"down"))) == b"down"


@pytest.mark.parametrize("payload", [b"", b"x", os.urandom(60)])
def test_we_respond(payload):
    peer, own = oracle("initiator"), noise.Responder(SECRET, PUBLIC)
    assert own.read(bytes(peer.write_message(payload))) == payload
    assert peer.read_message(own.write(b"answer")) == b"answer"
    assert peer.decrypt(sodium.aead_seal(own.keys[1], bytes(12), b"", b"down")) == b"down"
    assert sodium.aead_open(own.keys[0], bytes(12), b"", bytes(peer.encrypt(b"up"))) == b"up"
