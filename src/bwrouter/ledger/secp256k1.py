"""ECDSA over secp256k1 (SEC 2, 2.4.1) as Ethereum uses it: RFC 6979 nonces, low s, recovery id.

Multiplication of the base point is a signed comb of five teeth, 64 apart, over a scalar of 320 bits: a secret scalar k
becomes k + r*n for a random r of 64 bits, chosen so that the sum is odd, and then every digit of the comb is odd too:
each of the 64 steps is one doubling and one addition whatever the key, in coordinates scaled by a random factor.
Python's integers are not constant-time; blinding is what keeps the key from the timings.
"""


from bwrouter.ledger.hmac256 import hmac_sha256
from bwrouter.ledger.keccak import keccak256

P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8

TEETH = 5
SPACING = 64
BITS = TEETH * SPACING

_comb = []  # affine points (x, y) for the digits 1 +- 2^64 +- 2^128 ..., made once at the first multiplication


def public_key(secret, blind=b""):
    """The 64-byte public key x || y of a 32-byte private key. `blind`: 40 random bytes. Raises ValueError."""
    x, y = _base_multiple(_scalar(secret), blind)
    return x.to_bytes(32, "big") + y.to_bytes(32, "big")


def address(public):
    """The 20-byte Ethereum address of a 64-byte public key."""
    if len(public) != 64:
        raise ValueError("public key: 64 bytes wanted, got %d" % len(public))
    return keccak256(public)[12:]


def sign(digest, secret, blind=b""):
    """Sign a 32-byte digest: (r, s, v), r and s as integers, s <= N/2, v the recovery id 0..3.

    `blind` is 40 random bytes (none: the arithmetic is not blinded, the signature is the same). Raises ValueError.
    """
    if len(digest) != 32:
        raise ValueError("digest: 32 bytes wanted, got %d" % len(digest))
    key = _scalar(secret)
    z = int.from_bytes(digest, "big") % N
    for k in _nonces(z.to_bytes(32, "big"), secret):
        x, y = _base_multiple(k, blind)
        r = x % N
        mask = int.from_bytes(blind[8:40], "big") % N or 1
        s = inverse(k * mask % N, N) * (z * mask + r * (key * mask % N)) % N
        if r == 0 or s == 0:
            continue
        v = (y & 1) | (2 if x >= N else 0)
        if s > N // 2:
            return r, N - s, v ^ 1
        return r, s, v


def signature(digest, secret, blind=b""):
    """The 65-byte form r || s || 27 + v that Solidity's `ecrecover` takes."""
    r, s, v = sign(digest, secret, blind)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + v])


