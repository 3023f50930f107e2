"""bwverifier: measures relays from outside, over circuits like any buyer's (docs/protocol.md section 12)."""
