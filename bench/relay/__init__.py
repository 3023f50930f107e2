"""CPU time of one hop: this relay beside bare AEAD, a C loop, Tor, wireguard-go and OpenVPN. See docs/benchmarks.md."""
