"""Cells on addresses (protocol sections 1 and 4): the data path's primitives, free of allocation.

A packet lies at address `a`, `n` bytes long; `h` is its header as 12 little-endian words: 0-3 circuit id, 4-7 counter,
8-11 link MAC. While a layer is opened or sealed the header doubles as nonce and associated data, so that nothing is
copied:

    a+4  .. a+16  nonce: words 2-3 zeroed, then the counter
    a+8  .. a+17  associated data: the counter, then the direction in the MAC's first byte
"""

from ..platform.sodium import DECRYPT, ENCRYPT, SHORTHASH, STREAM_XOR
from . import sizes as S

FORWARD = 0
BACKWARD = 1


def mask(a, n, obf):
    """XOR the header of the packet at `a` with the keystream that its last 12 bytes name. Its own inverse."""
    STREAM_XOR(a, a, 24, a + n - 12, obf)


def open_layer(a, n, h, key, direction):
    """Open one layer in place; the packet then has n - 16 bytes, the command last. True when the tag held."""
    h[2] = 0
    h[3] = 0
    h[8] = direction
    return DECRYPT(a + 24, 0, 0, a + 24, n - 24, a + 8, 9, a + 4, key) == 0


def seal_layer(a, n, h, key, direction):
    """Seal the n - 24 bytes after the header in place; the packet then has n + 16 bytes."""
    h[2] = 0
    h[3] = 0
    h[8] = direction
    ENCRYPT(a + 24, 0, a + 24, n - 24, a + 8, 9, 0, a + 4, key)


def dress(a, n, h, c0, c1, c2, c3, mac_key, obf):
    """Give the packet its circuit id and link MAC and mask the header: ready to send."""
    h[0] = c0
    h[1] = c1
    h[2] = c2
    h[3] = c3
    SHORTHASH(a + 16, a, 16, mac_key)
    STREAM_XOR(a, a, 24, a + n - 12, obf)


def set_counter(h, count, origin):
    """Write counter `count` (below 2^30) of `origin` (0..7) into a header."""
    h[4] = count & 0xFFFF
    h[5] = count >> 16
    h[6] = 0
    h[7] = origin << 13


def counter(h):
    """The count in a header, or -1 when it is malformed."""
    if h[5] >= 0x4000 or h[6] or h[7] & 0x1FFF:
        return -1
    return h[4] | h[5] << 16


def cid_words(cid):
    """Four little-endian words of an 8-byte circuit id."""
    return cid[0] | cid[1] << 8, cid[2] | cid[3] << 8, cid[4] | cid[5] << 8, cid[6] | cid[7] << 8


# The smallest and largest packet that a hop may see, for the length test of the loop.
PACKET_MIN = S.PACKET_MIN
PACKET_MAX = S.PACKET_MAX
