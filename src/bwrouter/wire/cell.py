"""Cells on addresses (protocol sections 1 and 4): the data path's primitives, free of allocation.

A packet lies at address `a`, `n` bytes long; `d` is its header as 6 little-endian 32-bit words: 0-1 circuit id,
2-3 counter, 4-5 link MAC; `h` is the same as 12 16-bit words, for fields that could exceed 2^30. While a layer is
opened or sealed the header doubles as nonce and associated data, so that nothing is copied:

    a+4  .. a+16  nonce: word 1 zeroed, then the counter
    a+8  .. a+17  associated data: the counter, then the direction in the MAC's first byte
"""

from ..platform.sodium import DECRYPT, ENCRYPT, SHORTHASH, STREAM_XOR

FORWARD = 0
BACKWARD = 1


def mask(a, n, obf):
    """XOR the header of the packet at `a` with the keystream that its last 12 bytes name. Its own inverse."""
    STREAM_XOR(a, a, 24, a + n - 12, obf)


def open_layer(a, n, d, key, direction):
    """Open one layer in place; the packet then has n - 16 bytes, the command last. True when the tag held."""
    d[1] = 0
    d[4] = direction
    return DECRYPT(a + 24, 0, 0, a + 24, n - 24, a + 8, 9, a + 4, key) == 0


def seal_layer(a, n, d, key, direction):
    """Seal the n - 24 bytes after the header in place; the packet then has n + 16 bytes."""
    d[1] = 0
    d[4] = direction
    ENCRYPT(a + 24, 0, a + 24, n - 24, a + 8, 9, 0, a + 4, key)


def dress_forward(a, n, d, c0, c1, obf):
    """Give a forward packet its circuit id, no link MAC, and mask the header: ready to send."""
    d[0] = c0
    d[1] = c1
    d[4] = 0
    d[5] = 0
    STREAM_XOR(a, a, 24, a + n - 12, obf)


def dress_backward(a, n, d, c0, c1, mac_key, obf):
    """Give a backward packet its circuit id and link MAC and mask the header: ready to send."""
    d[0] = c0
    d[1] = c1
    SHORTHASH(a + 16, a, 16, mac_key)
    STREAM_XOR(a, a, 24, a + n - 12, obf)


def set_counter(d, h, count, origin):
    """Write counter `count` (below 2^30) of `origin` (0..7) into a header."""
    d[2] = count
    h[6] = 0
    h[7] = origin << 13


def cid_words(cid):
    """Two little-endian words of an 8-byte circuit id."""
    return (
        cid[0] | cid[1] << 8 | cid[2] << 16 | cid[3] << 24,
        cid[4] | cid[5] << 8 | cid[6] << 16 | cid[7] << 24,
    )


def make_cid(random):
    """A circuit id of 8 random bytes: bits 30 and 31 of each half are zero, so that 31-bit small ints hold it."""
    return random[:3] + bytes([random[3] & 0x3F]) + random[4:7] + bytes([random[7] & 0x3F])
