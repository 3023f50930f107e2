"""The buyer's client: a multi-hop tunnel paid by the unit. `Tunnel` is its face for programs (aio.py)."""

from .aio import Tunnel, TunnelError
from .settings import SettingsError

__all__ = ["SettingsError", "Tunnel", "TunnelError"]
