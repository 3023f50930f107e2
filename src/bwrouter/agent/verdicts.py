"""What verifiers found of this router, as a gateway tells it: each verdict signed by the gateway, so that the owner can
hold it against the chain, and the gateway to its word.
"""

from ..platform import http, sodium

PREFIX = b"bwrouter/1 verdict\n"
MOST = 20
SHOWN = ("epoch", "time", "reason", "kbps", "claimed_kbps", "latency_ms", "loss_bps")
_NULLABLE = ("latency_ms", "loss_bps")


class Malformed(ValueError):
    """An answer that is not what the API promises; the text says how."""


def checked(answer, relay, gateway):
    """The newest MOST verdicts of GET /v1/audits/{relay}, the oldest first, for status.json.

    `relay`: 32 bytes; `gateway`: its Ed25519 key, hex. Raises Malformed; one wrong signature spoils the answer.
    """
    found = answer.get("audits")
    if not isinstance(found, list):
        raise Malformed("no list of audits")
    out = []
    for verdict in found[:MOST]:
        out.insert(0, _verdict(verdict, relay, gateway))
    return out


def _verdict(verdict, relay, gateway):
    try:
        signature = bytes.fromhex(verdict["sig"])
        signed = {name: verdict[name] for name in verdict if name != "sig"}
        shown = {name: signed[name] for name in SHOWN}
        of = signed["relay"]
    except (KeyError, TypeError, ValueError):
        raise Malformed("a verdict without its fields")
    for name in SHOWN:
        value = shown[name]
        good = isinstance(value, str if name == "reason" else int) or (value is None and name in _NULLABLE)
        if not good:
            raise Malformed("a verdict whose %s is %r" % (name, value))
    if of != relay.hex():
        raise Malformed("a verdict on another router")
    text = PREFIX + http.canonical(signed).encode()
    if len(signature) != 64 or not sodium.ed25519_verify(bytes.fromhex(gateway), text, signature):
        raise Malformed("the verdict of epoch %s: its signature does not hold" % shown["epoch"])
    return shown
