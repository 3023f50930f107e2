"""CREATE, CREATED and COOKIE packets (protocol section 3), as whole masked datagrams and back."""

import hashlib
import os
import struct

from ..platform import sodium
from . import sizes as S


class Malformed(ValueError):
    """The packet is not what it should be; the text is the drop's reason."""


def create_mac_key(obf_key):
    """The 16-byte key under which CREATE headers to the owner of `obf_key` are authenticated."""
    return hashlib.sha256(b"bwrouter/1 create" + obf_key).digest()[:16]


def backward_mac_key(link_key):
    """Link MAC key towards the client (protocol section 2)."""
    return bytes([link_key[0] ^ 1]) + link_key[1:]


def padding(most):
    """Random bytes of a random length from 0 to min(most, 255)."""
    r = os.urandom(1)[0]
    return os.urandom(r % (min(most, S.PAD_MAX) + 1)) if most > 0 else b""


def _packet(cid, counter, mac_key, body, obf_key, pad):
    head = cid + counter
    head += sodium.shorthash(mac_key, head)
    plain = head + body + pad
    tail = os.urandom(S.TAIL)
    return sodium.stream_xor(obf_key, tail[-S.NONCE :], plain) + tail


def unmask_body(packet, obf_key):
    """Body of a handshake packet of which only the header has been unmasked, without the tail."""
    if len(packet) < S.HEADER + S.TAIL:
        raise Malformed("short")
    # The keystream runs on from the header: unmask from byte 0 and drop what was already clear.
    text = sodium.stream_xor(obf_key, packet[-S.NONCE :], packet[: -S.TAIL])
    return text[S.HEADER :]


def create(obf_key, reply_cid, noise1, cookie=None, pad=None):
    """A CREATE datagram to the relay that owns `obf_key`; answers come back under `reply_cid` (8)."""
    body = bytes([S.CREATE]) + (cookie or b"\0" * S.COOKIE_SIZE) + struct.pack("<H", len(noise1)) + noise1
    return _packet(b"\0" * 8, reply_cid, create_mac_key(obf_key), body, obf_key, padding(255) if pad is None else pad)


def parse_create(body):
    """(cookie 16, Noise message 1). Raises Malformed."""
    if len(body) < 19 + S.NOISE1 or body[0] != S.CREATE:
        raise Malformed("create")
    n = struct.unpack_from("<H", body, 17)[0]
    if n != S.NOISE1:
        raise Malformed("create")
    return body[1:17], body[19 : 19 + n]


def created(reply_obf_key, initiator_cid, own_cid, link_key, noise2, most):
    """A CREATED datagram of at most `most` bytes (the CREATE's size: no amplification)."""
    body = bytes([S.CREATED]) + struct.pack("<H", len(noise2)) + noise2
    pad = padding(most - S.CREATED_MIN)
    return _packet(initiator_cid, own_cid, backward_mac_key(link_key), body, reply_obf_key, pad)


def refused(reply_obf_key, initiator_cid, link_key, code, most):
    """A REFUSED datagram of at most `most` bytes: there is no circuit, for the reason `code` (S.E_...)."""
    mac_key = backward_mac_key(link_key)
    pad = padding(most - S.REFUSED_MIN)
    return _packet(initiator_cid, b"\0" * 8, mac_key, bytes([S.REFUSED, code]), reply_obf_key, pad)


def cookie(own_obf_key, initiator_cid, value, most):
    """A COOKIE datagram: repeat the CREATE with this cookie (16).

    It is masked under the busy relay's own key: the initiator's is inside the Noise message, which was not opened.
    """
    mac_key = create_mac_key(own_obf_key)
    return _packet(
        initiator_cid, b"\0" * 8, mac_key, bytes([S.COOKIE]) + value, own_obf_key, padding(most - S.COOKIE_MIN)
    )


def open_cookie(packet, obf_key):
    """The cookie in a packet whose header is unmasked under the answering relay's `obf_key`, or None."""
    if sodium.shorthash(create_mac_key(obf_key), packet[:16]) != packet[16:24]:
        return None
    try:
        kind, value = parse_reply(unmask_body(packet, obf_key))
    except Malformed:
        return None
    return value if kind == "cookie" else None


def parse_reply(body):
    """("created", Noise message 2), ("refused", code) or ("cookie", value). Raises Malformed."""
    if body and body[0] == S.CREATED and len(body) >= 3 + S.NOISE2:
        if struct.unpack_from("<H", body, 1)[0] == S.NOISE2:
            return "created", body[3 : 3 + S.NOISE2]
    if body and body[0] == S.REFUSED and len(body) >= 2:
        return "refused", body[1]
    if body and body[0] == S.COOKIE and len(body) >= 1 + S.COOKIE_SIZE:
        return "cookie", body[1 : 1 + S.COOKIE_SIZE]
    raise Malformed("created")


_PAYLOAD1 = "<BBHI16s32sI"
_PAYLOAD2 = "<HHIB15s"


def payload1(origin, link_key, reply_obf_key, now, flags=0):
    """Payload of Noise message 1: origin label 0..7, link key 16, reply obfuscation key 32, unix seconds."""
    return struct.pack(_PAYLOAD1, S.VERSION, origin, flags, now & 0xFFFFFFFF, link_key, reply_obf_key, 0)


def parse_payload1(payload):
    """(origin, flags, time, link key, reply obfuscation key). Raises Malformed for another version or origin."""
    if len(payload) != S.PAYLOAD1:
        raise Malformed("create")
    version, origin, flags, when, link_key, reply_obf, reserved = struct.unpack(_PAYLOAD1, payload)
    if version != S.VERSION or not 1 <= origin <= 7:
        raise Malformed("version")
    return origin, flags, when, link_key, reply_obf


def payload2(now, flags=0, grace=S.GRACE_UNITS):
    """Payload of Noise message 2."""
    return struct.pack(_PAYLOAD2, flags, grace, now & 0xFFFFFFFF, S.VERSION, b"\0" * 15)


def parse_payload2(payload):
    """(flags, grace units, time, version). Raises Malformed."""
    if len(payload) != S.PAYLOAD2:
        raise Malformed("created")
    return struct.unpack(_PAYLOAD2, payload)[:4]
