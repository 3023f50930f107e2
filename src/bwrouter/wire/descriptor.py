"""Relay descriptors (protocol section 5): 286 bytes, signed by the relay and by a gateway."""

import hashlib
import struct

from ..platform import sodium
from . import sizes as S

_BODY = "<B32s32s32s4sH16sHHHI16sI"  # 149 bytes, then the relay's signature
_BODY_SIZE = struct.calcsize(_BODY)
EXIT = 1  # flags bit 0
ANCHORED = 2  # bit 1: the address is that of the relay's anchor (section 13)
_WORKERS = 4  # flags bits 4-7: workers less one


def flags(exit, workers):
    """The flags of a relay: whether it is an exit, and how many workers (1..16) listen from its port on."""
    return (EXIT if exit else 0) | (workers - 1) << _WORKERS


def worker(noise1, workers):
    """Which of a relay's workers a Noise message 1 belongs to: told by its ephemeral key, so no other takes a copy."""
    return noise1[0] % workers


class BadDescriptor(ValueError):
    """Raised as BadDescriptor(code, text): the protocol's error code, and what is wrong."""

    @property
    def code(self):
        return self.args[0]

    def __str__(self):
        return self.args[1]


def gateway_id(gateway_key):
    """8-byte id of a gateway's Ed25519 public key."""
    return hashlib.sha256(gateway_key).digest()[:8]


class Descriptor:
    """One relay as the directory shows it. Byte fields as in section 5; addresses are raw, zero for none."""

    def __init__(
        self, relay, static, obf, v4=b"\0" * 4, port4=0, v6=b"\0" * 16, port6=0, region=1, flags=0, rate=0,
        policy=b"\0" * 16, until=0,
    ):  # fmt: skip
        self.relay = relay
        self.static = static
        self.obf = obf
        self.v4 = v4
        self.port4 = port4
        self.v6 = v6
        self.port6 = port6
        self.region = region
        self.flags = flags
        self.rate = rate
        self.policy = policy
        self.until = until
        self.raw = b""

    @property
    def exit(self):
        return bool(self.flags & EXIT)

    @property
    def anchored(self):
        """Whether the address is an anchor's, which introduces who sends a CREATE there."""
        return bool(self.flags & ANCHORED)

    @property
    def workers(self):
        """How many workers the relay has; worker i listens on the descriptor's port + i."""
        return (self.flags >> _WORKERS & S.WORKERS_MAX - 1) + 1

    def pack(self):
        """The 149 bytes before the relay's signature."""
        return struct.pack(
            _BODY, S.VERSION, self.relay, self.static, self.obf, self.v4, self.port4, self.v6, self.port6,
            self.region, self.flags, self.rate, self.policy, self.until,
        )  # fmt: skip

    def sign(self, identity_secret):
        """The relay's part, 213 bytes. `identity_secret` is the 64-byte Ed25519 secret of `relay`."""
        body = self.pack()
        return body + sodium.ed25519_sign(identity_secret, body)


def endorse(relay_part, gateway_key, gateway_secret):
    """The gateway's part: 286 bytes from a relay's 213. The caller has checked the relay's part."""
    text = relay_part + b"\0" + gateway_id(gateway_key)
    return text + sodium.ed25519_sign(gateway_secret, text)


def parse(raw):
    """Descriptor from the first 149 bytes, nothing verified but version and length."""
    if len(raw) not in (S.DESCRIPTOR_RELAY_PART, S.DESCRIPTOR):
        raise BadDescriptor(S.E_MALFORMED, "descriptor of " + str(len(raw)) + " bytes")
    if raw[0] != S.VERSION:
        raise BadDescriptor(S.E_MALFORMED, "descriptor version " + str(raw[0]))
    fields = struct.unpack(_BODY, raw[:_BODY_SIZE])
    d = Descriptor(*fields[1:])
    d.raw = bytes(raw)
    return d


def verify_relay_part(raw):
    """Descriptor whose relay signature holds. Raises BadDescriptor."""
    d = parse(raw)
    if not sodium.ed25519_verify(d.relay, raw[:_BODY_SIZE], raw[_BODY_SIZE : _BODY_SIZE + 64]):
        raise BadDescriptor(S.E_SIGNATURE, "the relay's signature does not hold")
    return d


def verify(raw, gateway_keys, now):
    """Descriptor with both signatures valid and not expired. `gateway_keys`: trusted Ed25519 keys. Raises
    BadDescriptor.

    `now` 0 means that the clock is not set: expiry cannot be judged then and is not.
    """
    if len(raw) != S.DESCRIPTOR:
        raise BadDescriptor(S.E_MALFORMED, "descriptor of " + str(len(raw)) + " bytes")
    d = verify_relay_part(raw)
    gid = raw[S.DESCRIPTOR_RELAY_PART + 1 : S.DESCRIPTOR_RELAY_PART + 9]
    for key in gateway_keys:
        if gateway_id(key) == gid:
            if not sodium.ed25519_verify(key, raw[:-64], raw[-64:]):
                raise BadDescriptor(S.E_SIGNATURE, "the gateway's signature does not hold")
            if now and d.until < now:
                raise BadDescriptor(S.E_EXPIRED, "expired")
            return d
    raise BadDescriptor(S.E_SIGNATURE, "signed by no gateway that is trusted here")
