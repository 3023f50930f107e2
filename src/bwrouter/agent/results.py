"""A gateway's results on tickets, checked before they count: their form, that they answer what was asked, and receipts.

A receipt is the gateway's signed promise that a reading will be in a root; a redeem without a right one is no redeem.
"""

from hashlib import sha256

from ..platform import sodium
from ..wire import address, descriptor

OFFERS_MOST = 8
SIZE = 146  # docs/architecture.md
PREFIX = b"bwrouter/1 receipt\n"


class Malformed(ValueError):
    """An answer that is not what the API promises; the text says how."""


def units(receipt):
    """The relay's units in all that a receipt (hex) names; 0 for none."""
    return int.from_bytes(bytes.fromhex(receipt[132:148]), "little") if receipt else 0


def opened(answer, body, relay, gateway):
    """The results of POST /v1/open that answer `body`. Raises Malformed."""
    asked = {}
    for ticket in body["tickets"]:
        asked[sha256(bytes.fromhex(ticket["anchor"])).digest().hex()] = ticket
    return [result for result in _list(answer) if result["id"] in asked]


def redeemed(answer, body, relay, gateway):
    """The results of POST /v1/redeem that answer `body`, without those whose receipt does not hold. Raises Malformed.

    `relay`: 32 bytes; `gateway`: its Ed25519 key, hex.
    """
    asked = {}
    for item in body["items"]:
        asked[item["id"]] = item["index"]
    good = []
    for result in _list(answer):
        id = result["id"]
        if id not in asked:
            continue
        if result["ok"]:
            index = result.get("index")
            if not isinstance(index, int) or index < asked[id]:
                raise Malformed("ticket %s: redeemed up to %s, %d asked" % (id[:16], index, asked[id]))
            _check_receipt(result.get("receipt"), relay, id, index, gateway)
        good.append(result)
    return good


def anchors(answer, relay, gateway, now):
    """The relays of GET /v1/anchors that may be ours, descriptors in hex, OFFERS_MOST at most. Raises Malformed when
    none can be read."""
    found = answer.get("descriptors")
    if not isinstance(found, list):
        raise Malformed("no list of descriptors")
    good, wrong, read = [], "", 0
    for raw in found[:OFFERS_MOST]:
        try:
            d = descriptor.verify(bytes.fromhex(raw), [bytes.fromhex(gateway)], now)
        except (descriptor.BadDescriptor, ValueError, TypeError) as error:
            wrong = str(error)  # one that expires on its way is no reason to refuse the others
            continue
        read += 1
        if d.port4 and not d.anchored and d.relay != relay and not address.refused(d.v4):
            good.append(raw)
    if wrong and not read:
        raise Malformed(wrong)
    return good


def _list(answer):
    found = answer.get("results")
    if not isinstance(found, list):
        raise Malformed("no list of results")
    for result in found:
        good = isinstance(result, dict) and isinstance(result.get("id"), str) and isinstance(result.get("ok"), bool)
        if not good:
            raise Malformed("a result without id and ok")
    return found


def _check_receipt(receipt, relay, id, index, gateway):
    try:
        raw = bytes.fromhex(receipt)
    except (TypeError, ValueError):
        raw = b""
    if len(raw) != SIZE:
        raise Malformed("ticket %s: no receipt" % id[:16])
    body, signature = raw[:-64], raw[-64:]
    right = raw[:32] == relay and raw[32:64].hex() == id and int.from_bytes(raw[64:66], "little") == index
    if not right or not sodium.ed25519_verify(bytes.fromhex(gateway), PREFIX + body, signature):
        raise Malformed("ticket %s: its receipt does not hold" % id[:16])
