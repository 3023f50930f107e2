"""The worked example of docs/protocol.md, computed from fixed secrets; run as a program it prints it."""

from binascii import hexlify

from bwrouter.platform import arena, ffi, sodium
from bwrouter.wire import cell, descriptor, handshake, noise, ticket
from bwrouter.wire import sizes as S

STATIC = bytes(range(0x20, 0x40))
CLIENT_EPHEMERAL = bytes(range(0x40, 0x60))
RELAY_EPHEMERAL = bytes(range(0x60, 0x80))
LINK_KEY = bytes(range(0x80, 0x90))
REPLY_OBF = bytes(range(0xA0, 0xC0))
OBF = bytes(range(0xC0, 0xE0))
WHEN = 1800000000
RELAY_CID = bytes(range(1, 9))


def sealed_cell(direction, key, mac_key, obf, count, origin, command, payload):
    a = arena.take(4096)
    d = ffi.le32(a, 6)
    ffi.poke(a + 2048, key + mac_key + obf)
    ffi.poke(a + 24, payload + bytes([command]))
    n = 24 + len(payload) + 1
    cell.set_counter(d, ffi.le16(a, 12), count, origin)
    cell.seal_layer(a, n, d, a + 2048, direction)
    n += 16
    w = cell.cid_words(RELAY_CID)
    if direction == cell.FORWARD:
        cell.dress_forward(a, n, d, w[0], w[1], a + 2048 + 48)
    else:
        cell.dress_backward(a, n, d, w[0], w[1], a + 2048 + 32, a + 2048 + 48)
    return ffi.peek(a, n)


def lines():
    """(name, bytes) of every step, in the order of the document."""
    static_public = sodium.x25519_public(STATIC)
    client = noise.Initiator(static_public, ephemeral=CLIENT_EPHEMERAL)
    relay = noise.Responder(STATIC, static_public, ephemeral=RELAY_EPHEMERAL)
    payload1 = handshake.payload1(5, LINK_KEY, REPLY_OBF, WHEN)
    one = client.write(payload1)
    relay.read(one)
    two = relay.write(handshake.payload2(WHEN))
    client.read(two)
    relay_id, relay_secret = sodium.ed25519_keypair(b"\x01" * 32)
    gate, gate_secret = sodium.ed25519_keypair(b"\x02" * 32)
    d = descriptor.Descriptor(
        relay_id, static_public, OBF, b"\xc6\x12\x00\x0b", 51900, region=1, rate=40000, until=WHEN + 3600
    )
    chain = ticket.Chain(b"\x03" * 32, 64)
    return (
        ("relay static secret", STATIC),
        ("relay static public", static_public),
        ("relay obfuscation key", OBF),
        ("client ephemeral secret", CLIENT_EPHEMERAL),
        ("relay ephemeral secret", RELAY_EPHEMERAL),
        ("payload 1", payload1),
        ("noise message 1", one),
        ("noise message 2", two),
        ("forward key", client.keys[0]),
        ("backward key", client.keys[1]),
        ("create mac key", handshake.create_mac_key(OBF)),
        ("PING packet, counter 7", sealed_cell(0, client.keys[0], LINK_KEY, OBF, 7, 0, S.PING, b"12345678")),
        (
            "PONG packet, origin 5, counter 0",
            sealed_cell(
                1, client.keys[1], handshake.backward_mac_key(LINK_KEY), REPLY_OBF, 0, 5, S.PONG, b"12345678"
            ),
        ),
        ("descriptor", descriptor.endorse(d.sign(relay_secret), gate, gate_secret)),
        ("chain anchor w0 of top 03..03, 64 units", chain.anchor),
        ("PAY payload, serial 0, index 5", ticket.pack_pay(0, 5, chain.word(5))),
    )


def text():
    """The block as it stands in the document: 64 hex digits a line, names before."""
    out = []
    for name, value in lines():
        out.append(name)
        digits = hexlify(value).decode()
        for i in range(0, len(digits), 96):
            out.append("  " + digits[i : i + 96])
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    print(text(), end="")
