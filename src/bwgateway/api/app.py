"""The FastAPI application: routes, problem documents, request log and metrics."""

from __future__ import annotations

import time
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bwgateway import __version__, metrics
from bwgateway.api import bodies, dashboard, directory, examples, ledger, owner, payment, register, service
from bwgateway.chain.answers import ChainError
from bwgateway.gateway import Gateway
from bwgateway.limits import Limits
from bwgateway.problems import Problem

log = structlog.get_logger()
BODY_MAX = 2 * 1024 * 1024
"""Largest request body, bytes."""
_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": bodies.Problem, "content": {"application/problem+json": {}}, "description": text}
    for code, text in (
        (422, "A field is wrong"),
        (429, "Too many requests by this address or identity"),
        (503, "The chain or the ledger gives no answer"),
    )
}


def create(gateway: Gateway) -> FastAPI:
    """The application of one started gateway."""
    app = FastAPI(
        title="bwrouter gateway",
        version=__version__,
        description="Ticket mint, directory and settlement of a bwrouter pool. Errors are RFC 9457 problem documents.",
        responses=_REFUSALS,
        redoc_url=None,
    )
    app.state.gateway = gateway
    for module in (service, payment, directory, ledger, register, owner, dashboard):
        app.include_router(module.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ChainError, _chain)
    plain = app.openapi

    def with_examples() -> dict[str, Any]:
        return app.openapi_schema or examples.fill(plain())

    app.openapi = with_examples  # type: ignore[method-assign]
    app.add_middleware(Observe, limits=gateway.limits, secure=bool(gateway.settings.tls.certificate))
    return app


def _answer(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.document(), problem.status, problem.headers, media_type="application/problem+json")


async def _problem(_request: Request, e: Exception) -> JSONResponse:
    assert isinstance(e, Problem)
    return _answer(e)


async def _invalid(_request: Request, e: Exception) -> JSONResponse:
    assert isinstance(e, RequestValidationError)
    first = e.errors()[0]
    field = ".".join(str(p) for p in first["loc"] if p not in ("body", "query", "path"))
    return _answer(Problem(422, "invalid", f"{field or 'body'}: {first['msg']}", field))


async def _http(_request: Request, e: Exception) -> JSONResponse:
    assert isinstance(e, HTTPException)
    codes = {404: "not-found", 405: "method"}
    return _answer(Problem(e.status_code, codes.get(e.status_code, "http"), str(e.detail)))


async def _chain(_request: Request, e: Exception) -> JSONResponse:
    metrics.chain_errors.labels("request").inc()
    log.warning("chain.no_answer", error=str(e))
    return _answer(Problem(503, "chain", "the chain gives no answer; try again later"))


def _failed(e: Exception) -> Problem:
    """What a caller is told of an error that nobody foresaw; a database that is away or full comes back."""
    if isinstance(e, OperationalError | InterfaceError):
        return Problem(503, "ledger", "the ledger's database gives no answer; the same request may be sent again")
    return Problem(500, "internal", "the gateway failed; the request had no effect or can be repeated")


class Observe:
    """Outermost layer: bounds rate and body, answers what nobody else did, measures."""

    def __init__(self, app: ASGIApp, limits: Limits, secure: bool) -> None:
        self._app, self._limits, self._secure = app, limits, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._secure:
                    message["headers"] = [*message["headers"], (b"strict-transport-security", b"max-age=31536000")]
            await send(message)

        try:
            if (limited := self._limits.by_address(self._source(scope))) is not None:
                await _answer(limited)(scope, receive, observed)
            elif scope["method"] == "POST" and not 0 <= _length(scope) <= BODY_MAX:
                problem = Problem(413, "size", f"body: its length must be given, at most {BODY_MAX} bytes")
                await _answer(problem)(scope, receive, observed)
            else:
                await self._app(scope, receive, observed)
        except Exception as e:
            log.exception("request.failed", path=scope["path"], error=type(e).__name__)
            if not status:
                await _answer(_failed(e))(scope, receive, observed)
        route, took = getattr(scope.get("route"), "path", "-"), time.perf_counter() - started
        metrics.requests.labels(route, str(status)).observe(took)
        log.debug("request", method=scope["method"], route=route, status=status, ms=round(took * 1e3, 2))

    def _source(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope["client"] else ""
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return self._limits.source(peer, named)


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else -1
    return -1
