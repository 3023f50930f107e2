"""Requests that a gateway believes: Ed25519 by the relay's identity over path and body (docs/architecture.md)."""

import os

from ..platform import http, sodium


def request(path, body, keys, now):
    """JSON text of `body` with `relay`, `time`, `nonce` and `sig` added. `now`: unix seconds of the gateway's clock."""
    body = dict(body)
    body["relay"] = keys.relay.hex()
    body["time"] = now
    body["nonce"] = os.urandom(16).hex()
    text = "bwrouter/1 " + path + "\n" + http.canonical(body)
    body["sig"] = sodium.ed25519_sign(keys.identity, text.encode()).hex()
    return http.canonical(body)
