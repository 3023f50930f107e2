"""The HTTP API (docs/architecture.md)."""
