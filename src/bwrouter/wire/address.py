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
    # All but 2000::/3, the one block of global unicast (RFC 4291): unspecified, loopback, v4-compatible, v4-mapped and
    # NAT64 prefixes, which would reach v4 behind its rules, discard, ULA, link-local, site-local, multicast, reserved.
    (b"\x00" * 16, 3),
    (b"\x40" + b"\x00" * 15, 2),
    (b"\x80" + b"\x00" * 15, 1),
    (b"\x20\x01" + b"\x00" * 14, 32),  # Teredo
    (b"\x20\x02" + b"\x00" * 14, 16),  # 6to4
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