def recover(digest, signature):
    """The 64-byte public key that made a 65-byte signature r || s || 27 + v of a 32-byte digest (SEC 1, 4.1.6).

    Takes what OpenZeppelin's ECDSA takes: v 27 or 28, s in the lower half. All of it is public, so nothing is blinded.
    Raises ValueError.
    """
    if len(digest) != 32 or len(signature) != 65 or signature[64] not in (27, 28):
        raise ValueError("signature: 65 bytes r, s, v wanted, v 27 or 28, over 32 bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < N or not 0 < s <= N // 2:
        raise ValueError("signature: r or s is outside its range")
    square = (r * r * r + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        raise ValueError("signature: r is the abscissa of no point")
    if y & 1 != signature[64] - 27:
        y = P - y
    i = inverse(r, N)
    point = _two_multiples(-int.from_bytes(digest, "big") * i % N, s * i % N, r, y)
    if point[2] == 0:
        raise ValueError("signature: it fits no key")
    x, y = _affine(*point)
    return x.to_bytes(32, "big") + y.to_bytes(32, "big")


def inverse(value, modulus):
    """1 / value modulo a prime (extended Euclid; its time depends on the value). Raises ValueError for 0."""
    low, high = value % modulus, modulus
    a, b = 1, 0
    if low == 0:
        raise ValueError("zero has no inverse")
    while low > 1:
        q = high // low
        low, high = high - q * low, low
        a, b = b - q * a, a
    return a % modulus


def _scalar(secret):
    if len(secret) != 32:
        raise ValueError("private key: 32 bytes wanted, got %d" % len(secret))
    key = int.from_bytes(secret, "big")
    if not 0 < key < N:
        raise ValueError("private key: outside 1..N-1")
    return key


def _nonces(digest, secret):
    """RFC 6979, 3.2: the candidates for k, for HMAC-SHA256; `digest` is already reduced modulo N."""
    k, v = bytes(32), b"\x01" * 32
    k = hmac_sha256(k, v, b"\x00", secret, digest)
    v = hmac_sha256(k, v)
    k = hmac_sha256(k, v, b"\x01", secret, digest)
    v = hmac_sha256(k, v)
    while True:
        v = hmac_sha256(k, v)
        candidate = int.from_bytes(v, "big")
        if 0 < candidate < N:
            yield candidate
        k = hmac_sha256(k, v, b"\x00")
        v = hmac_sha256(k, v)


# Points are (X, Y, Z), meaning (X / Z^2, Y / Z^3); Z = 0 is the point at infinity.


def _double(x, y, z):
    yy = y * y % P
    s = x * yy * 4 % P
    m = x * x * 3 % P
    x3 = (m * m - s - s) % P
    return x3, (m * (s - x3) - yy * yy * 8) % P, y * z * 2 % P


def _add_affine(x1, y1, z1, x2, y2):
    if z1 == 0:
        return x2, y2, 1
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    r = (y2 * zz * z1 - y1) % P
    if h == 0:
        return _double(x1, y1, z1) if r == 0 else (1, 1, 0)
    hh = h * h % P
    hhh = h * hh % P
    v = x1 * hh % P
    x3 = (r * r - hhh - v - v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def _two_multiples(a, b, x, y):
    """a*G + b*(x, y), both at once, bit by bit (Shamir's trick); its time depends on the scalars."""
    both = _add_affine(GX, GY, 1, x, y)
    both = _affine(*both) if both[2] else None
    point = (1, 1, 0)
    for bit in range(255, -1, -1):
        if point[2]:
            point = _double(*point)
        first, second = a >> bit & 1, b >> bit & 1
        if first and second:
            if both is not None:
                point = _add_affine(*(point + both))
        elif first:
            point = _add_affine(*(point + (GX, GY)))
        elif second:
            point = _add_affine(*(point + (x, y)))
    return point


def _affine(x, y, z):
    i = inverse(z, P)
    ii = i * i % P
    return x * ii % P, y * ii * i % P


def _make_comb():
    teeth = [(GX, GY)]
    for _ in range(TEETH - 1):
        point = teeth[-1] + (1,)
        for _ in range(SPACING):
            point = _double(*point)
        teeth.append(_affine(*point))
    top = teeth.pop()
    for digit in range(1 << (TEETH - 1)):
        point = top + (1,)
        for t in range(TEETH - 1):
            x, y = teeth[t]
            point = _add_affine(*(point + (x, y if digit >> t & 1 else P - y)))
        _comb.append(_affine(*point))


def _base_multiple(k, blind):
    """The affine point k*G, 0 < k < N. `blind`: at least 40 random bytes, or fewer for none."""
    if not _comb:
        _make_comb()
    noise = int.from_bytes(blind[:8], "big")
    scale = int.from_bytes(blind[8:40], "big") % P or 1
    if (k + noise) & 1 == 0:  # N is odd: the parity of k + noise*N
        noise ^= 1
    # An odd number is the sum of +-2^i over all i < BITS: bit i of `signs` says which.
    signs = (k + noise * N + (1 << BITS) - 1) >> 1
    x = y = z = 0
    for column in range(SPACING - 1, -1, -1):
        digit = 0
        for t in range(TEETH - 1, -1, -1):
            digit = digit << 1 | (signs >> (column + t * SPACING) & 1)
        if z:
            x, y, z = _double(x, y, z)
        half = 1 << (TEETH - 1)
        if digit >= half:
            px, py = _comb[digit - half]
        else:
            px, py = _comb[half - 1 - digit]
            py = P - py
        if z:
            x, y, z = _add_affine(x, y, z, px, py)
        elif column == SPACING - 1:
            square = scale * scale % P
            x, y, z = px * square % P, py * square * scale % P, scale
        else:
            x, y, z = px, py, 1
    return _affine(x, y, z)
