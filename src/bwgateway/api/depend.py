"""What handlers take from the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request

from bwgateway import signed
from bwgateway.gateway import Gateway

By = Callable[[str, dict[str, Any]], signed.Request]
"""`signed.by_relay` or `signed.by_account`."""


def gateway_of(request: Request) -> Gateway:
    """The process's Gateway."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def admitted(gateway: Gateway, request: Request, path: str, by: By) -> signed.Request:
    """Who signed the body, within its rate limit. Raises Problem 401, 429."""
    found = by(path, await request.json())
    gateway.limits.by_identity(found.signer)
    return found


async def once(gateway: Gateway, request: Request, path: str, by: By) -> tuple[signed.Request, signed.Answer | None]:
    """As `admitted`, with the answer that the same request has had before; a new one must be of now (Problem 401)."""
    found = await admitted(gateway, request, path, by)
    answer = await signed.stored(gateway.db, found)
    if answer is None:
        signed.check_time(found)
    return found, answer
