"""Which addresses may be spoken to: the public internet, and nothing of anybody's home."""

# (prefix bytes, bits): RFC 6890 and successors. 198.18.0.0/15 and 2001:2::/48 (benchmarking) are not listed: nobody
# routes them on the internet, and isolated test networks live there.
REFUSED_V4 = (
    (b"\x00\x00\x00\x00", 8),  # this network
    (b"\x0a\x00\x00\x00", 8),  # RFC 1918
    (b"\x64\x40\x00\x00", 10),  # CGNAT, RFC 6598
    (b"\x7f\x00\x00\x00", 8),  # loopback
    (b"\xa9\xfe\x00\x00", 16),  # link-local
    (b"\xac\x10\x00\x00", 12),  # RFC 1918
    (b"\xc0\x00\x00\x00", 24),  # IETF protocol assignments
    (b"\xc0\x58\x63\x00", 24),  # 6to4 relay anycast, retired
    (b"\xc0\xa8\x00\x00", 16),  # RFC 1918
    (b"\xe0\x00\x00\x00", 4),  # multicast
    (b"\xf0\x00\x00\x00", 4),  # reserved and broadcast
)
REFUSED_V6 = (
    (b"\x00" * 16, 96),  # unspecified, loopback, v4-compatible
    (b"\x00" * 10 + b"\xff\xff" + b"\x00" * 4, 96),  # v4-mapped
    (b"\x00\x64\xff\x9b" + b"\x00" * 12, 32),  # NAT64 prefixes: would reach v4 behind the rules
    (b"\x01\x00" + b"\x00" * 14, 64),  # discard only
    (b"\x20\x01" + b"\x00" * 14, 32),  # Teredo
    (b"\x20\x02" + b"\x00" * 14, 16),  # 6to4
    (b"\xfc\x00" + b"\x00" * 14, 7),  # ULA
    (b"\xfe\x80" + b"\x00" * 14, 10),  # link-local
    (b"\xfe\xc0" + b"\x00" * 14, 10),  # site-local, retired
    (b"\xff\x00" + b"\x00" * 14, 8),  # multicast
)


def within(address, prefix, bits):
    """Whether raw `address` lies in raw `prefix`/`bits`; both of 4 or both of 16 bytes."""
    if len(address) != len(prefix):
        return False
    whole = bits >> 3
    if address[:whole] != prefix[:whole]:
        return False
    rest = bits & 7
    return not rest or (address[whole] ^ prefix[whole]) >> (8 - rest) == 0


def refused(address, own=()):
    """Whether raw `address` (4 or 16 bytes) must not be spoken to. `own`: more (prefix, bits) of this router's."""
    for prefix, bits in REFUSED_V4 if len(address) == 4 else REFUSED_V6:
        if within(address, prefix, bits):
            return True
    for prefix, bits in own:
        if within(address, prefix, bits):
            return True
    return False
