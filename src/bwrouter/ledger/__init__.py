"""What a router must know of an EVM chain: hashes, signatures, typed data, proofs. Pure: no I/O, no clock, no randomness."""
