"""What a router needs of an EVM chain: hashes, signatures, typed data, proofs. Pure: no I/O, clock or randomness."""
