"""What handlers take from the application."""

from __future__ import annotations

from fastapi import Request

from bwgateway.gateway import Gateway


def gateway_of(request: Request) -> Gateway:
    """The process's Gateway."""
    gateway: Gateway = request.app.state.gateway
    return gateway
