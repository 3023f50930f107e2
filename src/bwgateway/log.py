"""structlog to standard error; values whose name says that they are secret are never written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET = ("key_hex", "private", "secret", "seed", "password", "preimage", "voucher", "authorization")


_URL = re.compile(r"\b([a-z+]{2,30}://)(?:[^\s/@'\"]*@)?([^\s/?'\"]+)[^\s'\"),]*")
"""Users, passwords, paths and queries of URLs hold keys: of one only scheme and host are written."""


def _censor(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if any(word in name.lower() for word in _SECRET):
            event[name] = "(withheld)"
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL.sub(r"\1\2", value)
    return event


def configure(level: str, as_json: bool) -> None:
    """One line an event: JSON, or for people."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _censor,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
