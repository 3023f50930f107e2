"""The buyer's client: a multi-hop tunnel paid by the unit."""
