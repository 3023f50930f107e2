"""The wire protocol (docs/protocol.md): pure functions and state, no input or output."""
