"""Can a relay tell a covert audit from a buyer? Circuits of both kinds, and a classifier on what the relay sees."""
