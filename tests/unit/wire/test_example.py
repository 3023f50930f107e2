"""The worked example of docs/protocol.md is what the code computes, and a second reading of it holds."""

import wire_example as example

from bwrouter.platform import sodium


def document():
    path = __file__.rpartition("tests/")[0] + "docs/protocol.md"
    with open(path) as f:
        return f.read()


def test_document_shows_what_the_code_computes():
    assert "```\n" + example.text() + "```" in document()


def test_ping_packet_by_hand():
    """Unmask and open the example's PING from the text of the protocol, without wire/cell.py."""
    e = dict(example.lines())
    packet = e["PING packet, counter 7"]
    head = sodium.stream_xor(e["relay obfuscation key"], packet[-12:], packet[:24])
    assert head[:8] == example.RELAY_CID
    assert head[8:16] == b"\x07" + bytes(7)
    assert head[16:24] == bytes(8)
    body = sodium.aead_open(e["forward key"], bytes(4) + head[8:16], head[8:16] + b"\0", packet[24:])
    assert body == b"12345678\x08"


def test_pong_packet_by_hand():
    e = dict(example.lines())
    packet = e["PONG packet, origin 5, counter 0"]
    head = sodium.stream_xor(example.REPLY_OBF, packet[-12:], packet[:24])
    assert head[8:16] == bytes(7) + b"\xa0"
    mac_key = bytes([example.LINK_KEY[0] ^ 1]) + example.LINK_KEY[1:]
    assert head[16:24] == sodium.shorthash(mac_key, head[:16])
    body = sodium.aead_open(e["backward key"], bytes(4) + head[8:16], head[8:16] + b"\1", packet[24:])
    assert body == b"12345678\x09"
