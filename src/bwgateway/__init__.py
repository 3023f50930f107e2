"""The gateway: ticket mint, directory and settlement of a bwrouter pool (docs/architecture.md)."""

__version__ = "0.1.0"
