"""The payloads of ANCHOR and INTRODUCE (protocol section 13)."""

import struct

from ..platform import consts, sodium
from . import sizes as S

DOMAIN = b"bwrouter/1 anchor"


class Malformed(ValueError):
    """The payload is not what it should be; the text is the drop's reason."""


def pack(relay, identity, obf, static, link_key, now):
    """ANCHOR, 132 bytes: relay `relay` (32), whose Ed25519 secret is `identity`, asks the holder of the static key
    `static` (32) to introduce who sends a CREATE under `obf` (32). Good on the circuit with this link key (16) only."""
    body = relay + obf + struct.pack("<I", now & 0xFFFFFFFF)
    return body + sodium.ed25519_sign(identity, DOMAIN + static + link_key + body)


def verify(payload, static, link_key, now):
    """(relay, obfuscation key, descriptor of 286 bytes or empty) of an ANCHOR whose signature holds for our static key
    and this circuit's link key. `now` 0: our clock is not set. Raises Malformed."""
    body = payload[: S.ANCHOR_SIGNED]
    if len(payload) < S.ANCHOR_SIZE:
        raise Malformed("size")
    when = struct.unpack_from("<I", body, 64)[0]
    if now and abs(now - when) > S.CLOCK_SKEW:
        raise Malformed("time")
    text = DOMAIN + static + link_key + body
    if not sodium.ed25519_verify(body[:32], text, payload[S.ANCHOR_SIGNED : S.ANCHOR_SIZE]):
        raise Malformed("signature")
    return body[:32], body[32:64], payload[S.ANCHOR_SIZE : S.ANCHOR_SIZE + S.DESCRIPTOR]


def place(sockaddr):
    """18 bytes of a sockaddr_in6: address, port (both as IP has them)."""
    return bytes(sockaddr[8:24]) + bytes(sockaddr[2:4])


def sockaddr(place):
    """The sockaddr_in6 of `place`'s 18 bytes."""
    return struct.pack("H", consts.AF_INET6) + place[16:18] + b"\0\0\0\0" + place[:16] + b"\0\0\0\0"


def introduction(sockaddr, packet):
    """INTRODUCE: the datagram `packet` came from `sockaddr`."""
    return place(sockaddr) + packet


def parse_introduction(payload):
    """(sockaddr, datagram) of an INTRODUCE. Raises Malformed."""
    packet = payload[S.PLACE :]
    if not S.CREATE_MIN <= len(packet) <= S.CREATE_MAX:
        raise Malformed("size")
    return sockaddr(payload[: S.PLACE]), packet
