"""The descriptor's bytes (docs/protocol.md section 5): parsed, checked and signed by the gateway."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from bwgateway.keys import Keys
from bwrouter.wire.descriptor import ANCHORED

VERSION = 1
BODY = struct.Struct("<B32s32s32s4sH16sHHHI16sI")
RELAY_SIZE = BODY.size + 64
SIZE = RELAY_SIZE + 1 + 8 + 64
assert (RELAY_SIZE, SIZE) == (213, 286)

# Not `is_global`: the lab's internet is 198.18.0.0/15 and 2001:2::/48, which relays also take for public.
_REFUSED_V4 = [
    ip_network(n)
    for n in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
_REFUSED_V6 = [ip_network(n) for n in ("::/127", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8")]


class BadDescriptor(ValueError):
    """A descriptor that the gateway won't sign; the message names the field."""


@dataclass(frozen=True)
class Descriptor:
    """The fields that the gateway judges. `rate` is kbit/s, `valid_until` unix seconds."""

    relay: bytes
    v4: IPv4Address
    port4: int
    v6: IPv6Address
    port6: int
    region: int
    flags: int
    rate: int
    valid_until: int


def parse(raw: bytes) -> Descriptor:
    """Parse and check the 213 bytes that a relay signed. Raises BadDescriptor."""
    if len(raw) != RELAY_SIZE:
        raise BadDescriptor(f"size is {len(raw)}, must be {RELAY_SIZE}")
    version, relay, _, _, v4, port4, v6, port6, region, flags, rate, _, valid_until = BODY.unpack_from(raw)
    if version != VERSION:
        raise BadDescriptor(f"version is {version}, must be {VERSION}")
    try:
        VerifyKey(relay).verify(raw[: BODY.size], raw[BODY.size :])
    except (BadSignatureError, ValueError) as e:
        raise BadDescriptor("the relay's signature does not hold") from e
    descriptor = Descriptor(relay, IPv4Address(v4), port4, IPv6Address(v6), port6, region, flags, rate, valid_until)
    _check_addresses(descriptor)
    return descriptor


def _check_addresses(d: Descriptor) -> None:
    if d.flags & ANCHORED and (not d.port4 or d.port6 or d.flags >> 4):
        raise BadDescriptor("is of an anchored relay: it has the anchor's IPv4 address, no other, and one worker")
    if not d.port4 and not d.port6:
        raise BadDescriptor("names no address: set IPv4 and port or IPv6 and port")
    if d.port4 and any(d.v4 in n for n in _REFUSED_V4):
        raise BadDescriptor(f"IPv4 address {d.v4} is not public")
    if d.port6 and any(d.v6 in n for n in _REFUSED_V6):
        raise BadDescriptor(f"IPv6 address {d.v6} is not public")


def countersign(raw: bytes, keys: Keys) -> bytes:
    """The 286-byte descriptor: the relay's part, a reserved byte, the gateway's id and signature."""
    body = raw + b"\0" + keys.gateway_id
    return body + keys.gateway.sign(body).signature
