"""Keccak-256 as Ethereum uses it: the sponge of FIPS 202 at rate 136, but padded with 0x01 where SHA-3 has 0x06.

A lane of 64 bits is two words of 32, so that on a 64-bit MicroPython every value is a small integer and nothing is
allocated inside a round. On a 32-bit one words above 2^30 are boxed: right, only slower.
"""

import struct

RATE = 136  # bytes absorbed at a time: 200 - 2 * 32

_ROUND = (  # iota's constants: low and high word
    (0x1, 0x0), (0x8082, 0x0), (0x808A, 0x80000000), (0x80008000, 0x80000000),
    (0x808B, 0x0), (0x80000001, 0x0), (0x80008081, 0x80000000), (0x8009, 0x80000000),
    (0x8A, 0x0), (0x88, 0x0), (0x80008009, 0x0), (0x8000000A, 0x0),
    (0x8000808B, 0x0), (0x8B, 0x80000000), (0x8089, 0x80000000), (0x8003, 0x80000000),
    (0x8002, 0x80000000), (0x80, 0x80000000), (0x800A, 0x0), (0x8000000A, 0x80000000),
    (0x80008081, 0x80000000), (0x8080, 0x80000000), (0x80000001, 0x0), (0x80008008, 0x80000000),
)


def _permute(state):
    """One Keccak-f[1600] of the 50 words of `state`; returns the new list. Unrolled: 6 times as fast as loops there."""
    (
        l0, h0, l1, h1, l2, h2, l3, h3, l4, h4,
        l5, h5, l6, h6, l7, h7, l8, h8, l9, h9,
        l10, h10, l11, h11, l12, h12, l13, h13, l14, h14,
        l15, h15, l16, h16, l17, h17, l18, h18, l19, h19,
        l20, h20, l21, h21, l22, h22, l23, h23, l24, h24,
    ) = state
    for low, high in _ROUND:
        # theta
        c0 = l0 ^ l5 ^ l10 ^ l15 ^ l20
        e0 = h0 ^ h5 ^ h10 ^ h15 ^ h20
        c1 = l1 ^ l6 ^ l11 ^ l16 ^ l21
        e1 = h1 ^ h6 ^ h11 ^ h16 ^ h21
        c2 = l2 ^ l7 ^ l12 ^ l17 ^ l22
        e2 = h2 ^ h7 ^ h12 ^ h17 ^ h22
        c3 = l3 ^ l8 ^ l13 ^ l18 ^ l23
        e3 = h3 ^ h8 ^ h13 ^ h18 ^ h23
        c4 = l4 ^ l9 ^ l14 ^ l19 ^ l24
        e4 = h4 ^ h9 ^ h14 ^ h19 ^ h24
        d0 = c4 ^ ((c1 & 0x7FFFFFFF) << 1 | e1 >> 31)
        f0 = e4 ^ ((e1 & 0x7FFFFFFF) << 1 | c1 >> 31)
        d1 = c0 ^ ((c2 & 0x7FFFFFFF) << 1 | e2 >> 31)
        f1 = e0 ^ ((e2 & 0x7FFFFFFF) << 1 | c2 >> 31)
        d2 = c1 ^ ((c3 & 0x7FFFFFFF) << 1 | e3 >> 31)
        f2 = e1 ^ ((e3 & 0x7FFFFFFF) << 1 | c3 >> 31)
        d3 = c2 ^ ((c4 & 0x7FFFFFFF) << 1 | e4 >> 31)
        f3 = e2 ^ ((e4 & 0x7FFFFFFF) << 1 | c4 >> 31)
        d4 = c3 ^ ((c0 & 0x7FFFFFFF) << 1 | e0 >> 31)
        f4 = e3 ^ ((e0 & 0x7FFFFFFF) << 1 | c0 >> 31)
        # rho and pi: lane i turns left by its offset and becomes p (low) and q (high) of its new place
        p0 = l0 ^ d0
        q0 = h0 ^ f0
        t = l1 ^ d1
        u = h1 ^ f1
        p10 = (t & 0x7FFFFFFF) << 1 | u >> 31
        q10 = (u & 0x7FFFFFFF) << 1 | t >> 31
        t = l2 ^ d2
        u = h2 ^ f2
        q20 = (t & 0x3) << 30 | u >> 2
        p20 = (u & 0x3) << 30 | t >> 2
        t = l3 ^ d3
        u = h3 ^ f3
        p5 = (t & 0xF) << 28 | u >> 4
        q5 = (u & 0xF) << 28 | t >> 4
        t = l4 ^ d4
        u = h4 ^ f4
        p15 = (t & 0x1F) << 27 | u >> 5
        q15 = (u & 0x1F) << 27 | t >> 5
        t = l5 ^ d0
        u = h5 ^ f0
        q16 = (t & 0xFFFFFFF) << 4 | u >> 28
        p16 = (u & 0xFFFFFFF) << 4 | t >> 28
        t = l6 ^ d1
        u = h6 ^ f1
        q1 = (t & 0xFFFFF) << 12 | u >> 20
        p1 = (u & 0xFFFFF) << 12 | t >> 20
        t = l7 ^ d2
        u = h7 ^ f2
        p11 = (t & 0x3FFFFFF) << 6 | u >> 26
        q11 = (u & 0x3FFFFFF) << 6 | t >> 26
        t = l8 ^ d3
        u = h8 ^ f3
        q21 = (t & 0x1FF) << 23 | u >> 9
        p21 = (u & 0x1FF) << 23 | t >> 9
        t = l9 ^ d4
        u = h9 ^ f4
        p6 = (t & 0xFFF) << 20 | u >> 12
        q6 = (u & 0xFFF) << 20 | t >> 12
        t = l10 ^ d0
        u = h10 ^ f0
        p7 = (t & 0x1FFFFFFF) << 3 | u >> 29
        q7 = (u & 0x1FFFFFFF) << 3 | t >> 29
        t = l11 ^ d1
        u = h11 ^ f1
        p17 = (t & 0x3FFFFF) << 10 | u >> 22
        q17 = (u & 0x3FFFFF) << 10 | t >> 22
        t = l12 ^ d2
        u = h12 ^ f2
        q2 = (t & 0x1FFFFF) << 11 | u >> 21
        p2 = (u & 0x1FFFFF) << 11 | t >> 21
        t = l13 ^ d3
        u = h13 ^ f3
        p12 = (t & 0x7F) << 25 | u >> 7
        q12 = (u & 0x7F) << 25 | t >> 7
        t = l14 ^ d4
        u = h14 ^ f4
        q22 = (t & 0x1FFFFFF) << 7 | u >> 25
        p22 = (u & 0x1FFFFFF) << 7 | t >> 25
        t = l15 ^ d0
        u = h15 ^ f0
        q23 = (t & 0x7FFFFF) << 9 | u >> 23
        p23 = (u & 0x7FFFFF) << 9 | t >> 23
        t = l16 ^ d1
        u = h16 ^ f1
        q8 = (t & 0x7FFFF) << 13 | u >> 19
        p8 = (u & 0x7FFFF) << 13 | t >> 19
        t = l17 ^ d2
        u = h17 ^ f2
        p18 = (t & 0x1FFFF) << 15 | u >> 17
        q18 = (u & 0x1FFFF) << 15 | t >> 17
        t = l18 ^ d3
        u = h18 ^ f3
        p3 = (t & 0x7FF) << 21 | u >> 11
        q3 = (u & 0x7FF) << 21 | t >> 11
        t = l19 ^ d4
        u = h19 ^ f4
        p13 = (t & 0xFFFFFF) << 8 | u >> 24
        q13 = (u & 0xFFFFFF) << 8 | t >> 24
        t = l20 ^ d0
        u = h20 ^ f0
        p14 = (t & 0x3FFF) << 18 | u >> 14
        q14 = (u & 0x3FFF) << 18 | t >> 14
        t = l21 ^ d1
        u = h21 ^ f1
        p24 = (t & 0x3FFFFFFF) << 2 | u >> 30
        q24 = (u & 0x3FFFFFFF) << 2 | t >> 30
        t = l22 ^ d2
        u = h22 ^ f2
        q9 = (t & 0x7) << 29 | u >> 3
        p9 = (u & 0x7) << 29 | t >> 3
        t = l23 ^ d3
        u = h23 ^ f3
        q19 = (t & 0xFF) << 24 | u >> 8
        p19 = (u & 0xFF) << 24 | t >> 8
        t = l24 ^ d4
        u = h24 ^ f4
        p4 = (t & 0x3FFFF) << 14 | u >> 18
        q4 = (u & 0x3FFFF) << 14 | t >> 18
        # chi, iota
        l0 = p0 ^ (~p1 & p2) ^ low
        h0 = q0 ^ (~q1 & q2) ^ high
        l1 = p1 ^ (~p2 & p3)
        h1 = q1 ^ (~q2 & q3)
        l2 = p2 ^ (~p3 & p4)
        h2 = q2 ^ (~q3 & q4)
        l3 = p3 ^ (~p4 & p0)
        h3 = q3 ^ (~q4 & q0)
        l4 = p4 ^ (~p0 & p1)
        h4 = q4 ^ (~q0 & q1)
        l5 = p5 ^ (~p6 & p7)
        h5 = q5 ^ (~q6 & q7)
        l6 = p6 ^ (~p7 & p8)
        h6 = q6 ^ (~q7 & q8)
        l7 = p7 ^ (~p8 & p9)
        h7 = q7 ^ (~q8 & q9)
        l8 = p8 ^ (~p9 & p5)
        h8 = q8 ^ (~q9 & q5)
        l9 = p9 ^ (~p5 & p6)
        h9 = q9 ^ (~q5 & q6)
        l10 = p10 ^ (~p11 & p12)
        h10 = q10 ^ (~q11 & q12)
        l11 = p11 ^ (~p12 & p13)
        h11 = q11 ^ (~q12 & q13)
        l12 = p12 ^ (~p13 & p14)
        h12 = q12 ^ (~q13 & q14)
        l13 = p13 ^ (~p14 & p10)
        h13 = q13 ^ (~q14 & q10)
        l14 = p14 ^ (~p10 & p11)
        h14 = q14 ^ (~q10 & q11)
        l15 = p15 ^ (~p16 & p17)
        h15 = q15 ^ (~q16 & q17)
        l16 = p16 ^ (~p17 & p18)
        h16 = q16 ^ (~q17 & q18)
        l17 = p17 ^ (~p18 & p19)
        h17 = q17 ^ (~q18 & q19)
        l18 = p18 ^ (~p19 & p15)
        h18 = q18 ^ (~q19 & q15)
        l19 = p19 ^ (~p15 & p16)
        h19 = q19 ^ (~q15 & q16)
        l20 = p20 ^ (~p21 & p22)
        h20 = q20 ^ (~q21 & q22)
        l21 = p21 ^ (~p22 & p23)
        h21 = q21 ^ (~q22 & q23)
        l22 = p22 ^ (~p23 & p24)
        h22 = q22 ^ (~q23 & q24)
        l23 = p23 ^ (~p24 & p20)
        h23 = q23 ^ (~q24 & q20)
        l24 = p24 ^ (~p20 & p21)
        h24 = q24 ^ (~q20 & q21)
    return [
        l0, h0, l1, h1, l2, h2, l3, h3, l4, h4,
        l5, h5, l6, h6, l7, h7, l8, h8, l9, h9,
        l10, h10, l11, h11, l12, h12, l13, h13, l14, h14,
        l15, h15, l16, h16, l17, h17, l18, h18, l19, h19,
        l20, h20, l21, h21, l22, h22, l23, h23, l24, h24,
    ]


def keccak256(message):
    """The 32-byte Keccak-256 of `message` (bytes-like)."""
    state = [0] * 50
    size = len(message)
    view = memoryview(message)
    start = 0
    while size - start >= RATE:
        state = _absorb(state, view[start : start + RATE])
        start += RATE
    last = bytearray(RATE)
    last[: size - start] = view[start:]
    last[size - start] ^= 0x01
    last[RATE - 1] ^= 0x80
    return struct.pack("<8I", *_absorb(state, last)[:8])


def _absorb(state, block):
    words = struct.unpack("<34I", block)
    for i in range(34):
        state[i] ^= words[i]
    return _permute(state)
