"""Ethereum's light-client sync protocol, Altair to Electra (consensus-specs, specs/*/light-client/sync-protocol.md)."""
