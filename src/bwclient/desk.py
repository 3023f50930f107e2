"""The gateway as the wallet asks it: one answer or one error for each question."""

from __future__ import annotations

import time
from typing import Any

import requests

from .reach import OWN


class WalletError(Exception):
    """The wallet can't do what was asked; the message says why and what would help."""


class Refused(WalletError):
    """The gateway's answer was a problem document; `code` is its code."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"gateway refuses ({status} {code}): {detail}")
        self.status = status
        self.code = code


class Desk:
    """One gateway."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = OWN.session()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of an answer. Raises Refused, WalletError."""
        response = self._send(method, path, body)
        try:
            document = response.json()
        except ValueError as e:
            raise WalletError(f"gateway answers {response.status_code} without JSON") from e
        if response.status_code != 200:
            raise Refused(response.status_code, document.get("code", ""), document.get("detail", ""))
        return document

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        """One request, said again when its connection breaks: a path may have changed under it, and every POST has the
        same effect however often it is said."""
        for left in (2, 1, 0):
            try:
                return self._session.request(method, self._url + path, json=body, timeout=60 if body else 30)
            except requests.ConnectionError as e:
                if not left:
                    raise WalletError(f"gateway {self._url}{path}: {e}") from e
                time.sleep(0.2)
            except requests.RequestException as e:
                raise WalletError(f"gateway {self._url}{path}: {e}") from e
        raise AssertionError("the last try returns or raises")
