"""Benchmarks of the buyer's client."""
